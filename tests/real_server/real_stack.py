"""The settings of one job, the real server for it, and ours as a child process."""

from __future__ import annotations

import os
import queue
import subprocess
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mindfl.real import FederatedConfig, FederatedServer
from mindfl.real.federated_config import write_config

START_LIMIT_S = 120.0
STOP_LIMIT_S = 70.0

Model = Mapping[str, NDArray[np.float32]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """The settings of one job, under the names of the YAML file, and its initial weights. Windows are milliseconds."""

    fl_name: str
    model: Model
    fl_iteration_num: int = 2
    start_fl_job_threshold: int = 2
    start_fl_job_time_window: int = 30_000
    update_model_ratio: float = 1.0
    update_model_time_window: int = 30_000
    global_iteration_time_window: int = 60_000
    http_url_prefix: str = ""
    client_epoch_num: int = 1
    client_batch_size: int = 32
    client_learning_rate: float = 0.01
    managed: bool = False

    def config(self) -> FederatedConfig:
        """Return the job as the driver of the real server takes it."""
        return FederatedConfig(
            fl_name=self.fl_name,
            iterations=self.fl_iteration_num,
            clients=self.start_fl_job_threshold,
            epochs=self.client_epoch_num,
            batch_size=self.client_batch_size,
            learning_rate=self.client_learning_rate,
            update_model_ratio=self.update_model_ratio,
            start_fl_job_time_window=self.start_fl_job_time_window,
            update_model_time_window=self.update_model_time_window,
            global_iteration_time_window=self.global_iteration_time_window,
            manage_address="127.0.0.1:0" if self.managed else None,
            http_url_prefix=self.http_url_prefix,
        )

    def write(self, folder: Path) -> tuple[Path, Path]:
        """Write the configuration and the model into ``folder`` and return the two files."""
        config, model = folder / "fl.yaml", folder / "model.npz"
        write_config(config, {**self.config().entries(), "distributed_cache.address": "127.0.0.1:6379"})
        np.savez(model, allow_pickle=False, **self.model)
        return config, model


class Program:
    """A child process whose lines on stdout and stderr can be awaited."""

    def __init__(self, name: str, command: Sequence[str | Path], folder: Path, **environment: str) -> None:
        self.name = name
        self._lines: queue.Queue[str | None] = queue.Queue()
        self._last: deque[str] = deque(maxlen=5)
        self._process = subprocess.Popen(
            list(command),
            cwd=folder,
            env=os.environ | environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        threading.Thread(target=self._read, daemon=True).start()

    def await_line(self, part: str, limit_s: float = START_LIMIT_S) -> str:
        """Return the next line that holds ``part``; raise ``RuntimeError`` where the process ends or it takes long."""
        while True:
            try:
                line = self._lines.get(timeout=limit_s)
            except queue.Empty:
                line = None
            if line is None:
                raise RuntimeError(f"{self.name} did not say {part!r}; its last lines: {' | '.join(self._last)}")
            if part in line:
                return line

    def stop(self) -> int:
        """Send SIGTERM, wait for the end (SIGKILL where it takes too long) and return the exit code."""
        self._process.terminate()
        try:
            self._process.wait(STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
        return self._process.wait()

    def _read(self) -> None:
        assert self._process.stdout
        with self._process.stdout as lines:
            for line in lines:
                self._last.append(line.rstrip("\n"))
                self._lines.put(self._last[-1])
        self._lines.put(None)


@dataclass(frozen=True, slots=True)
class RunningServer:
    """A server that accepts requests at ``url``, without its prefix. ``manage`` is empty without management address."""

    url: str
    manage: str


ServerFactory = Callable[[Job], RunningServer]


@contextmanager
def running(program: Program) -> Iterator[Program]:
    """Stop ``program`` at the end."""
    try:
        yield program
    finally:
        program.stop()


@contextmanager
def running_real(job: Job, folder: Path) -> Iterator[RunningServer]:
    """Run the real server (and scheduler, where ``job.managed``) for ``job`` in ``folder``."""
    with FederatedServer(folder, job.config(), job.model) as server:
        yield RunningServer(f"http://{server.addresses[0]}", server.manage_url)
