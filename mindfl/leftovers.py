"""Temporary files and folders, and those that killed processes left behind.

Each is locked by the process that works in it. A lock that is free tells that this process is dead: only then another
one removes the file or folder, so never where the file system has no locks.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mindfl.locks import Lock, lock_handle

#: what :func:`temporary_file` appends to a name, which it may cut
_TAIL = re.compile(r"\.[a-z0-9_]{3,}\.tmp")
_LONGEST = 64
#: endings of the files that mindfl writes: other programs have temporary files of their own
_ENDINGS = (
    *(".ckpt", ".csv", ".json", ".jsonl", ".log", ".md", ".mindir", ".ms", ".npz", ".pem", ".png", ".properties"),
    *(".snapshot", ".txt", ".yaml"),
)


@contextmanager
def temporary_file(target: Path, *, mode: int) -> Iterator[Path]:
    """Yield a new empty file beside ``target``, which is removed in the end where it is still there.

    Its permissions are ``mode`` less the umask.

    Those that killed writers of ``target`` left are removed. Raises ``OSError`` where it cannot be made.
    """
    begin = f".{target.name[:_LONGEST]}"
    with suppress(OSError), os.scandir(target.parent) as entries:  # a folder need not be readable to be written to
        for entry in entries:
            if entry.name.startswith(begin) and _TAIL.fullmatch(entry.name, len(begin)):
                _remove_if_free(Path(entry.path))
    path, lock = _locked_new(lambda: _new_file(begin, target.parent, mode))
    try:
        yield path
    finally:
        with suppress(OSError):
            path.unlink()
        lock.close()


def remove_leftovers(folders: Iterable[Path]) -> None:
    """Remove the temporary files of mindfl's in ``folders`` whose writers are dead; what cannot be removed is left."""
    for folder in folders:
        for path in folder.glob(".*.tmp"):
            name = _TAIL.sub("", path.name)
            if name != path.name and (name.endswith(_ENDINGS) or len(name) == _LONGEST + 1):
                _remove_if_free(path)


@contextmanager
def scratch_folder(name: str, parent: Path | None = None) -> Iterator[Path]:
    """Yield a folder ``<name>.*`` for temporary files, which is removed in the end.

    It lies in ``parent``, by default the system's folder for temporary files. Folders of that name whose processes are
    dead are removed. Raises ``OSError`` where it cannot be made.
    """
    place = Path(tempfile.gettempdir()) if parent is None else parent
    for leftover in place.glob(f"{name}.*"):
        _remove_if_free(leftover)
    folder, lock = _locked_new(lambda: tempfile.mkdtemp(prefix=f"{name}.", dir=place))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        lock.close()


def _new_file(begin: str, folder: Path, mode: int) -> str:
    # The system takes the umask off: to read it would be to set it, for all threads.
    while True:
        path = folder / f"{begin}.{secrets.token_hex(4)}.tmp"
        with suppress(FileExistsError):
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode))
            return str(path)


def _locked_new(make: Callable[[], str]) -> tuple[Path, Lock]:
    while True:
        path = Path(make())
        lock = _lock(path)
        if lock is not None and path.exists():  # else another process took it for a leftover
            return path, lock
        if lock is not None:
            lock.close()


def _remove_if_free(path: Path) -> None:
    with suppress(OSError):
        lock = _lock(path)
        if lock is None:
            return
        with lock:
            if not lock.real or os.fstat(lock.handle).st_uid != os.geteuid():
                return
            if stat.S_ISDIR(os.fstat(lock.handle).st_mode):
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink()


def _lock(path: Path) -> Lock | None:
    """Lock a file or folder that is there; None where it is gone, no such thing, or another process has the lock."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    kind = os.fstat(handle).st_mode
    lock = lock_handle(handle, path, warned=False) if stat.S_ISREG(kind) or stat.S_ISDIR(kind) else None
    if lock is None:
        os.close(handle)
    return lock
