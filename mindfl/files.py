"""Writing files so that a crash, a full disk or Ctrl-C never leaves half of one behind, and temporary files.

A process locks each temporary file and folder that it works in. If the lock is free, the process is dead and another
process may remove the leftover. On file systems without locks leftovers are never removed.
"""

from __future__ import annotations

import errno
import hashlib
import io
import os
import re
import secrets
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import BinaryIO

from mindfl.errors import OptionError, StorageError
from mindfl.locks import Lock, open_locked
from mindfl.notices import warn
from mindfl.spelling import check_path

PathLike = str | os.PathLike[str]
_CHUNK = 1 << 20


def cache_dir() -> Path:
    """Return the folder for downloads and compiled kernels: ``MINDFL_CACHE``, else the user's cache folder.

    If there is no home folder, or no cache can be created in it, a folder of this user among the temporary files is
    used, with one warning. Raises :class:`StorageError` if ``MINDFL_CACHE`` or all of these cannot be used.
    """
    base = os.environ.get("MINDFL_CACHE")
    try:
        if base:
            return Path(base).expanduser().absolute()
        usual = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mindfl"
    except RuntimeError:
        if base:
            raise StorageError(
                f"there is no home folder for MINDFL_CACHE={base}", hint="set MINDFL_CACHE to a folder, written out"
            ) from None
        return _temporary_cache("there is no home folder")
    return usual if usual.exists() or _may_be_made(usual) else _temporary_cache(f"{usual} cannot be created")


def _may_be_made(folder: Path) -> bool:
    try:
        existing = next(parent for parent in folder.parents if parent.exists())
    except OSError:  # a parent that cannot be listed
        return False
    return existing.is_dir() and os.access(existing, os.W_OK | os.X_OK)


@cache
def _temporary_cache(reason: str) -> Path:
    """Return this user's cache among the temporary files; no other user may own it."""
    try:
        folder = Path(tempfile.gettempdir(), f"mindfl-{os.getuid()}")
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
    except OSError as error:
        raise StorageError(f"{reason}, and no temporary folder: {error.strerror}", hint="set MINDFL_CACHE") from None
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise StorageError(f"{reason}, and {folder} belongs to another user", hint="set MINDFL_CACHE to a folder")
    warn(f"{reason}: downloads and compiled kernels are kept in {folder} (set MINDFL_CACHE to a folder of your own)")
    return folder


def local_path(path: PathLike) -> Path:
    """Return ``path`` with ``~`` replaced by the home folder.

    Raises :class:`OptionError` if there is no home folder, for an empty path, and for what is no path.
    """
    check_path(path, "a path")
    if not isinstance(path, str | os.PathLike):
        raise OptionError(f"a path must be a text or a Path, got {str(path)[:60]}")
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise OptionError(f"cannot use the path {os.fspath(path)}: {error}") from None


def make_dir(path: PathLike) -> Path:
    """Create ``path`` and its parents if missing. Raises :class:`StorageError` if that fails."""
    check_path(path, "the path of a folder")
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError.from_os_error(error, "create folder", folder) from None
    return folder


