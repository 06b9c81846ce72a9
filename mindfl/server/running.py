"""The servers that run on this machine under this user, and how one is stopped.

Each has a record for as long as it lives: a file with a lock, which is free once its process is dead.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import FrameType

from mindfl.errors import OptionError, StorageError
from mindfl.files import cache_dir, make_dir, write_atomic
from mindfl.locks import awaited, holder_lives, probe


class Presence:
    """The record of this process in the file ``path``, to be read by this user only.

    It begins with :meth:`write` and ends with :meth:`close`, or the death of the process. Waits where another process
    has the same ``path``. Methods raise :class:`StorageError`.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        make_dir(path.parent)
        self._lock = awaited(_lock_of(path), private=True)

    def write(self, text: str) -> None:
        """Replace the text of the record."""
        write_atomic(self._path, text, private=True)

    def close(self) -> None:
        """Remove the record."""
        _remove(self._path)
        self._lock.close()


def is_alive(path: Path) -> bool:
    """Say whether the process whose record is ``path`` lives; the record of a dead one is removed."""
    try:
        lock = probe(_lock_of(path))
    except StorageError:
        return False
    if lock is None:
        return True
    with lock:
        if not lock.real and holder_lives(_lock_of(path)):
            return True
        _remove(path)
        return False


def living(folder: Path) -> list[str]:
    """Return the records in ``folder`` whose processes live, in the order of their file names."""
    texts = []
    for path in sorted(folder.glob("*.json")):
        with suppress(OSError, ValueError):
            if is_alive(path):
                texts.append(path.read_text("utf-8"))
    return texts


def _remove(path: Path) -> None:
    for each in (path, _lock_of(path)):
        with suppress(OSError):
            each.unlink()


def _lock_of(path: Path) -> Path:
    return path.with_suffix(".lock")


#: the real server takes over a minute if it has a ``data_rate_dir``
STOP_SECONDS = 90.0
_POLL_SECONDS = 0.05
_STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningServer:
    """A running server: its process, its addresses, its job and the progress of that."""

    pid: int
    address: str
    url: str
    manage_url: str
    fl_name: str
    state: str
    iteration: int
    iterations: int


class Registration:
    """The record of a server that runs in this process. Raises :class:`StorageError` if it cannot be written."""

    def __init__(self, server: RunningServer) -> None:
        self._server = server
        self._presence = Presence(_record(server.address))
        try:
            self.update()
        except BaseException:
            self.close()
            raise

    def update(self, **changes: object) -> None:
        """Write the record again with other values."""
        self._server = replace(self._server, **changes)  # type: ignore[arg-type]
        self._presence.write(json.dumps(asdict(self._server)))

    def close(self) -> None:
        """Remove the record."""
        self._presence.close()


def running_servers() -> list[RunningServer]:
    """Return the servers that are alive, by address."""
    found = []
    for text in living(_folder()):
        with suppress(ValueError, TypeError):
            found.append(RunningServer(**json.loads(text)))
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
    """Ask ``server`` to end and wait until it has. Raises :class:`OptionError` if it has not within ``seconds``."""
    record = _record(server.address)
    with suppress(ProcessLookupError):
        os.kill(server.pid, signal.SIGTERM)
    deadline = time.monotonic() + seconds
    while is_alive(record):
        if time.monotonic() > deadline:
            raise OptionError(
                f"the server at {server.address} did not stop within {seconds:.0f} s",
                hint=f"end its process {server.pid}",
            )
        time.sleep(_POLL_SECONDS)


class StopSignal:
    """Notes the first of the signals that stop a server; a second one ends the process at once."""

    def __init__(self) -> None:
        self._received: signal.Signals | None = None
        self._waiting: asyncio.Future[signal.Signals] | None = None

    def future(self) -> asyncio.Future[signal.Signals]:
        """Return a future of the running event loop that ends when the signal comes, or has come."""
        self._waiting = asyncio.get_running_loop().create_future()
        self._settle()
        return self._waiting

    def note(self, number: int, frame: FrameType | None) -> None:
        """Handle signal ``number``."""
        if self._received is not None:
            os._exit(128 + number)
        self._received = signal.Signals(number)
        if self._waiting is not None and not (loop := self._waiting.get_loop()).is_closed():
            loop.call_soon_threadsafe(self._settle)

    def _settle(self) -> None:
        if self._received is not None and self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(self._received)


@contextmanager
def stop_signal() -> Iterator[StopSignal]:
    """Handle SIGTERM, SIGINT and SIGHUP within the block, unless they are ignored; then restore the handlers.

    Raises :class:`OptionError` outside the main thread, where Python takes no signals, and within a running event loop,
    such as a notebook's, which could not run a server's beside it.
    """
    if asyncio._get_running_loop() is not None:
        raise OptionError(
            "a server cannot be run within a running event loop", hint="start it in a process of its own: mindfl server"
        )
    stopping = StopSignal()
    previous = {number: signal.getsignal(number) for number in _STOPPING}
    handled = [number for number, handler in previous.items() if handler is not signal.SIG_IGN]
    try:
        for number in handled:
            signal.signal(number, stopping.note)
    except ValueError:
        raise OptionError("a server can be run from the main thread of a process only") from None
    try:
        yield stopping
    finally:
        for number in handled:
            signal.signal(number, signal.SIG_DFL if previous[number] is None else previous[number])


def _folder() -> Path:
    return cache_dir() / "servers"


def _record(address: str) -> Path:
    return _folder() / f"{address.replace(':', '_')}.json"
