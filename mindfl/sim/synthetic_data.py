"""The synthetic data of a work folder: drawn once, and again where they are not as they were drawn."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from mindfl.data import make_synthetic
from mindfl.data.folder import recovered
from mindfl.errors import StorageError
from mindfl.files import write_atomic
from mindfl.options.job import DataForm

_CHUNK = 1 << 20


def synthetic_data(
    folder: Path, users: int, seed: int, form: DataForm, *, warn: Callable[[str], None], progress: bool = True
) -> None:
    """Let the synthetic data of ``users`` writers be in ``folder``.

    They are drawn where they are missing. Where their content is not that of the checksum beside ``folder``, they are
    drawn again; if that gives other data, what was there is kept under another name, which ``warn`` is told. Raises
    :class:`StorageError`.
    """

    def draw() -> str:
        make_synthetic(folder, users=users, seed=seed, format=form, progress=progress)
        drawn = _checksum(folder)
        write_atomic(_note(folder), json.dumps({"sha256": drawn}) + "\n")
        return drawn

    if not recovered(folder):
        draw()
        return
    found = _checksum(folder)
    if found == _noted(folder):
        return
    aside = _put_aside(folder)
    if draw() == found:  # mindfl 0.1.0 left no checksum
        shutil.rmtree(aside, ignore_errors=True)
    else:
        warn(f"the synthetic data in {folder} are not as they were drawn: drawn again, and what was there is {aside}")


def _note(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.json")


def _noted(folder: Path) -> str | None:
    try:
        noted = json.loads(_note(folder).read_text("utf-8"))["sha256"]
    except (OSError, ValueError, LookupError, TypeError):
        return None
    return str(noted)


def _put_aside(folder: Path) -> Path:
    number = 1
    while (aside := folder.with_name(f"{folder.name}.changed{number}")).exists():
        number += 1
    try:
        return folder.rename(aside)
    except OSError as error:
        raise StorageError.from_os_error(error, "rename", folder) from None


def _checksum(folder: Path) -> str:
    """Return the SHA-256 of the names and contents of the files in ``folder``, hidden ones left out."""
    digest = hashlib.sha256()
    try:
        for path in sorted(folder.rglob("*")):
            name = path.relative_to(folder)
            if path.is_file() and not any(part.startswith(".") for part in name.parts):
                digest.update(os.fsencode(name) + b"\0%d\0" % path.stat().st_size)
                with path.open("rb") as file:
                    while chunk := file.read(_CHUNK):
                        digest.update(chunk)
    except OSError as error:
        raise StorageError.from_os_error(error, "read", error.filename or folder) from None
    return digest.hexdigest()
