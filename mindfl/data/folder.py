"""Fills an output folder atomically: everything is written to a hidden folder inside it and moved up at the end.

The hidden folder is inside the output, not beside it, so file system and permissions are the same and mount points
work. While the entries are moved, it is named ``.mindfl-moving-*`` and readers refuse the data set. The next run
completes an interrupted move.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from mindfl.errors import DataError, OptionError, StorageError
from mindfl.files import PathLike, local_path, make_dir, new_locked, open_file
from mindfl.locks import Lock, open_locked

_STAGING = ".mindfl-staging-"
_MOVING = ".mindfl-moving-"


def unfinished(folder: Path) -> bool:
    """Return whether a move into ``folder`` was interrupted or is in progress."""
    return any(folder.glob(f"{_MOVING}*"))


def recovered(output: Path) -> bool:
    """Complete or undo the work of a killed run in ``output``; return whether ``output`` contains anything.

    Raises :class:`StorageError`.
    """
    try:
        if not output.is_dir():
            return False
        with _locked(output):
            _recover(output)
            return _holds_anything(output)
    except OSError as error:
        raise StorageError.from_os_error(error, "read", error.filename or output) from None


def refuse_filled(output: PathLike) -> None:
    """Raise :class:`OptionError` if ``output`` is a file or not empty: before hours of work for it."""
    folder = local_path(output).absolute()
    _refuse_file(folder)
    if recovered(folder):
        raise _not_empty(folder)


@contextmanager
def filled_folder(output: Path) -> Iterator[Path]:
    """Yield a staging folder whose content appears in ``output`` on success and is deleted on any error.

    Raises :class:`OptionError` if ``output`` is a file or not empty, and :class:`StorageError` for any ``OSError``.
    """
    created: list[Path] = []
    try:
        _refuse_file(output)
        created = _missing_parents(output)
        make_dir(output)
        with _locked(output):
            _recover(output)
            _require_empty(output)
        with _locked_staging(output) as staging:
            yield staging
            with _locked(output):
                _require_empty(output)
                _move_up(staging.rename(staging.with_name(staging.name.replace(_STAGING, _MOVING))))
    except OSError as error:
        raise StorageError.from_os_error(error, "write", error.filename or output) from None
    finally:
        for folder in created:
            with suppress(OSError):  # not empty: the normal case
                folder.rmdir()


def _missing_parents(path: Path) -> list[Path]:
    return [folder for folder in (path, *path.parents) if not folder.exists()]


def _holds_anything(output: Path) -> bool:
    return any(not entry.name.startswith(_STAGING) for entry in output.iterdir())


def _refuse_file(output: Path) -> None:
    if output.exists() and not output.is_dir():
        raise OptionError(f"the output {output} is a file", hint="name a folder")


def _require_empty(output: Path) -> None:
    if _holds_anything(output):
        raise _not_empty(output)


def _not_empty(output: Path) -> OptionError:
    return OptionError(f"the output folder {output} is not empty", hint="choose another folder, or empty this one")


@contextmanager
def _locked_staging(output: Path) -> Iterator[Path]:
    staging, lock = new_locked(lambda: tempfile.mkdtemp(prefix=_STAGING, dir=output))
    try:
        yield staging
    finally:
        shutil.rmtree(staging, ignore_errors=True)
        lock.close()


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    lock = _lock(folder, wait=True)
    try:
        yield
    finally:
        if lock is not None:
            lock.close()


def _move_up(staging: Path) -> None:
    with suppress(FileNotFoundError):  # without locks the process that began the move may still be running
        for entry in staging.iterdir():
            entry.rename(staging.parent / entry.name)
        staging.rmdir()


def _recover(output: Path) -> None:
    """Complete interrupted moves and delete leftovers of processes that are dead."""
    for leftover in (*output.glob(f"{_STAGING}*"), *output.glob(f"{_MOVING}*")):
        lock = _lock(leftover, wait=False)
        if lock is None:
            continue
        with lock:
            if not leftover.name.startswith(_STAGING):
                _move_up(leftover)
            elif lock.real:  # else another process may be writing into it
                shutil.rmtree(leftover, ignore_errors=True)


def _lock(folder: Path, *, wait: bool) -> Lock | None:
    """Lock ``folder``; return None if it is missing or another process holds the lock."""
    try:
        return open_locked(folder, os.O_RDONLY | os.O_DIRECTORY, wait=wait)
    except FileNotFoundError:
        return None


def read_json(path: Path, owner: str) -> Any:
    """Return the content of the JSON file ``path``. Raises :class:`DataError` with ``owner`` as its first words."""
    try:
        with open_file(path) as file:
            return json.load(file)
    except OSError as error:
        raise DataError(f"{owner}: cannot read {path}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{owner}: {path} is not valid JSON: {str(error)[:200]}") from None
