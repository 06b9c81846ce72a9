"""Locks on files and folders. A process holds one until it closes it or dies.

Some file systems have no locks (NFS without its lock daemon, Lustre without the mount option, some FUSE file systems):
a lock that cannot be had is not one that another process holds. There a warning is given once for each file system, and
the work goes on.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
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
#: file systems without locks that a warning has named
_named: set[int] = set()


@dataclass(frozen=True, slots=True)
class Lock:
    """A lock that this process holds until :meth:`close`, or the end of a ``with`` block.

    ``handle`` can be passed on to a child process, which then holds the lock as well. ``real`` is False where the file
    system has no locks: then other processes may believe that they hold it too.
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
    """Lock the file ``path``, which is made if missing and tells others who holds it (:func:`holder`).

    Returns None where another process, or another job of this one, holds the lock. Raises :class:`StorageError` where
    the file cannot be opened.
    """
    return _acquired(path, wait=False, private=False)


def _acquired(path: Path, *, wait: bool, private: bool) -> Lock | None:
    lock = _lock_file(path, wait=wait, mode=0o600 if private else 0o666)
    if lock is not None:
        # Where the disk is full others see that the lock is held, but not by whom.
        with suppress(OSError):
            os.ftruncate(lock.handle, 0)
            os.pwrite(lock.handle, f"{os.getpid()} {socket.gethostname()}\n".encode(), 0)
    return lock


def awaited(path: Path, *, private: bool = False) -> Lock:
    """Lock the file ``path`` as :func:`acquire` does, waiting for the process that holds it."""
    lock = _acquired(path, wait=True, private=private)
    assert lock is not None
    return lock


def probe(path: Path) -> Lock | None:
    """Lock the file ``path`` for a moment without a note of who holds it; None where another process holds it.

    Raises :class:`StorageError` where it cannot be opened.
    """
    return _lock_file(path, wait=False, mode=0o600)


def lock_handle(handle: int, path: Path, *, wait: bool = False, warned: bool = True) -> Lock | None:
    """Lock the open file or folder ``handle`` of ``path``; return None where another process holds the lock.

    Without ``warned`` the file system's lack of locks is not mentioned.
    """
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return None
    except OSError as error:
        if warned:
            _warn(handle, path, error)
        return Lock(handle, real=False)
    return Lock(handle, real=True)


def holder(path: Path) -> str:
    """Return who holds the lock file ``path``, such as "the process 123", or "the process 123 on HOST"."""
    words = _note(path)
    if not words:
        return "another process"
    elsewhere = f" on {words[1]}" if len(words) > 1 and words[1] != socket.gethostname() else ""
    return f"the process {words[0]}{elsewhere}"


def holder_lives(path: Path) -> bool:
    """Say whether the process that last locked the file ``path`` runs on this machine: for locks that are not real."""
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
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, mode)
        except OSError as error:
            raise StorageError.from_os_error(error, "open", path) from None
        try:
            lock = lock_handle(handle, path, wait=wait)
        except BaseException:
            os.close(handle)
            raise
        if lock is None:
            os.close(handle)
            return None
        # The process that held it before may have removed the file meanwhile: then the lock is worth nothing.
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(handle), path.stat()):
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
        f"{path} cannot be locked ({error.strerror}), so other processes are not kept out: let no two of them work in"
        f" {path.parent} at the same time, or choose a folder on another file system"
    )
