"""A real ``mindfl server start`` in a process of its own, to be stopped and killed, and devices that continue."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray
from server_yaml import server_yaml

import mindfl
from mindfl.client import (
    ClientConfig,
    DeviceClient,
    EpochReport,
    Finished,
    HttpSettings,
    HttpTransport,
    InProcessTransport,
    JobResult,
    advance,
    run,
)
from mindfl.client.transport import Transport
from mindfl.protocol import Request, Response, ResponseFLJob, ResponseUpdateModel
from mindfl.protocol import Weights as FlatWeights
from mindfl.server import Coordinator, ServerConfig

Weights = Mapping[str, NDArray[np.float32]]

WAIT_S = 240.0
HOUR = 3_600_000


def write_job(folder: Path, *, clients: int, iterations: int, weights: Weights, window: int = HOUR) -> None:
    """Write ``fl.yaml`` and ``model.npz`` into ``folder``."""
    text = server_yaml(
        fl_name="faults é",
        iterations=iterations,
        clients=clients,
        window=window,
        whole_window=window,
        more="client: {client_batch_size: 8}\n",
    )
    (folder / "fl.yaml").write_text(text, "utf-8")
    np.savez(folder / "model.npz", **weights)  # type: ignore[arg-type]


class ServerProcess:
    """A server on the job in ``folder``; ready when constructed, killed when the context ends.

    ``ready_s`` is how long it took from the start of the process. Its standard error goes to ``errors``.
    """

    def __init__(self, folder: Path, *arguments: str, port: int = 0) -> None:
        self.errors = folder / f"stderr-{len(list(folder.glob('stderr-*')))}.txt"
        command, environment = self.command(*arguments, port=port), self.environment(folder)
        begin = time.perf_counter()
        with self.errors.open("wb") as errors:
            self.process = subprocess.Popen(
                command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=errors, text=True
            )
        line = _output(self.process).readline()
        self.ready_s = time.perf_counter() - begin
        if not line.startswith("ready "):
            self.end(signal.SIGKILL)
            raise AssertionError(self.said())
        self.url = line.split()[1]

    @staticmethod
    def command(*arguments: str, port: int = 0) -> list[str]:
        """Return the command line."""
        start = [sys.executable, "-m", "mindfl", "server", "start", "--config", "fl.yaml", "--model", "model.npz"]
        return [*start, "--http_server_address", f"127.0.0.1:{port}", *arguments]

    @staticmethod
    def environment(folder: Path) -> dict[str, str]:
        """Return the process's environment, its cache in ``folder``."""
        package = str(Path(mindfl.__file__).parents[1])
        return {**os.environ, "MINDFL_CACHE": str(folder / "cache"), "PYTHONPATH": package}

    def said(self) -> str:
        """Return what it wrote on standard error so far."""
        return self.errors.read_text("utf-8")

    def end(self, number: signal.Signals) -> int:
        """Send a signal and return the exit code."""
        self.process.send_signal(number)
        code = self.process.wait(WAIT_S)
        _output(self.process).close()
        return code

    def __enter__(self) -> ServerProcess:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.end(signal.SIGKILL)


def _output(process: subprocess.Popen[str]) -> IO[str]:
    assert process.stdout is not None
    return process.stdout


class TinyTrainer:
    """Halves what it gets and adds random numbers, other ones for each client and each time, the same in every run."""

    train_size, eval_size, batch_size = 8, 0, 8
    class_scores = None

    def __init__(self, number: int) -> None:
        self.train_size = 8 * (number + 1)
        self._number = number
        self._weights: dict[str, NDArray[np.float32]] = {}

    def load(self, weights: FlatWeights) -> None:
        self._weights = {name: values.copy() for name, values in weights.items()}

    def train(self, epochs: int, learning_rate: float, report: EpochReport) -> float:
        # Seeded by what was received, not by how often: a client may have to train again after a fault.
        seed = sum(int(values.view(np.uint32).astype(np.uint64).sum()) for values in self._weights.values())
        generator = np.random.default_rng((self._number, seed))
        for name in sorted(self._weights):
            values = self._weights[name]
            values *= np.float32(0.5)
            values += generator.normal(0, 3, values.size).astype(np.float32)
        return 1.0 + self._number

    def evaluate(self) -> float:
        return 0.0

    def weights(self) -> FlatWeights:
        return self._weights

    def predict(self) -> NDArray[np.int_]:
        return np.zeros(0, int)


