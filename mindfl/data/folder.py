"""Filling an output folder all at once: everything is written to a hidden folder inside it and moved up at the end.

Writing inside the output (not beside it) keeps to its file system and its permissions, so a mount point works too.
While the entries are moved, the hidden folder is named ``.mindfl-moving-*`` and readers refuse the data set; a move
that was cut short is completed by the next run.
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
from mindfl.files import make_dir, new_locked, open_file
from mindfl.locks import Lock, open_locked

_STAGING = ".mindfl-staging-"
_MOVING = ".mindfl-moving-"


def unfinished(folder: Path) -> bool:
    """Say whether the move into ``folder`` was cut short (or is going on right now)."""
    return any(folder.glob(f"{_MOVING}*"))


def recovered(output: Path) -> bool:
    """Complete or undo what a killed run began in ``output``, and say whether there is anything in it.

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


@contextmanager
def filled_folder(output: Path) -> Iterator[Path]:
    """Yield a staging folder whose content appears in ``output`` on success and is deleted on any error.

    Raises :class:`OptionError` where ``output`` is a file or not empty, and :class:`StorageError` for any ``OSError``.
    """
    created: list[Path] = []
    try:
        if output.exists() and not output.is_dir():
            raise OptionError(f"the output {output} is a file", hint="name a folder")
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


def _require_empty(output: Path) -> None:
    if _holds_anything(output):
        raise OptionError(f"the output folder {output} is not empty", hint="choose another folder, or empty this one")


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
    with suppress(FileNotFoundError):  # where there are no locks, the process that began the move may still be at it
        for entry in staging.iterdir():
            entry.rename(staging.parent / entry.name)
        staging.rmdir()


def _recover(output: Path) -> None:
    """Complete a move, and delete what an unfinished run left, where the process that did it is gone."""
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
    """Return the content of ``path``; raise :class:`DataError`, beginning with ``owner``, for whatever is wrong."""
    try:
        with open_file(path) as file:
            return json.load(file)
    except OSError as error:
        raise DataError(f"{owner}: cannot read {path}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{owner}: {path} is not valid JSON: {str(error)[:200]}") from None
