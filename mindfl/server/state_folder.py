"""The state folder of a server: held by one process, with disk space reserved for writes that must not fail."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mindfl.errors import StorageError
from mindfl.files import PathLike, make_dir, remove_leftovers
from mindfl.locks import Lock, acquire, holder

_log = logging.getLogger(__name__)

_MARGIN = 1 << 16


def private_dir(path: PathLike) -> Path:
    """Create ``path`` if it is missing, for this user only: it will hold uploads of single clients."""
    new = not Path(path).exists()
    folder = make_dir(path)
    if new:
        folder.chmod(0o700)
    return folder


class StateFolder:
    """A folder that belongs to this process until :meth:`close` or the death of the process.

    Raises :class:`StorageError` where it cannot be made or written, or another process holds it (naming that).
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
