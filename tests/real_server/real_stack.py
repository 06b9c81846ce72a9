"""Redis, scheduler and server of MindSpore Federated 0.1.0 as child processes, and the settings of one job."""

from __future__ import annotations

import os
import queue
import socket
import subprocess
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml
from numpy.typing import NDArray
from real_environment import redis_server

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

    def write(self, folder: Path, redis_address: str = "127.0.0.1:6379") -> tuple[Path, Path]:
        """Write the configuration and the model into ``folder`` and return the two files."""
        config, model = folder / "fl.yaml", folder / "model.npz"
        config.write_text(yaml.safe_dump(self._settings(redis_address), sort_keys=False))
        np.savez(model, allow_pickle=False, **self.model)
        return config, model

    def _settings(self, redis_address: str) -> dict[str, object]:
        return {
            "fl_name": self.fl_name,
            "fl_iteration_num": self.fl_iteration_num,
            "server_mode": "FEDERATED_LEARNING",
            "enable_ssl": False,
            "distributed_cache": {"type": "redis", "address": redis_address, "plugin_lib_path": ""},
            "round": {
                "start_fl_job_threshold": self.start_fl_job_threshold,
                "start_fl_job_time_window": self.start_fl_job_time_window,
                "update_model_ratio": self.update_model_ratio,
                "update_model_time_window": self.update_model_time_window,
                "global_iteration_time_window": self.global_iteration_time_window,
            },
            "summary": {
                "metrics_file": "metrics.json",
                "failure_event_file": "event.txt",
                "continuous_failure_times": 10,
                # With a folder here the 0.1.0 server takes up to a minute to stop.
                "data_rate_dir": "",
                "participation_time_level": "5,15",
            },
            "encrypt": {"encrypt_type": "NOT_ENCRYPT"},
            "compression": {
                "upload_compress_type": "NO_COMPRESS",
                "upload_sparse_rate": 0.4,
                "download_compress_type": "NO_COMPRESS",
            },
            "client": {
                "http_url_prefix": self.http_url_prefix,
                "client_epoch_num": self.client_epoch_num,
                "client_batch_size": self.client_batch_size,
                "client_learning_rate": self.client_learning_rate,
                "connection_num": 10000,
            },
        }


class Program:
    """A child process whose lines on stdout and stderr can be awaited."""

    def __init__(self, name: str, command: Sequence[str | Path], folder: Path, **environment: str) -> None:
        self.name = name
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
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
    """A server that accepts requests. ``manage`` is empty where the job has no management address."""

    url: str
    manage: str
    program: Program


ServerFactory = Callable[[Job], RunningServer]


@contextmanager
def running(program: Program) -> Iterator[Program]:
    """Stop ``program`` at the end."""
    try:
        yield program
    finally:
        program.stop()


def free_address() -> str:
    """Return a loopback address whose port was free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return f"127.0.0.1:{probe.getsockname()[1]}"


@contextmanager
def running_redis(folder: Path) -> Iterator[str]:
    """Run a Redis that keeps nothing on disk; yield its address."""
    address = free_address()
    host, port = address.split(":")
    options = ["--bind", host, "--port", port, "--save", "", "--appendonly", "no"]
    with running(Program("redis-server", [redis_server(), *options], folder)) as redis:
        redis.await_line("Ready to accept connections")
        yield address


@contextmanager
def running_real(python: Path, redis_address: str, job: Job, folder: Path) -> Iterator[RunningServer]:
    """Run the real server (and scheduler, where ``job.managed``) for ``job`` in ``folder``."""
    config, model = job.write(folder, redis_address)
    entry = Path(__file__).with_name("real_entry.py")
    http, manage = free_address(), free_address() if job.managed else ""
    serve: list[str | Path] = [python, entry, "server", config, http, model, folder / "checkpoints"]
    with ExitStack() as stack:
        server = stack.enter_context(running(Program("real server", serve, folder, GLOG_v="1")))
        if manage:
            schedule: list[str | Path] = [python, entry, "scheduler", config, manage]
            scheduler = stack.enter_context(running(Program("real scheduler", schedule, folder, GLOG_v="1")))
            scheduler.await_line("Scheduler started successfully.")
        server.await_line('event {"name": "started"')
        yield RunningServer(f"http://{http}", f"http://{manage}" if manage else "", server)
