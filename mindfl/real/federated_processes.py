"""The processes of a real server: Redis, scheduler, servers; started in that order, stopped in reverse order."""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from mindfl.errors import SimulationError, StorageError
from mindfl.files import make_dir
from mindfl.real.federated_config import TlsFiles
from mindfl.real.federated_entry import PASSWORD_VARIABLES
from mindfl.real.federated_redis import READY, redis_command
from mindfl.real.process_registry import ProcessRegistry, StartedProcess
from mindfl.server.http import Address
from mindfl.spelling import counted

_POLL_SECONDS = 0.05
_SHOWN = 300
_EVENT = re.compile(r"event (\{.*\})")
#: text in a log -> its meaning
_REASONS = {
    "Http server starting failed": "its port is in use",
    "Address already in use": "its port is in use",
    "Failed to connect to redis": "it cannot connect to its Redis",
    "Connect to redis server failed": "it cannot connect to its Redis",
    "No module named 'mindspore_federated'": "its Python lacks MindSpore Federated (run: mindfl server install)",
}
_BAD = re.compile(r"\[(ERROR|CRITICAL)\]|Error\b|Exception\b|FATAL")


def event(line: str) -> dict[str, Any] | None:
    """Return the event in a log line, or None. The server may have written other text into the same line."""
    found = _EVENT.search(line)
    if found is None:
        return None
    try:
        told = json.loads(found[1])
    except ValueError:
        return None
    return told if isinstance(told, dict) else None


def ended_error(process: StartedProcess) -> SimulationError:
    """Return the error for a ``process`` that has ended by itself."""
    status = process.poll() or 0
    # The entry program watches a child, and ends with 128 + the signal that ended it.
    number = -status if status < 0 else status - 128
    how = f"was ended by signal {number}" if number > 0 else f"ended with code {status}"
    return SimulationError(f"the {process.role} {how}: {reason(process)}", hint=f"its log is {process.log}")


def reason(process: StartedProcess) -> str:
    """Return why a process failed, by its log."""
    lines = [line.strip() for line in process.last_lines(200) if line.strip()]
    for known, meaning in _REASONS.items():
        if any(known in line for line in lines):
            return meaning
    bad = [line for line in lines if _BAD.search(line)]
    return (bad[-1:] or lines[-1:] or ["its log is empty"])[0][:_SHOWN]


ENTRY = Path(__file__).with_name("federated_entry.py")
ROLE = "real"
#: a server needs 2.5 s on an idle machine; 11 s were measured where three started together
START_SECONDS = 120.0
START_SECONDS_EACH = 20.0


