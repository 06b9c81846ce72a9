"""Locks on files and folders. A process holds a lock until it closes it or dies.

Some file systems have no locks (NFS without its lock daemon, Lustre without the mount option, some FUSE file systems).
On these a warning is given once for each file system, and the work continues without a lock.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from mindfl.errors import StorageError
from mindfl.notices import warn

if TYPE_CHECKING:
    from typing_extensions import Self

_HOLDER_BYTES = 300
#: how often a lock that others look at is tried, and the time between
_TRIES, _LOOK_SECONDS = 1000, 0.001
#: file systems without locks that a warning has named
_named: set[int] = set()


@dataclass(frozen=True, slots=True)
class Lock:
    """A lock that this process holds until :meth:`close`, or the end of a ``with`` block.

    ``handle`` can be passed on to a child process, which then holds the lock too. ``real`` is False if the file system
    has no locks: other processes may then hold the same lock.
    """

    handle: int
    real: bool

    def close(self) -> None:
        """Release the lock."""
        os.close(self.handle)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def acquire(path: Path) -> Lock | None:
    """Lock the file ``path``, create it if missing, and write the holder into it (:func:`holder`).

    Returns None if another process, or another job of this process, holds the lock. Raises :class:`StorageError` if the
    file cannot be opened.
    """
    return _acquired(path, wait=False, private=False)


def _acquired(path: Path, *, wait: bool, private: bool) -> Lock | None:
    lock = _lock_file(path, wait=wait, mode=0o600 if private else 0o666)
    if lock is not None:
        # On a full disk others see that the lock is held, but not by which process.
        with suppress(OSError):
            os.ftruncate(lock.handle, 0)
            os.pwrite(lock.handle, f"{os.getpid()} {socket.gethostname()}\n".encode(), 0)
    return lock


def awaited(path: Path, *, private: bool = False) -> Lock:
    """Lock the file ``path`` as :func:`acquire` does, but wait until it is free."""
    lock = _acquired(path, wait=True, private=private)
    assert lock is not None
    return lock


def probe(path: Path) -> Lock | None:
    """Lock the file ``path`` for a moment without naming the holder; None if another process holds it.

    Raises :class:`StorageError` if the file cannot be opened.
    """
    return _lock_file(path, wait=False, mode=0o600)


def open_locked(path: Path, flags: int, *, mode: int = 0o666, wait: bool = False, warned: bool = True) -> Lock | None:
    """Open the file or folder ``path`` and lock it; return None if another process holds the lock.

    With ``warned=False`` there is no warning about a file system without locks. Raises ``OSError`` if ``path`` cannot
    be opened.
    """
    handle = os.open(path, flags | os.O_CLOEXEC, mode)
    try:
        lock = _lock_handle(handle, path, wait=wait, warned=warned)
    except BaseException:
        os.close(handle)
        raise
    if lock is None:
        os.close(handle)
    return lock


def _lock_handle(handle: int, path: Path, *, wait: bool, warned: bool) -> Lock | None:
    try:
        if wait:
            fcntl.flock(handle, fcntl.LOCK_EX)
        elif not _taken(handle):
            return None
    except OSError as error:
        if warned:
            _warn(handle, path, error)
        return Lock(handle, real=False)
    return Lock(handle, real=True)


def _taken(handle: int) -> bool:
    """Lock the open file, unless another process holds it; :func:`is_held`, which looks for a moment, is no such."""
    for _ in range(_TRIES):
        with suppress(BlockingIOError):
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        fcntl.flock(handle, fcntl.LOCK_UN)
        time.sleep(_LOOK_SECONDS)
    return False


def is_held(path: Path) -> bool:
    """Return whether a process holds the lock file ``path``; on a file system without locks, whether it may.

    Writes nothing, and keeps no other process from the lock.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return holder_lives(path)
    finally:
        os.close(handle)
    return False


def holder(path: Path) -> str:
    """Return the holder of the lock file ``path``: "the process 123" or "the process 123 on HOST"."""
    words = _note(path)
    if not words:
        return "another process"
    elsewhere = f" on {words[1]}" if len(words) > 1 and words[1] != socket.gethostname() else ""
    return f"the process {words[0]}{elsewhere}"


def holder_lives(path: Path) -> bool:
    """Return whether the last holder of ``path`` runs on this machine; for file systems without locks."""
    words = _note(path)
    try:
        os.kill(int(words[0]), 0)
    except (LookupError, ValueError, ProcessLookupError):
        return False
    except OSError as error:
        return error.errno == errno.EPERM  # it is another user's
    return True


def _lock_file(path: Path, *, wait: bool, mode: int) -> Lock | None:
    while True:
        try:
            lock = open_locked(path, os.O_RDWR | os.O_CREAT, mode=mode, wait=wait)
        except OSError as error:
            raise StorageError.from_os_error(error, "open", path) from None
        if lock is None:
            return None
        # If the previous holder removed the file meanwhile, this lock is on a deleted file.
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(lock.handle), path.stat()):
                return lock
        lock.close()


def _note(path: Path) -> list[str]:
    try:
        with path.open("rb") as file:
            return file.read(_HOLDER_BYTES).decode(errors="replace").split()
    except OSError:
        return []


def _warn(handle: int, path: Path, error: OSError) -> None:
    device = os.fstat(handle).st_dev
    if device in _named:
        return
    _named.add(device)
    warn(
        f"{path} cannot be locked ({error.strerror}), so other processes are not kept out: do not run two processes in"
        f" {path.parent} at the same time, or choose a folder on another file system"
    )
