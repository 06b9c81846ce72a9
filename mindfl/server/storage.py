"""The storage of a durable job: a snapshot, and the journal of all events since."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from mindfl.errors import StorageError
from mindfl.files import atomic_path, read_file
from mindfl.server.events import Buffer
from mindfl.server.journal import Journal
from mindfl.server.segment import Record
from mindfl.server.state import JobState
from mindfl.server.state_folder import StateFolder

SNAPSHOT = "snapshot"

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
