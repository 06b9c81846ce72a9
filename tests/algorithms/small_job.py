"""The small job of these tests: five clients with unequal data, three of which take part in each round."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from oracle import Data, Plan, Server

from mindfl.data import Dataset
from mindfl.lite import LiteModel
from mindfl.sim.job import Silent

SIZES = (7, 20, 33, 12, 50)
SEVEN = (*SIZES, 26, 41)
BATCH, EPOCHS = 8, 2


class Turns:
    """A sampler: three clients after one another."""

    def sample(self, clients: int, iteration: int, rng: np.random.Generator, state: dict[str, Any]) -> Iterable[int]:
        return [(iteration * 2 + place) % clients for place in range(3)]


def samples(client: int) -> tuple[Any, Any]:
    """Images of 5x4 in float32 and labels of three classes, whose shares differ from client to client."""
    rng = np.random.default_rng(client)
    labels = rng.choice(3, SEVEN[client], p=np.roll([0.9, 0.1, 0.0], client))
    images = rng.random((SEVEN[client], 5, 4), np.float32) * 0.6
    images[np.arange(len(labels)), labels] += 0.3
    return images, labels


def people() -> Dataset:
    """Return the five clients, tested on what they train on."""
    return Dataset.from_arrays({f"user{i}": (*samples(i), *samples(i)) for i in range(len(SIZES))}, classes=3)


def cohorts(rounds: int) -> list[list[int]]:
    """Who takes part in each round, by :class:`Turns`."""
    return [[*Turns().sample(len(SIZES), round, np.random.default_rng(0), {})] for round in range(1, rounds + 1)]


def server(model: LiteModel, momentum: float, rate: float, people: int = len(SIZES)) -> Server:
    """Return the oracle's beginning for the small job."""
    clients = {}
    for index in range(people):
        images, labels = samples(index)
        clients[index] = Data(images.reshape(len(labels), -1).astype(np.float64), labels)
    x = {name: values.astype(np.float64) for name, values in model.weights.items()}
    return Server(x, clients, Plan(rate, EPOCHS, BATCH, momentum))


def distance(found: Any, expected: Any) -> float:
    """Return the norm of the difference, relative to the norm of ``expected``."""
    difference = sum(float(np.sum((found[n].reshape(-1) - v.reshape(-1)) ** 2)) for n, v in expected.items())
    return float((difference / sum(float(np.sum(v**2)) for v in expected.values())) ** 0.5)


class StoppedError(Exception):
    """Ends a run after an iteration, as a power failure would."""


class StopAfterTwo(Silent):
    def row(self, row: Any) -> None:
        if row.iteration == 2:
            raise StoppedError
