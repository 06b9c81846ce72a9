"""The processes of one real stack: Redis, scheduler, servers. Started in that order, waited for, ended in the other."""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from mindfl.errors import SimulationError
from mindfl.files import make_dir
from mindfl.imports import lacks
from mindfl.real.federated_config import TlsFiles
from mindfl.real.federated_entry import PASSWORD_VARIABLES
from mindfl.real.federated_environment import Report
from mindfl.real.process_registry import ProcessRegistry, StartedProcess
from mindfl.server.http import Address
from mindfl.spelling import counted

READY = "Ready to accept connections"
_ANSWER_SECONDS = 5.0
_SPECIAL = str.maketrans({character: f"\\{character}" for character in "*?[]^-\\"})


def redis_server() -> str:
    """Return the path of redis-server. Raises :class:`SimulationError` where there is none."""
    program = shutil.which("redis-server")
    if program is None:
        raise SimulationError(
            "there is no redis-server on this machine",
            hint="install it (Debian: apt-get install redis-server), or name a Redis that runs with --redis_address",
        )
    return program


def redis_command(address: Address, certificates: str | None) -> list[str]:
    """Return the command of a Redis that keeps nothing on disk.

    ``certificates``: folder of ``mindfl server certs``, relative to the one it runs in; then it speaks TLS only.
    """
    ports = ["--port", str(address.port)]
    if certificates is not None:
        ports = ["--port", "0", "--tls-port", str(address.port)]
        files = {"cert": "server.crt", "key": "server.key", "ca-cert": "ca.crt"}
        for option, name in files.items():
            ports += [f"--tls-{option}-file", f"{certificates}/{name}"]
    return [redis_server(), "--bind", address.host, *ports, "--save", "", "--appendonly", "no"]


def redis_entries(certificates: Path) -> dict[str, object]:
    """Return the keys of the YAML file with which servers reach a Redis of :func:`redis_command` by TLS."""
    files = {"cacert_filename": "ca.crt", "cert_filename": "client.crt", "private_key_filename": "client.key"}
    return {f"distributed_cache.{key}": str(certificates / name) for key, name in files.items()}


def holds_job(address: str, fl_name: str, tls: Mapping[str, object]) -> bool:
    """Tell whether the Redis at ``address`` holds a job of this name.

    ``tls`` has the keys of :func:`redis_entries`, and is empty without TLS. Raises :class:`SimulationError` where it
    does not answer. Needs the package redis.
    """
    try:
        import redis
    except ModuleNotFoundError:
        raise lacks("a Redis of your own", "redis") from None
    place = Address.parse(address, "redis_address")
    files = {
        option: tls.get(f"distributed_cache.{key}") or None
        for option, key in (
            ("ssl_ca_certs", "cacert_filename"),
            ("ssl_certfile", "cert_filename"),
            ("ssl_keyfile", "private_key_filename"),
        )
    }
    encrypted = {"ssl": True, "ssl_check_hostname": False, **files} if tls else {}
    client = redis.Redis(
        place.host, place.port, socket_timeout=_ANSWER_SECONDS, socket_connect_timeout=_ANSWER_SECONDS, **encrypted
    )
    try:
        with client:
            client.ping()
            pattern = f"ms_fl:{fl_name.translate(_SPECIAL)}:*"
            return next(client.scan_iter(match=pattern, count=1000), None) is not None
    except (redis.RedisError, OSError) as error:
        raise SimulationError(
            f"the Redis at {address} cannot be used: {error}", hint="start it first, or leave redis_address out"
        ) from None


_POLL_SECONDS = 0.05
_SHOWN = 300
_EVENT = re.compile(r"event (\{.*\})")
#: what a log says -> what that means
_REASONS = {
    "Http server starting failed": "its port is in use",
    "Address already in use": "its port is in use",
    "Failed to connect to redis": "it cannot connect to its Redis",
    "Connect to redis server failed": "it cannot connect to its Redis",
    "No module named 'mindspore_federated'": "its Python lacks MindSpore Federated (run: mindfl server install)",
}
_BAD = re.compile(r"\[(ERROR|CRITICAL)\]|Error\b|Exception\b|FATAL")


class LogFollower:
    """Reads the lines that a process adds to its log."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        self._rest = b""

    def lines(self) -> list[str]:
        """Return the whole lines that came since the last call."""
        with self._path.open("rb") as file:
            file.seek(self._offset)
            content = file.read()
        self._offset += len(content)
        *whole, self._rest = (self._rest + content).split(b"\n")
        return [line.decode(errors="replace") for line in whole]


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


def wait_until(ready: Callable[[], bool], process: StartedProcess, deadline: float) -> None:
    """Return once ``ready``; raise :class:`SimulationError` where ``process`` ends or ``deadline`` passes before."""
    while True:
        ended = process.poll() is not None
        if ready():
            return
        if ended:
            raise ended_error(process)
        if time.monotonic() > deadline:
            raise SimulationError(
                f"the {process.role} was not ready in time: {reason(process)}", hint=f"its log is {process.log}"
            )
        time.sleep(_POLL_SECONDS)


def ended_error(process: StartedProcess) -> SimulationError:
    """Return what to raise where ``process`` has ended by itself."""
    status = process.poll() or 0
    # A process that watches another one ends with 128 + the signal that ended that one.
    number = -status if status < 0 else status - 128
    how = f"was ended by signal {number}" if number > 0 else f"ended with code {status}"
    return SimulationError(f"the {process.role} {how}: {reason(process)}", hint=f"its log is {process.log}")


def reason(process: StartedProcess) -> str:
    """Return why a process failed, as far as its log tells."""
    lines = [line.strip() for line in process.last_lines(200) if line.strip()]
    for known, meaning in _REASONS.items():
        if any(known in line for line in lines):
            return meaning
    bad = [line for line in lines if _BAD.search(line)]
    return (bad[-1:] or lines[-1:] or ["it said nothing"])[0][:_SHOWN]


ENTRY = Path(__file__).with_name("federated_entry.py")
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
