"""Jobs and devices whose model script is AlbertClient read texts, with the vocabulary files of their options."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mindfl.data import Dataset
from mindfl.data.tokenizer import read_vocabulary
from mindfl.errors import DataError, MindflWarning, OptionError
from mindfl.options.job_options import ALBERT_CLIENT, LENET_CLIENT, reads_texts
from mindfl.sim import FederatedJob, JobConfig
from mindfl.sim.device_job import DeviceJob, DeviceSettings, open_user
from mindfl.sim.job_data import data_sizes, open_data
from mindfl.sim.option_warnings import unused_settings

PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "so", "glad", "sad", "!"]
NUMBERS = [0, 100, 101, 102, 7, 8, 9, 5]


def write(path: Path, lines: list[str]) -> Path:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


@pytest.fixture
def texts(tmp_path: Path) -> dict[str, Any]:
    """The demo's files, as the settings that name them."""
    folder = tmp_path / "client"
    folder.mkdir()
    for user in range(2):
        write(folder / f"{user}.txt", ["<<<good>>>so glad!", "<<<xin>>>sad", "<<<good>>>glad", "<<<xin>>>so sad"])
    return {
        "train_dataset": folder,
        "vocal_file": str(write(tmp_path / "vocab.txt", PIECES)),
        "ids_file": str(write(tmp_path / "ids.txt", list(map(str, NUMBERS)))),
        "fl_name": ALBERT_CLIENT,
        "work_dir": tmp_path / "work",
    }


def opened(settings: dict[str, Any], **more: Any) -> Dataset:
    return open_data(JobConfig(**{**settings, **more}), lambda text: None)


def test_a_job_reads_texts_with_its_vocabulary(texts: dict[str, Any]) -> None:
    data = opened(texts)
    assert data.users == ("0", "1") and data.class_names == ("good", "xin") and data.form.vocabulary == 103
    user = data.user("0")
    assert (user.train.size, user.test.size) == (3, 1)
    rows = np.concatenate([user.train.images(), user.test.images()])[:, 0].tolist()
    assert sorted(rows)[-1] == [101, 9, 102, 0, 0, 0, 0, 0] and [101, 7, 8, 5, 102, 0, 0, 0] in rows
    sizes = data_sizes(data)
    assert (sizes.num_class, sizes.length, sizes.vocabulary) == (2, 8, 103)
    assert JobConfig(**texts).network.model == "albert" and JobConfig(**texts, model="lenet").network.model == "lenet"
    assert not [line for line in unused_settings(JobConfig(**texts)) if "texts" in line]
    assert len(unused_settings(JobConfig(**{**texts, "fl_name": LENET_CLIENT}))) == 2


def test_albert_learns_the_labels_of_texts(
    texts: dict[str, Any], shipped: Callable[[str], Path], tmp_path: Path
) -> None:
    """The words before and behind one another decide: no single word tells a label."""
    lines = ["<<<good>>>so glad", "<<<leimu>>>glad sad", "<<<xiaoku>>>so sad", "<<<xin>>>sad glad"]
    for user in range(2):
        write(texts["train_dataset"] / f"{user}.txt", 10 * lines)
    write(Path(texts["ids_file"]), list(map(str, range(len(PIECES)))))
    model = shipped("albert:hidden=32,layers=2,embedding=16")
    plan = {"client_num": 2, "iterations": 2, "epochs": 3, "learning_rate": 0.003, "workers": 1}

    result = FederatedJob(**texts, **plan, origin_train_model_path=model).run()

    assert result.history[-1].loss < 0.1 < result.history[0].loss
    assert result.history[-1].avg == 1.0


def test_the_data_set_is_made_once_for_the_same_texts(texts: dict[str, Any]) -> None:
    opened(texts)
    (made,) = (texts["work_dir"] / "data").iterdir()
    before = (made / "arrays.json").stat().st_mtime_ns
    opened(texts)
    assert [*made.parent.iterdir()] == [made] and (made / "arrays.json").stat().st_mtime_ns == before
    write(texts["train_dataset"] / "0.txt", ["<<<good>>>glad glad"])
    assert opened(texts).user("0").train.size == 1
    opened(texts, seed=5)
    write(Path(texts["ids_file"]), list(map(str, range(8))))
    assert opened(texts).form.vocabulary == 8
    assert len([*made.parent.iterdir()]) == 4


def test_every_client_is_tested_on_the_test_file(texts: dict[str, Any], tmp_path: Path) -> None:
    tests = write(tmp_path / "eval.txt", ["<<<xin>>>so sad so sad so sad so sad", "<<<other>>>glad", "<<<good>>>glad"])
    with pytest.warns(MindflWarning, match=r"eval\.txt, line 2: unknown label 'other'"):
        data = opened(texts, test_dataset=tests)
    for user in data:
        assert user.train.size == 3 and user.test.labels.tolist() == [1, 0]
        assert user.test.images()[0, 0].tolist() == [101, 7, 9, 7, 9, 7, 9, 102]
    write(tests, ["<<<other>>>glad"])
    with pytest.warns(MindflWarning), pytest.raises(DataError, match=r"eval\.txt has no usable lines"):
        opened(texts, test_dataset=tests)


def test_what_is_no_text_is_opened_as_ever(texts: dict[str, Any], tmp_path: Path) -> None:
    ids = np.zeros((10, 3, 8), np.int32)
    data = Dataset.from_arrays({"ann": (ids, np.arange(10) % 4)})
    data.save(tmp_path / "made")  # type: ignore[attr-defined]
    assert opened(texts, train_dataset=tmp_path / "made").users == ("ann",)
    assert opened(texts, train_dataset=data) is data
    with pytest.raises(DataError, match="holds texts, but arrays has no vocabulary"):
        opened(texts, train_dataset=data, test_dataset=texts["train_dataset"])
    with pytest.raises(DataError, match="no data set in"):
        opened(texts, fl_name=LENET_CLIENT)
    with pytest.raises(OptionError, match="AlbertClient trains on texts"):
        opened(texts, train_dataset=None)


def test_only_the_script_of_the_demo_reads_texts() -> None:
    assert reads_texts(ALBERT_CLIENT) and reads_texts("AlbertClient")
    assert not any(map(reads_texts, (LENET_CLIENT, "", "albert", "com.AlbertClient.Other")))


def test_a_device_reads_its_file_of_texts(texts: dict[str, Any]) -> None:
    vocabulary = read_vocabulary(Path(texts["vocal_file"]), Path(texts["ids_file"]))
    file = str(texts["train_dataset"] / "1.txt")
    user = open_user(file, file, ",", None, vocabulary)
    assert user.name == "1" and user.train.labels.tolist() == [0, 3, 0, 3] == user.test.labels.tolist()
    assert user.train.images()[0, 0].tolist() == [101, 7, 8, 5, 102, 0, 0, 0]
    with pytest.raises(DataError, match="neither a folder nor two files"):
        open_user(file, None, ",", None)


@pytest.mark.parametrize("fl_name", [ALBERT_CLIENT, LENET_CLIENT])
def test_a_device_has_the_vocabulary_of_its_options(texts: dict[str, Any], fl_name: str) -> None:
    settings = DeviceSettings(
        train_model_path=Path("a.ms"),
        vocab_path=Path(texts["vocal_file"]),
        ids_path=Path(texts["ids_file"]),
        fl_name=fl_name,
    )
    expected = dict(zip(PIECES, NUMBERS, strict=True)) if fl_name == ALBERT_CLIENT else None
    assert DeviceJob(settings)._vocabulary() == expected
