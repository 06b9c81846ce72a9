"""The folder that a real stack writes into."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mindfl.errors import SimulationError, StorageError
from mindfl.locks import acquire, holder

#: what a run leaves there, and the next one removes
_MADE = ("fl.yaml", "model.npz", "*.log", "redis", "scheduler", "server_*", "tls")


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold ``folder`` for one stack; raise :class:`SimulationError` where another one has it."""
    path = folder / "lock"
    lock = acquire(path)
    if lock is None:
        raise SimulationError(
            f"another real server runs in {folder.parent}: {holder(path)}",
            hint="stop it, or choose another --work_dir",
        )
    with lock:
        yield


def clear(folder: Path) -> None:
    """Remove what an earlier run left in ``folder``. Raises :class:`StorageError`."""
    try:
        for pattern in _MADE:
            for path in folder.glob(pattern):
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path)
                else:
                    path.unlink()
    except OSError as error:
        raise StorageError.from_os_error(error, "remove", error.filename or folder) from None
