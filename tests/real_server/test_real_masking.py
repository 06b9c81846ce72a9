"""Our devices in jobs of secure aggregation of the real MindSpore Federated 0.1.0; run with ``pytest -m real_server``.

Each device is a thread with a connection of its own, and what it does is what any device does; only the training is a
stand-in, so that the plain average is known.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from real_secagg import LAYOUT, job

from mindfl.client import (
    ClientConfig,
    DeviceClient,
    EpochReport,
    Finished,
    Flow,
    HttpSettings,
    HttpTransport,
    IterationDone,
    JobResult,
    Transport,
    Wait,
    advance,
)
from mindfl.protocol import Request, RequestUpdateModel, Response, ResponseCode, Weights
from mindfl.real import FederatedServer

pytestmark = [pytest.mark.real_server, pytest.mark.usefixtures("real_interpreter")]

TOLERANCE = 1e-6
LIMIT_S = 120.0


class Trainer:
    """A stand-in that moves every value by an amount of its own."""

    eval_size = 0
    batch_size = 32
    class_scores = None

    def __init__(self, place: int) -> None:
        self.train_size = 16 * (place + 1)
        self._place = place
        self._flat = np.zeros(LAYOUT.size, np.float32)

    def load(self, weights: Weights) -> None:
        self._flat = np.concatenate([weights[name] for name in LAYOUT.names])

    def train(self, epochs: int, learning_rate: float, report: EpochReport) -> float:
        self._flat = moved(self._flat, self._place)
        return 1.0

    def evaluate(self) -> float:
        raise AssertionError("there is nothing to evaluate")

    def weights(self) -> Weights:
        return LAYOUT.split(self._flat)

    def predict(self) -> NDArray[np.int_]:
        raise AssertionError("there is nothing to predict")


def moved(flat: NDArray[np.float32], place: int) -> NDArray[np.float32]:
    """Return what the device at ``place`` makes of a model."""
    step: NDArray[np.float32] = np.random.default_rng(place).normal(0, 0.3, flat.size).astype(np.float32)
    return flat * np.float32(0.5) + step


def averages(places: Sequence[int], iterations: int) -> list[NDArray[np.float32]]:
    """Return the models of the job without masks."""
    models = [np.zeros(LAYOUT.size, np.float32)]
    sizes = {place: 16 * (place + 1) for place in places}
    for _ in range(iterations):
        total = sum(moved(models[-1], place).astype(np.float64) * size for place, size in sizes.items())
        models.append((total / sum(sizes.values())).astype(np.float32))
    return models[1:]


def now_ms() -> int:
    return time.time_ns() // 1_000_000


class Fleet:
    """The devices of a job; those of ``lost`` leave every iteration when they are about to upload."""

    def __init__(self, url: str, count: int, iterations: int, lost: Sequence[int]) -> None:
        self._url, self._count, self._iterations, self._lost = url, count, iterations, lost
        self._together = threading.Barrier(count)
        self.models: list[list[NDArray[np.float32]]] = []

    def run(self) -> None:
        """Play all iterations; ``models`` are those that each device which stayed got."""
        with ThreadPoolExecutor(self._count) as pool:
            parts = [pool.submit(self._lose if i in self._lost else self._stay, i) for i in range(self._count)]
            self.models = [part.result() for part in parts if part.result()]

    def _stay(self, place: int) -> list[NDArray[np.float32]]:
        trainer, models = Trainer(place), []
        with HttpTransport(HttpSettings(url=self._url)) as http, closing(device(place, trainer).train()) as flow:
            for _ in range(self._iterations):
                self._together.wait(LIMIT_S)
                assert isinstance(ended(flow, http), IterationDone)
                models.append(np.concatenate([trainer.weights()[name] for name in LAYOUT.names]))
                self._together.wait(LIMIT_S)
            assert ended(flow, http) == Finished(JobResult(self._iterations, ResponseCode.SUCCEED))
        return models

    def _lose(self, place: int) -> list[NDArray[np.float32]]:
        with HttpTransport(HttpSettings(url=self._url)) as http:
            for _ in range(self._iterations):
                self._together.wait(LIMIT_S)
                with closing(device(place, Trainer(place)).train()) as flow, pytest.raises(Lost):
                    ended(flow, Leaving(http))
                self._together.wait(LIMIT_S)
        return []


def device(place: int, trainer: Trainer) -> DeviceClient:
    config = ClientConfig(name=f"f{place}", fl_id=f"device-{place}", poll_ms=50)
    return DeviceClient(config, trainer, now_ms)


def ended(flow: Flow[JobResult], transport: Transport) -> object:
    """Go on until an iteration, or the job, ends."""
    while isinstance(step := advance(flow, transport, now_ms), Wait):
        time.sleep(step.ms / 1000)
    return step


class Lost(BaseException):
    """A device is gone."""


class Leaving:
    """A transport that is gone when there is something to upload."""

    def __init__(self, transport: HttpTransport) -> None:
        self._transport = transport

    def send(self, request: Request, now_ms: int) -> Response:
        if isinstance(request, RequestUpdateModel):
            raise Lost
        return self._transport.send(request, now_ms)


def play(kind: str, count: int, lost: Sequence[int], folder: Path, iterations: int = 3) -> float:
    """Return the largest difference of a model's weight from the plain average."""
    config = job(kind, count, iterations, threshold=2 if kind == "PW_ENCRYPT" else 1, lost=len(lost))
    with FederatedServer(folder, config, LAYOUT.split(np.zeros(LAYOUT.size, np.float32))) as server:
        fleet = Fleet(server.url, count, iterations, lost)
        fleet.run()
    plain = averages([place for place in range(count) if place not in lost], iterations)
    assert [len(models) for models in fleet.models] == [iterations] * (count - len(lost))
    return max(
        float(np.abs(model - expected).max())
        for models in fleet.models
        for model, expected in zip(models, plain, strict=True)
    )


@pytest.mark.parametrize("lost", [(), (3,), (1, 4)])
def test_devices_with_pairwise_masks(lost: tuple[int, ...], tmp_path: Path) -> None:
    """Those that are slow to reveal their shares find the iteration over: that is no fault of theirs."""
    assert play("PW_ENCRYPT", 5, lost, tmp_path) < TOLERANCE


def test_devices_with_stable_masks(tmp_path: Path) -> None:
    assert play("STABLE_PW_ENCRYPT", 3, (), tmp_path) < TOLERANCE
