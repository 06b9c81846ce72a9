"""Records of processes that others find while these live: a file, and a lock that is free once they are dead."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from mindfl.errors import StorageError
from mindfl.files import make_dir, write_atomic
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
        """Replace what others read."""
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
    """Return what the processes with a record in ``folder`` that live have written, by the names of the files."""
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
