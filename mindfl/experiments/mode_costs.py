"""Measures the bytes and the time that an iteration costs a device and the server.

A job of its own, with one worker thread and one local epoch: devices and server then take turns, so that time belongs
to the one that uses it. With several threads they wait for each other, and their times cannot be told apart.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, TypeVar

from mindfl.client import InProcessTransport
from mindfl.data import Dataset, UserData
from mindfl.errors import StorageError
from mindfl.files import scratch_folder
from mindfl.lite import LiteModel
from mindfl.protocol import Request, Response, ResponseCode, encode, encode_response
from mindfl.server import Coordinator
from mindfl.sim.callbacks import Callback, Model
from mindfl.sim.client_pool import ClientPool
from mindfl.sim.config import JobConfig
from mindfl.sim.embedded_run import EmbeddedRun
from mindfl.sim.engines import ClientTrainer, LiteEngine
from mindfl.sim.executors import LocalExecutor
from mindfl.sim.history import IterationRow
from mindfl.sim.round_loop import run_rounds

#: enough for a median that no single disturbance moves
ITERATIONS = 3

#: an iteration costs the same at any rate; at this one no model diverges, not even of few clients with much noise
_RATE = 1e-6

ResultT = TypeVar("ResultT")


@dataclass(frozen=True, slots=True)
class Costs:
    """Of one iteration; the seconds are medians over :data:`ITERATIONS`, bytes are those of the last.

    ``bytes_up`` and ``bytes_down``: one device's messages on the wire (FlatBuffers, without HTTP's headers), keys and
    shares included, polls that were answered "not ready yet" left out. ``device_seconds``: one device, training and
    evaluation left out. ``server_seconds``: the server, for all devices together.
    """

    bytes_up: float
    bytes_down: float
    device_seconds: float
    server_seconds: float


def measured_costs(config: JobConfig, model: LiteModel, dataset: Dataset, users: Sequence[str]) -> Costs:
    """Run :data:`ITERATIONS` iterations of ``config``'s job without writing results, and return what one costs.

    In a simulation the key of a pair of devices is derived once, for both; so a device alone takes up to twice as long
    with secure aggregation. Raises what the job raises.
    """
    try:
        with scratch_folder("mindfl-costs") as folder:
            return _measured(config.derived(work_dir=folder), model, dataset, users)
    except OSError as error:
        raise StorageError.from_os_error(error, "use", error.filename or "the folder for temporary files") from None


def _measured(config: JobConfig, model: LiteModel, dataset: Dataset, users: Sequence[str]) -> Costs:
    settings = {"iterations": ITERATIONS, "epochs": 1, "workers": 1, "per_client_models": False}
    config = config.derived(**settings, learning_rate=_RATE)
    engine = _TimedEngine(model)
    meters: list[_Meter] = []

    def executor(coordinator: Coordinator) -> LocalExecutor:
        meters.append(_Meter(coordinator))
        return _MeteredExecutor(coordinator, ClientPool(config, engine, dataset, users), meters[0])

    device, server, sizes = [], [], [(0, 0)]

    class Reading(Callback):
        def row(self, row: IterationRow, model: Model) -> None:
            meter = meters[0]
            trained, inside, aside = engine.training.taken(), meter.server.taken(), meter.aside.taken()
            sizes.append(meter.sizes_taken())
            server.append(inside)
            device.append(max(row.seconds - trained - inside - aside, 0) / row.clients)

    run = EmbeddedRun(config, model.weights, len(users), executor, lambda progress: None)
    run_rounds(run, [Reading()], lambda iterations: math.nan)
    up, down = (size / len(users) for size in sizes[-1])
    return Costs(up, down, median(device), median(server))


class _Stopwatch:
    """Adds up the time of calls."""

    def __init__(self) -> None:
        self._seconds = 0.0

    def timed(self, call: Callable[..., ResultT]) -> Callable[..., ResultT]:
        """Return ``call``, whose time is added up."""

        def timed(*arguments: Any) -> ResultT:
            begin = time.perf_counter()
            try:
                return call(*arguments)
            finally:
                self._seconds += time.perf_counter() - begin

        return timed

    def taken(self) -> float:
        """Return the time since the last call of this method."""
        seconds, self._seconds = self._seconds, 0.0
        return seconds


class _Meter(InProcessTransport):
    """Calls the coordinator; measures how long that takes and the messages' sizes on the wire. For one thread."""

    def __init__(self, coordinator: Coordinator) -> None:
        super().__init__(coordinator)
        self.server, self.aside = _Stopwatch(), _Stopwatch()
        self._sizes = (0, 0)

    def send(self, request: Request, now_ms: int) -> Response:
        response = self.server.timed(super().send)(request, now_ms)
        if getattr(response, "retcode", None) != ResponseCode.SUC_NOT_READY:
            self.aside.timed(self._add)(request, response)
        return response

    def sizes_taken(self) -> tuple[int, int]:
        """Return the bytes up and down since the last call of this method."""
        sizes, self._sizes = self._sizes, (0, 0)
        return sizes

    def _add(self, request: Request, response: Response) -> None:
        up, down = self._sizes
        self._sizes = up + len(encode(request)), down + len(encode_response(response))


class _MeteredExecutor(LocalExecutor):
    def __init__(self, coordinator: Coordinator, pool: ClientPool, meter: _Meter) -> None:
        super().__init__(coordinator, pool)
        self._transport = meter


class _TimedEngine(LiteEngine):
    """An engine that knows how long its trainers worked."""

    def __init__(self, model: LiteModel) -> None:
        super().__init__(model)
        self.training = _Stopwatch()

    def trainer(self, user: UserData, stop: threading.Event) -> ClientTrainer[Any]:
        trainer = super().trainer(user, stop)
        for method in ("load", "train", "evaluate"):
            setattr(trainer, method, self.training.timed(getattr(trainer, method)))
        return trainer
