"""The storage of a durable job: a snapshot, and the journal of all events since; in a folder, or elsewhere.

A folder is held by one process, with disk space reserved for writes that must not fail.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from mindfl.errors import StorageError
from mindfl.files import PathLike, atomic_path, make_dir, read_file, remove_leftovers
from mindfl.locks import Lock, acquire, holder
from mindfl.server.events import Buffer
from mindfl.server.journal import Journal
from mindfl.server.segment import Record
from mindfl.server.state import JobState

_log = logging.getLogger(__name__)

SNAPSHOT = "snapshot"
_MARGIN = 1 << 16

Replay = Callable[[int, bytes], None]


@dataclass(frozen=True, eq=False)
class Memory:
    """The state of a job in a living process, from which it resumes if its storage is lost.

    ``busy``: clients may have started in the running iteration. ``job`` and ``position`` name the job and the end of
    its journal, where the process knows them.
    """

    state: JobState
    busy: bool = True
    job: bytes = b""
    position: int = 0


class EventJournal(Protocol):
    """Records in the order in which they were appended; see :class:`mindfl.server.journal.Journal`."""

    @property
    def cut(self) -> int:
        """Bytes of a torn end that were cut off when the journal was opened."""

    def append(self, record: Record, *, vital: bool = False) -> int:
        """Append a record and return the position after it."""

    def durable(self, position: int) -> Future[None] | None:
        """Return None if everything before ``position`` is safe, else a future that is done when it is."""

    def rotate(self) -> int:
        """Begin a new part of the journal, if it has parts, and return the position of the next record.

        Records before it can be dropped together.
        """

    def drop_before(self, position: int) -> None:
        """Forget the records before ``position``."""

    def close(self) -> None:
        """Make all appended records durable, and end."""


class Storage(Protocol):
    """A place for one job, held by one process. Methods raise :class:`StorageError`."""

    @property
    def place(self) -> str:
        """Its name in errors."""

    @property
    def prompt(self) -> bool:
        """Whether appending to the journal takes microseconds as a rule, so that an event loop may do it."""

    @property
    def away(self) -> bool:
        """Whether the place cannot be reached just now."""

    def load(self) -> bytes | None:
        """Return the snapshot, or None where nothing is stored."""

    def save(self, parts: Sequence[Buffer]) -> None:
        """Store a snapshot in place of the one before: safely, and whole or not at all."""

    def open_journal(self, job: bytes, start: int, replay: Replay) -> EventJournal:
        """Return the journal of ``job`` (16 bytes); ``replay`` is given its records from ``start`` on."""

    def set_reserve(self, size: int) -> None:
        """Set space aside for ``size`` bytes, for writes that must not fail."""

    def spending(self) -> AbstractContextManager[None]:
        """Release that space for writes inside the context."""

    def close(self) -> None:
        """Let others have the place."""


def private_dir(path: PathLike) -> Path:
    """Create ``path`` if it is missing, for this user only: it will hold uploads of single clients."""
    new = not Path(path).exists()
    folder = make_dir(path)
    if new:
        folder.chmod(0o700)
    return folder


class StateFolder:
    """A folder that belongs to this process until :meth:`close` or the death of the process.

    Raises :class:`StorageError` if it cannot be made or written, or another process holds it (naming that).
    """

    def __init__(self, path: PathLike) -> None:
        self.path = private_dir(path)
        self._held = self._hold()
        self._lock = threading.Lock()
        self._reserve_size = _MARGIN
        self._reserved = self._spending = False
        remove_leftovers([self.path])

    def _hold(self) -> Lock:
        path = self.path / "lock"
        lock = acquire(path)
        if lock is None:
            raise StorageError(
                f"the state folder {self.path} is in use by {holder(path)}",
                hint="stop that server, or choose another folder",
            )
        return lock

    @property
    def reserved(self) -> bool:
        """Whether the space is reserved."""
        return self._reserved

    def set_reserve(self, size: int) -> None:
        """Reserve ``size`` bytes and a margin from now on."""
        self._reserve_size = size + _MARGIN
        if not self.reserve():
            _log.warning("%s has no room to set aside for the ends of iterations: free some space", self.path)

    def reserve(self) -> bool:
        """Reserve the space if it is not, and return whether it is now."""
        if self._reserved:
            return True
        with self._lock:
            if not self._spending:
                self._reserved = self._allocate()
            return self._reserved

    def release(self) -> None:
        """Release the reserved space, so that something may be written."""
        with self._lock:
            self._remove_reserve()

    @contextmanager
    def spending(self) -> Iterator[None]:
        """Release the reserved space for writes inside; afterwards reserve it again if possible."""
        with self._lock:
            self._spending = True
            self._remove_reserve()
        try:
            yield
        finally:
            self._spending = False
            self.reserve()

    def _allocate(self) -> bool:
        try:
            handle = os.open(self.path / "reserve", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            try:
                os.posix_fallocate(handle, 0, self._reserve_size)
            finally:
                os.close(handle)
        except OSError:
            self._remove_reserve()
            return False
        return True

    def _remove_reserve(self) -> None:
        self._reserved = False
        with suppress(OSError):
            (self.path / "reserve").unlink()

    def sync(self) -> None:
        """Make the names in the folder durable: files created, renamed and removed so far."""
        try:
            handle = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)
        except OSError as error:
            raise StorageError.from_os_error(error, "write", self.path) from None

    def file(self, name: str) -> Path:
        """Return the path of a file in the folder."""
        return self.path / name

    def close(self) -> None:
        """Release the folder."""
        self._held.close()


class FolderStorage(StateFolder):
    """A job in a folder."""

    @property
    def place(self) -> str:
        """The folder's path."""
        return str(self.path)

    @property
    def prompt(self) -> bool:
        """True: the operating system takes each record at once."""
        return True

    @property
    def away(self) -> bool:
        """False: a folder is always in reach."""
        return False

    def load(self) -> bytes | None:
        """Read the file of the snapshot."""
        path = self.file(SNAPSHOT)
        if path.exists():
            return read_file(path)
        if any(self.path.glob("journal-*")):
            raise StorageError(
                f"{path} is missing, though there is a journal", hint="restore it, or choose another state folder"
            )
        return None

    def save(self, parts: Sequence[Buffer]) -> None:
        """Replace the file of the snapshot."""
        path = self.file(SNAPSHOT)
        try:
            with atomic_path(path) as temporary, temporary.open("wb") as file:
                for part in parts:
                    file.write(part)
        except OSError as error:
            raise StorageError.from_os_error(error, "write", path) from None
        self.sync()

    def open_journal(self, job: bytes, start: int, replay: Replay) -> Journal:
        """Open the folder's journal."""
        return Journal(self, job, start, replay)
