"""A small job, as :mod:`small_job` has it."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from small_job import BATCH, EPOCHS, SIZES, Turns, people

from mindfl.data import Dataset
from mindfl.lite import LiteModel
from mindfl.sim import FederatedJob, Result

NETWORK = f"{Path(__file__).parent}/small_net.py:SmallNet"


@pytest.fixture(scope="session", name="people")
def _people() -> Dataset:
    """The five clients, tested on what they train on."""
    return people()


@pytest.fixture(scope="session")
def small_model(
    tmp_path_factory: pytest.TempPathFactory, converter_library: Path, people: Dataset
) -> Callable[..., Path]:
    """Return a function that makes a training model of :class:`small_net.SmallNet` for an optimizer, once."""

    @cache
    def make(optimizer: str, weight_decay: float = 0.0) -> Path:
        folder = tmp_path_factory.mktemp(f"small {optimizer}")
        small: dict[str, Any] = {"model": NETWORK, "optimizer": optimizer, "batch_size": BATCH}
        small["weight_decay"] = weight_decay
        plan = {"train_dataset": people, "client_num": len(SIZES), "iterations": 1, "epochs": 1}
        FederatedJob(work_dir=folder, **small, **plan).run()
        return next((folder / "ms").glob("*_train.ms"))

    return make


@pytest.fixture
def run_small(
    small_model: Callable[..., Path], people: Dataset, tmp_path: Path
) -> Callable[..., tuple[LiteModel, Result]]:
    """Return a function that runs the small job and returns the model that it began with, and its result."""

    def run(name: str = "run", *, optimizer: str = "momentum", **settings: Any) -> tuple[LiteModel, Result]:
        first = small_model(optimizer, settings.get("weight_decay", 0.0))
        plan = {"iterations": 5, "epochs": EPOCHS, "learning_rate": 0.05, "sampler": Turns(), "workers": 1}
        data = {"train_dataset": people, "client_num": len(SIZES), "origin_train_model_path": first}
        job = FederatedJob(work_dir=tmp_path / name, **{**data, **plan, **settings})
        return LiteModel.load(first), job.run()

    return run
