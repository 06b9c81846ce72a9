"""Work folders of the first release: read, and used again."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mindfl.sim import FederatedLeNetJob, weight_hash

SETTINGS: dict[str, Any] = {"client_num": 2, "epochs": 1, "seed": 788, "learning_rate": 2e-38, "workers": 1}
#: of the model that both iterations left
TRAINED = "b7ee3168fc5c9d9d5de2a387d3b11b988ea6ef176a8a58cc0b4341dcd04248a9"


@pytest.fixture
def folders(first_release: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folders, where nothing may be exported or converted: all of it is there."""
    monkeypatch.setattr("mindfl.export.export_mindir", _forbidden)
    monkeypatch.setattr("mindfl.convert.convert_model", _forbidden)
    folder = first_release("work_folders")
    monkeypatch.chdir(folder)
    return folder


def _forbidden(*_arguments: object, **_settings: object) -> None:
    raise AssertionError("made again, though the first release left it")


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


def test_an_interrupted_run_is_made_again_from_its_model(folders: Path) -> None:
    result = FederatedLeNetJob(work_dir=folders / "interrupted", iterations=2, **SETTINGS).run()
    assert result.hash == TRAINED


def test_a_model_of_the_users_own_is_where_the_next_run_starts(folders: Path) -> None:
    own = folders / "own_models"
    before = (own / "models" / "lenet_train.ms").read_bytes()
    settings = {**SETTINGS, "train_model_path": own / "models", "infer_ms_name": "lenet_infer", "data_format": "bin"}
    result = FederatedLeNetJob(work_dir=own / "next run", iterations=2, **settings).run()
    assert result.hash == TRAINED
    assert (own / "models" / "lenet_train.ms").read_bytes() == before
    assert json.loads((own / "models" / "lenet_train_trained.json").read_text())["weights_sha256"] == TRAINED