class Stack:
    """Starts the processes; they are stopped, the last ones first, when ``held`` is closed.

    ``ended`` says of each iteration that has ended whether it was valid.

    Args:
        registry: records the processes.
        folder: their configuration, and a folder and a log for each.
        held: closed by the caller at the end.
        python: interpreter of the environment.
        tls: certificates of the servers; None: no TLS.
        servers: number of servers.
    """

    def __init__(
        self, registry: ProcessRegistry, folder: Path, held: ExitStack, python: Path, tls: TlsFiles | None, servers: int
    ) -> None:
        self.processes: list[StartedProcess] = []
        self.ended: dict[int, bool] = {}
        self._servers: list[StartedProcess] = []
        self._registry = registry
        self._folder = folder
        self._held = held
        self._python = python
        self._tls = tls
        self._deadline = time.monotonic() + START_SECONDS + START_SECONDS_EACH * servers
        self._ready: set[int] = set()
        self._instance = ""

    def start_redis(self, address: Address, stop_seconds: float) -> None:
        """Start a Redis and return when it answers; with TLS its certificates are in ``redis/tls``."""
        redis = self._start("redis", redis_command(address, "tls" if self._tls else None))
        self._held.callback(self._end, [redis], stop_seconds)
        self._await(redis, lambda: any(READY in line for line in redis.new_lines()))

    def start_scheduler(self, config: Path, address: Address, stop_seconds: float) -> None:
        """Start the scheduler, which answers only after the servers have started."""
        scheduler = self._start("scheduler", [str(config), str(address)])
        self._held.callback(self._end, [scheduler], stop_seconds)

    def await_scheduler(self, answers: Callable[[], bool]) -> None:
        """Return when ``answers`` does."""
        scheduler = next(process for process in self.processes if process.role == f"{ROLE} scheduler")
        self._await(scheduler, answers)

    def start_servers(
        self, config: Path, addresses: Sequence[Address], arguments: Sequence[str], stop_seconds: float
    ) -> None:
        """Start the first server, then the others, which find the job there; return when all accept requests."""
        self._held.callback(self._end, self._servers, stop_seconds)
        for batch in (addresses[:1], addresses[1:]):
            for address in batch:
                role = f"server {len(self._servers)}"
                self._servers.append(self._start(role, [str(config), str(address), *arguments]))
            for number, server in enumerate(self._servers):
                self._await(server, partial(self._is_ready, number))

    def check(self) -> None:
        """Raise :class:`SimulationError`, with the reason in its log, if a process has ended."""
        self.read_events()
        for process in self.processes:
            if process.poll() is not None:
                raise ended_error(process)

    def read_events(self) -> None:
        """Read the events that the servers have added to their logs."""
        for index, server in enumerate(self._servers):
            for told in filter(None, map(event, server.new_lines())):
                if told.get("name") == "started":
                    self._ready.add(index)
                elif told.get("name") == "iteration":
                    self._iteration_ended(**told)

    def _iteration_ended(self, *, name: str, instance: str, number: int, valid: bool) -> None:
        if instance != self._instance:
            self._instance = instance
            self.ended.clear()
        self.ended[number] = valid

    def _is_ready(self, number: int) -> bool:
        self.read_events()
        return number in self._ready

    def _await(self, process: StartedProcess, ready: Callable[[], bool]) -> None:
        """Return once ``ready``; raise :class:`SimulationError` if the process ends, or the time is over, before."""
        while True:
            has_ended = process.poll() is not None
            if ready():
                return
            if has_ended:
                raise ended_error(process)
            if time.monotonic() > self._deadline:
                raise SimulationError(
                    f"the {process.role} was not ready in time: {reason(process)}", hint=f"its log is {process.log}"
                )
            time.sleep(_POLL_SECONDS)

    def _start(self, role: str, arguments: Sequence[str]) -> StartedProcess:
        kind, _, _ = role.partition(" ")
        name = role.replace(" ", "_")
        # -I: PYTHONPATH and the current folder are for another version of Python.
        command = [str(self._python), "-I", str(ENTRY), kind, str(os.getpid()), *arguments]
        # Importing MindSpore for an export sets GLOG_v to errors only, in this process's environment.
        environment = {**os.environ, "GLOG_v": "1"}
        if self._tls:
            passwords = (self._tls.server_password, self._tls.client_password)
            environment |= dict(zip(PASSWORD_VARIABLES, passwords, strict=True))
        process = self._registry.start(
            command,
            role=f"{ROLE} {role}",
            log=self._folder / f"{name}.log",
            cwd=make_dir(self._folder / name),
            env=environment,
        )
        self.processes.append(process)
        return process

    def _end(self, processes: Sequence[StartedProcess], seconds: float) -> None:
        running = [process for process in processes if process.poll() is None]
        self._registry.end([process.record for process in running], grace_seconds=seconds)
        for process in running:
            process.stop()


def end_leftovers(registry: ProcessRegistry, report: Callable[[str], None]) -> None:
    """End the processes that a killed mindfl left. The caller has locked the folder."""
    left = [record for record in registry.running() if record.role.startswith(f"{ROLE} ")]
    if left:
        report(f"warning: ending {counted(len(left), 'process', 'processes')} of a run in this folder that was killed")
        registry.end(left)


#: files of an earlier run
_MADE = ("fl.yaml", "model.npz", "*.log", "redis", "scheduler", "server_*", "tls")


def clear(folder: Path) -> None:
    """Remove the files of an earlier run from ``folder``. Raises :class:`StorageError`."""
    try:
        for pattern in _MADE:
            for path in folder.glob(pattern):
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path)
                else:
                    path.unlink()
    except OSError as error:
        raise StorageError.from_os_error(error, "remove", error.filename or folder) from None
