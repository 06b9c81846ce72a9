"""The processes of one real stack: Redis, scheduler, servers. Started in that order, ended in the other."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from mindfl.files import make_dir
from mindfl.server.http import Address
from mindfl.sim.federated.config import TlsFiles
from mindfl.sim.federated.entry import PASSWORD_VARIABLES
from mindfl.sim.federated.environment import Report
from mindfl.sim.federated.redis import READY, redis_command
from mindfl.sim.federated.waiting import LogFollower, ended_error, event, wait_until
from mindfl.sim.processes import ProcessRegistry, StartedProcess
from mindfl.words import counted

ENTRY = Path(__file__).with_name("entry.py")
ROLE = "real"
#: a server needs 2.5 s on an idle machine; 11 s were seen where three started together
START_SECONDS = 120.0
START_SECONDS_EACH = 20.0
#: seconds between SIGTERM and SIGKILL
STOP_SECONDS = 15.0


class Stack:
    """Starts processes in ``folder``; ends them, the last ones first, when ``held`` is closed.

    ``python`` is the interpreter of the environment. ``ended`` tells of each iteration that has ended if it was valid.
    """

    def __init__(
        self, registry: ProcessRegistry, folder: Path, held: ExitStack, python: Path, tls: TlsFiles | None, servers: int
    ) -> None:
        self.processes: list[StartedProcess] = []
        self.ended: dict[int, bool] = {}
        self._registry = registry
        self._folder = folder
        self._held = held
        self._python = python
        self._tls = tls
        self._deadline = time.monotonic() + START_SECONDS + START_SECONDS_EACH * servers
        self._logs: list[LogFollower] = []
        self._started: set[int] = set()
        self._instance = ""

    def start_redis(self, address: Address) -> None:
        """Start a Redis and return when it answers; with TLS its certificates are in ``redis/tls``."""
        redis = self._start("redis", redis_command(address, "tls" if self._tls else None))
        self._held.callback(self._end, [redis], STOP_SECONDS)
        log = LogFollower(redis.log)
        wait_until(lambda: any(READY in line for line in log.lines()), redis, self._deadline)

    def start_scheduler(self, config: Path, address: Address) -> Callable[[Callable[[], bool]], None]:
        """Start the scheduler; return a function that waits until what it is given says that the scheduler answers."""
        scheduler = self._start("scheduler", [str(config), str(address)])
        self._held.callback(self._end, [scheduler], STOP_SECONDS)
        return lambda answers: wait_until(answers, scheduler, self._deadline)

    def start_servers(
        self, config: Path, addresses: Sequence[Address], arguments: Sequence[str], stop_seconds: float
    ) -> None:
        """Start the first server, then the others, which find the job there; return when all accept requests.

        ``stop_seconds``: how long they may take to end.
        """
        servers: list[StartedProcess] = []
        self._held.callback(self._end, servers, stop_seconds)
        for batch in (addresses[:1], addresses[1:]):
            for address in batch:
                server = self._start(f"server {len(servers)}", [str(config), str(address), *arguments])
                servers.append(server)
                self._logs.append(LogFollower(server.log))
            for number, server in enumerate(servers):
                wait_until(partial(self._has_started, number), server, self._deadline)

    def check(self) -> None:
        """Raise :class:`SimulationError` with its last words where one of the processes has ended."""
        self.read_events()
        for process in self.processes:
            if process.poll() is not None:
                raise ended_error(process)

    def read_events(self) -> None:
        """Take note of what the servers have told since."""
        for index, log in enumerate(self._logs):
            for told in filter(None, map(event, log.lines())):
                if told.get("name") == "started":
                    self._started.add(index)
                elif told.get("name") == "iteration":
                    self._iteration_ended(**told)

    def _iteration_ended(self, *, name: str, instance: str, number: int, valid: bool) -> None:
        if instance != self._instance:
            self._instance = instance
            self.ended.clear()
        self.ended[number] = valid

    def _has_started(self, number: int) -> bool:
        self.read_events()
        return number in self._started

    def _start(self, role: str, arguments: Sequence[str]) -> StartedProcess:
        kind, _, _ = role.partition(" ")
        name = role.replace(" ", "_")
        # The interpreter is another Python than this one: -I keeps PYTHONPATH and the current folder out of it.
        command = [str(self._python), "-I", str(ENTRY), kind, str(os.getpid()), *arguments]
        # Whatever this process logs: importing MindSpore for an export sets GLOG_v to errors only.
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


def end_leftovers(registry: ProcessRegistry, report: Report) -> None:
    """End what a mindfl that was killed left behind. The caller holds the folder, so nobody else runs a stack in it."""
    left = [record for record in registry.running() if record.role.startswith(f"{ROLE} ")]
    if left:
        report(f"warning: ending {counted(len(left), 'process', 'processes')} of a run in this folder that was killed")
        registry.end(left)
