"""Records of processes that others find while these live: a file, and a lock that is free once they are dead."""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from pathlib import Path

from mindfl.errors import StorageError
from mindfl.files import make_dir, write_atomic


class Presence:
    """The record of this process in the file ``path``, to be read by this user only.

    It begins with :meth:`write` and ends with :meth:`close`, or the death of the process. Waits where another process
    has the same ``path``. Methods raise :class:`StorageError`.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        make_dir(path.parent)
        self._lock = _take(_lock_of(path))

    def write(self, text: str) -> None:
        """Replace what others read."""
        write_atomic(self._path, text, private=True)

    def close(self) -> None:
        """Remove the record."""
        _remove(self._path)
        os.close(self._lock)


def is_alive(path: Path) -> bool:
    """Say whether the process whose record is ``path`` lives; the record of a dead one is removed."""
    try:
        handle = os.open(_lock_of(path), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError:
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


def living(folder: Path) -> list[str]:
    """Return what the processes with a record in ``folder`` that live have written, by the names of the files."""
    texts = []
    for path in sorted(folder.glob("*.json")):
        with suppress(OSError, ValueError):
            if is_alive(path):
                texts.append(path.read_text("utf-8"))
    return texts


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
    for each in (path, _lock_of(path)):
        with suppress(OSError):
            each.unlink()


def _lock_of(path: Path) -> Path:
    return path.with_suffix(".lock")
