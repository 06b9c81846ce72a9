"""Which model files a job uses: its own while their settings hold, the user's as they are, and never a stale one."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mindfl.data import Dataset
from mindfl.errors import OptionError
from mindfl.lite import LiteModel
from mindfl.models import MODELS
from mindfl.sim import FederatedLeNetJob, weight_hash
from mindfl.sim.artefacts import Artefacts
from mindfl.sim.config import JobConfig

OTHER_SETTINGS: list[dict[str, Any]] = [
    {"init": "he"},
    {"batch_size": 16},
    {"optimizer": "sgd"},
    {"learning_rate": 0.5},
]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, converter_library: Path) -> Path:
    """A folder of models that mindfl made with its defaults; not to be changed."""
    folder = tmp_path_factory.mktemp("made")
    FederatedLeNetJob(work_dir=folder / "work", train_model_path=folder / "ms").convert()
    return folder / "ms"


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "ms"))


class Told:
    """Keeps what the user is told."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.said: list[str] = []
        self.warned: list[str] = []
        config = JobConfig(work_dir=folder / "work", train_model_path=folder, **settings)
        self.artefacts = Artefacts(config, self.said.append, self.warned.append)


def other_model(path: Path) -> bytes:
    """Return a model file like ``path`` with other weights."""
    return LiteModel.load(path).patched({"fc3.bias": np.ones(62, np.float32)})


class TestOwnFiles:
    def test_an_own_model_in_the_place_of_a_made_one(self, folder: Path) -> None:
        own = other_model(folder / "lenet_train.ms")
        (folder / "lenet_train.ms").write_bytes(own)
        told = Told(folder)
        assert told.artefacts.starting_model().content == own
        assert (folder / "lenet_train.ms").read_bytes() == own
        assert told.warned == [
            f"{folder / 'lenet_train.ms'} is not the file that mindfl made there: it is used as it is"
        ]

    def test_an_own_graph_in_the_place_of_a_made_one(self, folder: Path, exported: Callable[..., Path]) -> None:
        own = exported("sgd").read_bytes()
        (folder / "lenet_train.mindir").write_bytes(own)
        told = Told(folder)
        made = told.artefacts.starting_model()
        assert {node.op for node in made.optimizer_nodes} == {"SGD"}, "made of the user's graph"
        assert (folder / "lenet_train.mindir").read_bytes() == own
        assert any("lenet_train.mindir is not the file that mindfl made" in text for text in told.warned)

    def test_both_of_ones_own(
        self, folder: Path, exported: Callable[..., Path], converted: Callable[..., Path]
    ) -> None:
        (folder / "lenet_train.mindir").write_bytes(exported("sgd").read_bytes())
        (folder / "lenet_train.ms").write_bytes(converted("sgd").read_bytes())
        content = Told(folder).artefacts.starting_model().content
        assert content == converted("sgd").read_bytes() == (folder / "lenet_train.ms").read_bytes()

    def test_a_graph_without_a_note(self, tmp_path: Path, exported: Callable[..., Path]) -> None:
        (tmp_path / "lenet_train.mindir").write_bytes(exported("sgd").read_bytes())
        told = Told(tmp_path)
        told.artefacts.convert()
        assert (tmp_path / "lenet_train.mindir").read_bytes() == exported("sgd").read_bytes()
        assert told.said == [f"using your own {tmp_path / 'lenet_train.mindir'}"] and not told.warned

    def test_what_a_training_left_is_no_start(self, make_job: Any, models: Path) -> None:
        make_job().run()
        (models / "lenet_train.ms").unlink()
        with pytest.raises(OptionError, match=r"lenet_train\.ms is missing, and .*lenet_train0\.ms is what a training"):
            make_job().run()


