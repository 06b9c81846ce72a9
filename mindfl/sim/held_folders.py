"""The folders that a job writes to, held against other jobs while it works."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from mindfl.errors import SimulationError
from mindfl.files import make_dir, remove_leftovers
from mindfl.locks import acquire, holder
from mindfl.sim.config import JobConfig

#: folders in a work folder that are written to as well
_BELOW = ("processes", "federated")


@contextmanager
def locked(folder: Path, option: str = "work_dir") -> Iterator[None]:
    """Keep other jobs from working in ``folder``, which ``option`` names.

    Removes what killed writers left there. Raises :class:`SimulationError` where another job works in it already.
    """
    path = make_dir(folder) / ".lock"
    lock = acquire(path)
    if lock is None:
        raise SimulationError(
            f"another run is working in {folder}: {holder(path)}", hint=f"wait for it, or choose another --{option}"
        )
    with lock:
        remove_leftovers((folder, *map(folder.joinpath, _BELOW)))
        yield


@contextmanager
def model_folders(config: JobConfig) -> Iterator[None]:
    """Hold the folders of the job's model files, which other jobs may share; the caller holds the work folder.

    Each folder is held once, whatever paths name it. Raises :class:`SimulationError` naming the one in which another
    job works. Nothing waits for a lock, so two jobs with the same folders never wait for each other.
    """
    options = {config.models: "train_model_path"}
    if config.infer_model_path is not None and config.writes_client_models:
        options.setdefault(config.infer_model_path, "infer_model_path")
    held = {os.path.realpath(config.work_dir)}
    with ExitStack() as locks:
        for folder, option in options.items():
            if (real := os.path.realpath(folder)) not in held:
                held.add(real)
                locks.enter_context(locked(folder, option))
        yield
