"""Compiled kernels. Get them through :func:`load_machine`, which keeps the compiled code in mindfl's cache folder."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mindfl.files import cache_dir


class Machine(NamedTuple):
    """The two entries of the kernel machine; see :mod:`mindfl.lite.kernels.machine`."""

    train: Callable[..., None]
    predict: Callable[..., None]


_loading = threading.Lock()


def load_machine() -> Machine:
    """Return the compiled machine, compiling it (about 20 s, once per machine and version) where no cache holds it."""
    with _loading:
        return _machine()


def is_cached() -> bool:
    """Say whether compiled kernels for this version lie in the cache folder."""
    return any(_folder().rglob("*.nbc")) if _folder().is_dir() else False


@cache
def _machine() -> Machine:
    import numba

    before = numba.config.CACHE_DIR
    numba.config.CACHE_DIR = _writable_folder()
    try:
        from mindfl.lite.kernels import machine as compiled
    finally:
        numba.config.CACHE_DIR = before
    loaded = Machine(compiled.train, compiled.predict)
    _compile(loaded)
    return loaded


def _compile(loaded: Machine) -> None:
    """Run both entries on an empty program, so that compiling never happens in a worker thread."""
    floats, table = np.zeros(64, np.float32), np.zeros(1, np.int32)
    code, place = np.zeros((0, _row()), np.int64), np.array([0, 1, 1, 16, 0], np.int64)
    images, labels, one = np.zeros((1, 1), np.float32), np.zeros(1, np.int32), np.zeros(1, np.float32)
    for entry, arguments in (
        (loaded.train, (floats, table, code, images, labels, place, one)),
        (loaded.predict, (floats, table, code, images, place, np.zeros((1, 1), np.float32))),
    ):
        try:
            entry(*arguments)
        except OSError:  # the compiled code could not be saved (disk full); it is loaded all the same
            entry(*arguments)


def _row() -> int:
    from mindfl.lite.kernels.opcodes import ROW

    return ROW


def _folder() -> Path:
    """Return the cache folder of exactly these sources: numba itself notices changes of one file only."""
    digest = hashlib.sha256()
    for source in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(source.read_bytes())
    return cache_dir() / "kernels" / digest.hexdigest()[:16]


def _writable_folder() -> str:
    """Return the cache folder, or one that lasts as long as the process where that cannot be written."""
    import tempfile

    folder = _folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if os.access(folder, os.W_OK):
            return str(folder)
    except OSError:
        pass
    return tempfile.mkdtemp(prefix="mindfl-kernels-")


__all__ = ["Machine", "is_cached", "load_machine"]
