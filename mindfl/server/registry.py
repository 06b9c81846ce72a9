"""The servers that run on this machine under this user: one record each, locked for as long as the server lives."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from mindfl.errors import OptionError, StorageError
from mindfl.files import cache_dir, make_dir, write_atomic

STOP_SECONDS = 30.0
_POLL_SECONDS = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningServer:
    """What is known of a server: its process, its addresses, its job and how far that is."""

    pid: int
    address: str
    url: str
    manage_url: str
    fl_name: str
    state: str
    iteration: int
    iterations: int


class Registration:
    """The record of a server that runs in this process. Raises :class:`StorageError` where it cannot be written."""

    def __init__(self, server: RunningServer) -> None:
        self._server = server
        self._path = _folder() / f"{server.address.replace(':', '_')}.json"
        make_dir(self._path.parent)
        self._lock = _take(self._path.with_suffix(".lock"))
        try:
            self.update()
        except BaseException:
            self.close()
            raise

    def update(self, **changes: object) -> None:
        """Write the record again with other values."""
        self._server = replace(self._server, **changes)  # type: ignore[arg-type]
        write_atomic(self._path, json.dumps(asdict(self._server)))

    def close(self) -> None:
        """Remove the record."""
        _remove(self._path)
        os.close(self._lock)


def running_servers() -> list[RunningServer]:
    """Return the servers that are alive, by address."""
    found = []
    for path in sorted(_folder().glob("*.json")):
        with suppress(OSError, ValueError, TypeError):
            if _alive(path):
                found.append(RunningServer(**json.loads(path.read_text("utf-8"))))
    return found


def find_server(address: str | None) -> RunningServer:
    """Return the server at ``address``, or the only one where that is None. Raises :class:`OptionError`."""
    servers = running_servers()
    listed = ", ".join(server.address for server in servers) or "none"
    chosen = [server for server in servers if address in (None, server.address)]
    if len(chosen) == 1:
        return chosen[0]
    if chosen:
        raise OptionError(f"several servers run here: {listed}", hint="name one with --http_server_address")
    where = f" at {address}" if address else ""
    raise OptionError(f"no server of this user runs{where}", hint=f"running: {listed}")


def stop_server(server: RunningServer, seconds: float = STOP_SECONDS) -> None:
    """Ask ``server`` to end and wait until it has. Raises :class:`OptionError` where it has not within ``seconds``."""
    path = _folder() / f"{server.address.replace(':', '_')}.json"
    with suppress(ProcessLookupError):
        os.kill(server.pid, signal.SIGTERM)
    deadline = time.monotonic() + seconds
    while _alive(path):
        if time.monotonic() > deadline:
            raise OptionError(
                f"the server at {server.address} did not stop within {seconds:.0f} s",
                hint=f"end its process {server.pid}",
            )
        time.sleep(_POLL_SECONDS)


def _alive(path: Path) -> bool:
    """Whether the process that wrote the record still holds its lock; a record left by a dead one is removed."""
    try:
        handle = os.open(path.with_suffix(".lock"), os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    else:
        _remove(path)
        return False
    finally:
        os.close(handle)


def _take(path: Path) -> int:
    """Return a handle that holds the lock ``path``."""
    while True:
        try:
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StorageError.from_os_error(error, "open", path) from None
        fcntl.flock(handle, fcntl.LOCK_EX)
        # Whoever held it before may have removed the file meanwhile: then the lock is worth nothing.
        with suppress(FileNotFoundError):
            if os.fstat(handle).st_ino == path.stat().st_ino:
                return handle
        os.close(handle)


def _remove(path: Path) -> None:
    for each in (path, path.with_suffix(".lock")):
        with suppress(OSError):
            each.unlink()


def _folder() -> Path:
    return cache_dir() / "servers"
