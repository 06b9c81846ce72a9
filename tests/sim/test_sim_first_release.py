"""Work folders of the first release: read, and used again."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mindfl.errors import OptionError
from mindfl.sim import FederatedLeNetJob, weight_hash

SETTINGS: dict[str, Any] = {"client_num": 2, "epochs": 1, "seed": 788, "learning_rate": 2e-38, "workers": 1}
#: of the model that both iterations left
TRAINED = "b7ee3168fc5c9d9d5de2a387d3b11b988ea6ef176a8a58cc0b4341dcd04248a9"


@pytest.fixture
def folders(first_release: Callable[[str], Path]) -> Path:
    return first_release("work_folders")


def labels(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("name", ["finished", "shared_model"])
def test_its_models_predict_the_same(folders: Path, name: str, recorder: Any) -> None:
    expected = labels(folders / "finished" / "predictions.csv")
    settings = {**SETTINGS, "per_client_models": name == "finished", "iterations": 2}
    FederatedLeNetJob(work_dir=folders / name, reporter=recorder, **settings).infer()
    assert labels(folders / name / "predictions.csv") == expected
    assert recorder.warnings == []


def test_its_model_is_fetched(folders: Path) -> None:
    job = FederatedLeNetJob(work_dir=folders / "finished", iterations=2, **SETTINGS)
    assert weight_hash(job.get_model()) == TRAINED


@pytest.mark.parametrize("name", ["finished", "interrupted"])
def test_its_run_is_neither_replaced_unasked_nor_gone_on_with(folders: Path, name: str) -> None:
    before = (folders / name / "history.csv").read_bytes()
    with pytest.raises(OptionError, match=rf"{name} holds a run of [12] iterations?$") as caught:
        FederatedLeNetJob(work_dir=folders / name, iterations=2, **SETTINGS).run()
    assert "--overwrite replaces it" in caught.value.hint
    with pytest.raises(OptionError, match=r"holds a run of mindfl 0\.1\.0, which left no state") as caught:
        FederatedLeNetJob(work_dir=folders / name, iterations=2, resume=True, **SETTINGS).run()
    assert "--overwrite replaces it" in caught.value.hint
    assert (folders / name / "history.csv").read_bytes() == before


def test_its_run_is_replaced_when_asked(folders: Path, converter_library: Path, recorder: Any) -> None:
    settings = {**SETTINGS, "iterations": 2, "overwrite": True, "reporter": recorder}
    assert FederatedLeNetJob(work_dir=folders / "interrupted", **settings).run().hash == TRAINED
    assert recorder.warnings == []


def test_a_model_of_the_users_own_is_where_the_next_run_starts(folders: Path) -> None:
    own = folders / "own_models"
    before = (own / "models" / "lenet_train.ms").read_bytes()
    settings = {**SETTINGS, "train_model_path": own / "models", "infer_ms_name": "lenet_infer", "data_format": "bin"}
    result = FederatedLeNetJob(work_dir=own / "next run", iterations=2, overwrite=True, **settings).run()
    assert result.hash == TRAINED
    assert (own / "models" / "lenet_train.ms").read_bytes() == before
    assert json.loads((own / "models" / "lenet_train_trained.json").read_text())["weights_sha256"] == TRAINED
