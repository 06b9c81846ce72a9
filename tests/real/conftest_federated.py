"""A machine with stand-ins for the real stack's programs; and the real ones."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from federated_standins import standin_python, standin_redis

from mindfl.data import make_synthetic
from mindfl.sim import FederatedLeNetJob, TrainingResult
from mindfl.sim.processes import ProcessRegistry


@pytest.fixture
def standins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put a stand-in for Redis first on PATH; return one for the environment's Python."""
    folder = tmp_path / "bin"
    standin_redis(folder)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("MINDFL_CACHE", str(tmp_path / "cache"))
    return standin_python(folder / "federated-python")


@pytest.fixture
def train(converted: Callable[..., Path], tmp_path: Path) -> Iterator[Callable[..., TrainingResult]]:
    """Return a function that trains four writers (or ``client_num`` of them) on a stack, in a folder of its name."""
    models = tmp_path / "models"
    models.mkdir()
    shutil.copy(converted(), models / "lenet_train.ms")
    make_synthetic(tmp_path / "writers", users=4, seed=3, progress=False)

    def run(stack: str, **settings: Any) -> TrainingResult:
        return FederatedLeNetJob(
            work_dir=tmp_path / stack,
            train_dataset=tmp_path / "writers",
            train_model_path=models,
            epochs=1,
            workers=2,
            stack=stack,
            **{"client_num": 4, **settings},
        ).run()

    yield run
    ProcessRegistry(tmp_path / "federated").end()