def device(number: int, now_ms: Callable[[], int], **changes: int) -> DeviceClient:
    config = ClientConfig(name=f"f{number}", fl_id=f"id {number}", **changes)  # type: ignore[arg-type]
    return DeviceClient(config, TinyTrainer(number), now_ms)


def undisturbed(clients: int, iterations: int, weights: Weights) -> bytes:
    """Return the model that such a job ends with where nothing goes wrong."""
    config = ServerConfig(fl_iteration_num=iterations, start_fl_job_threshold=clients, client_batch_size=8)
    coordinator = Coordinator(config, weights)
    transport, clock = InProcessTransport(coordinator), itertools.count()
    flows = [device(number, lambda: next(clock)).train() for number in range(clients)]
    while flows:
        flows = [flow for flow in flows if not isinstance(advance(flow, transport, lambda: next(clock)), Finished)]
    return model_bytes(coordinator.model)


def model_bytes(model: FlatWeights) -> bytes:
    return b"".join(values.tobytes() for _, values in sorted(model.items()))


class Progress:
    """Counts what a fleet was told it had done; others wait for it."""

    def __init__(self) -> None:
        self.count = 0
        self.over = False
        self._changed = threading.Condition()

    def note(self) -> None:
        with self._changed:
            self.count += 1
            self._changed.notify_all()

    def end(self) -> None:
        with self._changed:
            self.over = True
            self._changed.notify_all()

    def wait_for(self, count: int) -> bool:
        """Wait until so much is done; return False where the fleet has ended before."""
        with self._changed:
            assert self._changed.wait_for(lambda: self.count >= count or self.over, WAIT_S), "the fleet hangs"
            return not self.over


class _Watched:
    """A transport that tells of accepted starts and uploads."""

    def __init__(self, inner: Transport, progress: Progress) -> None:
        self._inner = inner
        self._progress = progress

    def send(self, request: Request, now_ms: int) -> Response:
        response = self._inner.send(request, now_ms)
        if isinstance(response, ResponseFLJob | ResponseUpdateModel) and response.retcode == 200:
            self._progress.note()
        return response


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def sleep_ms(ms: int) -> None:
    """Wait, but never long: what a client would wait for takes less time in a test."""
    time.sleep(min(ms, 40) / 1000)


class DeviceFleet:
    """Real device clients, each in a thread of its own, that train against ``url`` until the job is over."""

    def __init__(self, url: str, numbers: Sequence[int], clock: Callable[[], int] = now_ms) -> None:
        self.progress = Progress()
        self.results: dict[int, JobResult | BaseException] = {}
        self._url = url
        self._clock = clock
        self._left = len(numbers)
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._train, args=(number,), daemon=True) for number in numbers]

    def __enter__(self) -> DeviceFleet:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.progress.end()

    def join(self) -> None:
        """Wait for all; fail where one hangs or has failed."""
        for thread in self._threads:
            thread.join(WAIT_S)
        assert not any(thread.is_alive() for thread in self._threads), "a client hangs"
        for result in self.results.values():
            if isinstance(result, BaseException):
                raise result

    def _train(self, number: int) -> None:
        client = device(number, self._clock, poll_ms=5, retry_ms=5, max_restarts=1000, retry_limit_ms=120_000)
        try:
            with HttpTransport(HttpSettings(url=self._url)) as transport:
                watched = _Watched(transport, self.progress)
                self.results[number] = run(client.train(), watched, self._clock, sleep_ms)
        except BaseException as error:
            self.results[number] = error
        with self._lock:
            self._left -= 1
            if not self._left:
                self.progress.end()