@contextmanager
def atomic_path(path: PathLike, *, private: bool = False, durable: bool = True) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; on success it replaces ``path``, on any error it is removed.

    Creates missing parent folders. A ``private`` file can be read by this user only. The file is flushed to disk before
    the rename, so ``path`` is either the old content or the whole new one; without ``durable`` that holds for a killed
    process, but not for a power failure. Raises :class:`StorageError` for any ``OSError``.
    """
    check_path(path, "the path of a file to write")
    target = Path(path)
    make_dir(target.parent)
    try:
        with temporary_file(target, mode=0o600 if private else 0o666) as temporary:
            yield temporary
            if durable:
                with temporary.open("rb+") as file:
                    os.fsync(file.fileno())
            temporary.replace(target)
    except OSError as error:
        raise StorageError.from_os_error(error, "write", target) from None


def write_atomic(path: PathLike, content: bytes | str, *, private: bool = False, durable: bool = True) -> None:
    """Write ``content`` (text as UTF-8) to ``path`` through :func:`atomic_path`."""
    with atomic_path(path, private=private, durable=durable) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)


def append_to(path: PathLike, content: bytes | str) -> None:
    """Append ``content`` (text as UTF-8) to ``path`` at once; where that fails the file is cut back to what it was.

    Raises :class:`StorageError` for any ``OSError``.
    """
    added = content.encode() if isinstance(content, str) else content
    try:
        with Path(path).open("ab", buffering=0) as file:
            size = file.seek(0, io.SEEK_END)
            try:
                written = 0
                while written < len(added):
                    written += file.write(added[written:])
            except OSError:
                file.truncate(size)
                raise
    except OSError as error:
        raise StorageError.from_os_error(error, "write", path) from None


def open_file(path: PathLike) -> BinaryIO:
    """Open ``path`` for reading. Raises ``OSError``, also for pipes and devices, which may never end."""
    check_path(path, "the path of a file to read")
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    kind = os.fstat(handle).st_mode
    if not stat.S_ISREG(kind):
        os.close(handle)
        if stat.S_ISDIR(kind):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
        raise OSError(errno.EINVAL, "it is not a regular file", os.fspath(path))
    return os.fdopen(handle, "rb")


def read_file(path: PathLike) -> bytes:
    """Return the bytes of ``path``. Raises :class:`StorageError` naming it if it cannot be read."""
    try:
        with open_file(path) as file:
            return file.read()
    except OSError as error:
        raise StorageError.from_os_error(error, "read", path) from None


def file_digest(path: PathLike) -> str:
    """Return the SHA-256 (hex) of a file. Raises :class:`StorageError` if the file cannot be read."""
    digest = hashlib.sha256()
    try:
        with open_file(path) as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
    except OSError as error:
        raise StorageError.from_os_error(error, "read", path) from None
    return digest.hexdigest()


def remove_file(path: PathLike) -> None:
    """Remove ``path`` if it exists. Raises :class:`StorageError` naming it if that fails."""
    try:
        Path(path).unlink(missing_ok=True)
    except OSError as error:
        raise StorageError.from_os_error(error, "remove", path) from None


#: what :func:`temporary_file` appends to a name, which it may cut
_TAIL = re.compile(r"\.[a-z0-9_]{3,}\.tmp")
_LONGEST = 64
#: endings of the files that mindfl writes: other programs have temporary files of their own
_ENDINGS = (
    *(".ckpt", ".csv", ".json", ".jsonl", ".log", ".md", ".mindir", ".ms", ".npz", ".pem", ".png", ".properties"),
    *(".mindfl", ".snapshot", ".txt", ".yaml"),
)


@contextmanager
def temporary_file(target: Path, *, mode: int) -> Iterator[Path]:
    """Yield a new empty file beside ``target``; it is removed at the end of the block unless it was renamed.

    Its permissions are ``mode`` without the bits of the umask. Temporary files of ``target`` that killed processes left
    are removed. Raises ``OSError`` if the file cannot be created.
    """
    begin = f".{target.name[:_LONGEST]}"
    with suppress(OSError), os.scandir(target.parent) as entries:  # a folder need not be readable to be written to
        for entry in entries:
            if entry.name.startswith(begin) and _TAIL.fullmatch(entry.name, len(begin)):
                _remove_if_free(Path(entry.path))
    path, lock = new_locked(lambda: _new_file(begin, target.parent, mode))
    try:
        yield path
    finally:
        with suppress(OSError):
            path.unlink()
        lock.close()


def remove_leftovers(folders: Iterable[Path]) -> None:
    """Remove mindfl's temporary files in ``folders`` whose processes are dead. Errors are ignored."""
    for folder in folders:
        for path in folder.glob(".*.tmp"):
            name = _TAIL.sub("", path.name)
            if name != path.name and (name.endswith(_ENDINGS) or len(name) == _LONGEST + 1):
                _remove_if_free(path)


@contextmanager
def scratch_folder(name: str, parent: Path | None = None) -> Iterator[Path]:
    """Yield a new folder ``<name>.*`` for temporary files, and remove it at the end of the block.

    It is created in ``parent``, by default the system's folder for temporary files. Folders of that name whose
    processes are dead are removed. Raises ``OSError`` if the folder cannot be created.
    """
    place = Path(tempfile.gettempdir()) if parent is None else parent
    for leftover in place.glob(f"{name}.*"):
        _remove_if_free(leftover)
    folder, lock = new_locked(lambda: tempfile.mkdtemp(prefix=f"{name}.", dir=place))
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


def new_locked(make: Callable[[], str]) -> tuple[Path, Lock]:
    """Return the file or folder that ``make`` creates, and its lock."""
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
    """Lock an existing file or folder. Returns None if it is missing, of another type, or locked by another process."""
    try:
        lock = open_locked(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, warned=False)
    except OSError:
        return None
    if lock is not None and stat.S_IFMT(os.fstat(lock.handle).st_mode) not in (stat.S_IFREG, stat.S_IFDIR):
        lock.close()
        return None
    return lock