class TestMadeAnew:
    def test_nothing_is_made_twice(self, folder: Path) -> None:
        before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
        told = Told(folder)
        told.artefacts.convert()
        assert {path: path.stat().st_mtime_ns for path in folder.iterdir() if path.is_file()} == before
        assert not told.said and not told.warned

    @pytest.mark.parametrize(
        "settings",
        [{"seed": 5}, *(pytest.param(other, marks=pytest.mark.slow) for other in OTHER_SETTINGS)],
        ids=str,
    )
    def test_other_settings(self, folder: Path, settings: dict[str, Any]) -> None:
        before = (folder / "lenet_train.ms").read_bytes()
        told = Told(folder, **settings)
        told.artefacts.convert()
        assert (folder / "lenet_train.ms").read_bytes() != before
        assert not told.warned, "these were mindfl's own files"

    def test_data_of_other_classes(self, folder: Path) -> None:
        data = Dataset.from_arrays({"ann": (np.zeros((10, 32, 32, 3), np.uint8), np.arange(10))})
        model = Told(folder, train_dataset=data).artefacts.starting_model()
        assert model.weights["fc3.bias"].size == 10

    def test_a_network_of_the_same_name_in_another_file(
        self, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def build(*arguments: Any, **options: Any) -> Any:
            from mindfl.models import LeNet5

            return LeNet5(*arguments, **options)

        monkeypatch.setitem(MODELS, "lenet", replace(MODELS["lenet"], build=build))
        note = json.loads((folder / "lenet_train.mindir.json").read_text())
        Told(folder).artefacts.export()
        assert json.loads((folder / "lenet_train.mindir.json").read_text())["settings"] != note["settings"]

    def test_another_version_of_mindspore(self, folder: Path) -> None:
        note = json.loads((folder / "lenet_train.mindir.json").read_text())
        note["settings"]["mindspore"] = "2.0"
        (folder / "lenet_train.mindir.json").write_text(json.dumps(note))
        Told(folder).artefacts.export()
        assert json.loads((folder / "lenet_train.mindir.json").read_text())["settings"]["mindspore"] != "2.0"

    @pytest.mark.parametrize("name", ["lenet_train.ms", "lenet_train.mindir"])
    def test_a_damaged_file_is_kept_beside(self, folder: Path, name: str) -> None:
        good = (folder / name).read_bytes()
        (folder / name).write_bytes(good[:1000])
        told = Told(folder)
        told.artefacts.convert()
        assert (folder / f"{name}.damaged").read_bytes() == good[:1000]
        assert len((folder / name).read_bytes()) == len(good)
        (warning,) = told.warned
        assert "was damaged" in warning and f"{name}.damaged" in warning

    def test_a_build_that_fails_leaves_nothing(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(*arguments: Any, **options: Any) -> None:
            raise OptionError("no")

        monkeypatch.setattr("mindfl.export.export_mindir", fail)
        with pytest.raises(OptionError, match="no"):
            Told(tmp_path / "ms").artefacts.export()
        assert not list((tmp_path / "ms").iterdir())


class TestInference:
    def test_files_of_an_earlier_training_do_not_count(self, make_job: Any, models: Path, recorder: Any) -> None:
        make_job(client_num=3).run()
        result = make_job(client_num=5, per_client_models=False, epochs=2).run()
        own = make_job(client_num=5, reporter=recorder)
        used = [weight_hash(own._models.of_client(index).weights) for index in range(5)]
        assert used == [result.hash] * 5
        own.infer()
        assert any("not written by the latest training" in text for text in recorder.warnings)

    def test_killed_before_the_clients_files_were_written(self, make_job: Any, recorder: Any) -> None:
        class Stop(type(recorder)):  # type: ignore[misc]
            def row(self, row: Any) -> None:
                raise SystemExit

        job = make_job(iterations=3, reporter=Stop())
        job._files.write = lambda *arguments: None  # a killed process writes nothing up
        with pytest.raises(SystemExit):
            job.run()
        expected = make_job(iterations=1, work_dir=job.config.work_dir.with_name("other"), train_model_path=None)
        expected = replace_start(expected, job)
        assert weight_hash(make_job()._models.of_client(0).weights) == expected.run().hash

    def test_a_changed_file_is_the_users(self, make_job: Any, models: Path, recorder: Any) -> None:
        make_job().run()
        changed = other_model(models / "lenet_train1.ms")
        (models / "lenet_train1.ms").write_bytes(changed)
        job = make_job(reporter=recorder)
        assert job._models.of_client(1).content == changed
        job.infer()
        assert any(f"{models / 'lenet_train1.ms'}: changed since the training" in text for text in recorder.warnings)

    def test_a_fetched_model_counts(self, make_job: Any, models: Path, recorder: Any) -> None:
        result = make_job(per_client_models=False).run()
        make_job().get_model()
        job = make_job(reporter=recorder)
        assert weight_hash(job._models.of_client(2).weights) == result.hash
        job.infer()
        assert not recorder.warnings

    def test_a_moved_folder_is_still_known(self, make_job: Any, models: Path, recorder: Any) -> None:
        make_job().run()
        moved = models.rename(models.with_name("moved"))
        make_job(train_model_path=moved, reporter=recorder).infer()
        assert not recorder.warnings


def replace_start(job: FederatedLeNetJob, like: FederatedLeNetJob) -> FederatedLeNetJob:
    """Return a job as ``job`` that starts from the model of ``like``."""
    start = like.config.models / "lenet_train.ms"
    settings = {item.name: getattr(job.config, item.name) for item in fields(job.config)}
    return FederatedLeNetJob(**{**settings, "origin_train_model_path": start})
