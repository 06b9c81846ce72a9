"""A small job of five clients with unequal data, three of which take part in each round."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from oracle import Data, Plan, Server

from mindfl.data import Dataset
from mindfl.lite import LiteModel
from mindfl.sim import FederatedJob, TrainingResult

HERE = Path(__file__).parent
SIZES = (7, 20, 33, 12, 50)
BATCH, EPOCHS = 8, 2


class Turns:
    """A sampler: three clients after one another."""

    def sample(self, clients: int, iteration: int, rng: np.random.Generator, state: dict[str, Any]) -> Iterable[int]:
        return [(iteration * 2 + place) % clients for place in range(3)]


def samples(client: int) -> tuple[Any, Any]:
    """Images of 5x4 in float32 and labels of three classes, whose shares differ from client to client."""
    rng = np.random.default_rng(client)
    labels = rng.choice(3, SIZES[client], p=np.roll([0.9, 0.1, 0.0], client))
    images = rng.random((SIZES[client], 5, 4), np.float32) * 0.6
    images[np.arange(len(labels)), labels] += 0.3
    return images, labels


@pytest.fixture(scope="session")
def people() -> Dataset:
    """The five clients, tested on what they train on."""
    return Dataset.from_arrays({f"user{i}": (*samples(i), *samples(i)) for i in range(len(SIZES))}, classes=3)


@pytest.fixture(scope="session")
def small_model(
    tmp_path_factory: pytest.TempPathFactory, converter_library: Path, people: Dataset
) -> Callable[[str], Path]:
    """Return a function that makes a training model of :class:`small_net.SmallNet` for an optimizer, once."""

    @cache
    def make(optimizer: str) -> Path:
        folder = tmp_path_factory.mktemp(f"small {optimizer}")
        small = {"model": f"{HERE}/small_net.py:SmallNet", "optimizer": optimizer, "batch_size": BATCH}
        plan = {"train_dataset": people, "client_num": len(SIZES), "iterations": 1, "epochs": 1}
        FederatedJob(work_dir=folder, **small, **plan).run()
        return next((folder / "ms").glob("*_train.ms"))

    return make


@pytest.fixture
def run_small(
    small_model: Callable[[str], Path], people: Dataset, tmp_path: Path
) -> Callable[..., tuple[LiteModel, TrainingResult]]:
    """Return a function that runs the small job and returns the model that it began with, and its result."""

    def run(name: str = "run", *, optimizer: str = "momentum", **settings: Any) -> tuple[LiteModel, TrainingResult]:
        first = small_model(optimizer)
        plan = {"iterations": 5, "epochs": EPOCHS, "learning_rate": 0.05, "sampler": Turns(), "workers": 1}
        data = {"train_dataset": people, "client_num": len(SIZES), "origin_train_model_path": first}
        job = FederatedJob(work_dir=tmp_path / name, **{**data, **plan, **settings})
        return LiteModel.load(first), job.run()

    return run


def server(model: LiteModel, momentum: float, rate: float) -> Server:
    """Return the oracle's beginning for the small job."""
    clients = {}
    for index in range(len(SIZES)):
        images, labels = samples(index)
        clients[index] = Data(images.reshape(len(labels), -1).astype(np.float64), labels)
    x = {name: values.astype(np.float64) for name, values in model.weights.items()}
    return Server(x, clients, Plan(rate, EPOCHS, BATCH, momentum))
