"""The run in a work folder: locks the folder, and checks whether a training may begin or resume there."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from mindfl.errors import DataError, OptionError, SimulationError, StorageError
from mindfl.files import make_dir, remove_file, remove_leftovers
from mindfl.locks import acquire, holder
from mindfl.sim import run_record, run_state
from mindfl.sim.client_memory import remove_memories
from mindfl.sim.config import JobConfig
from mindfl.sim.history import History, IterationRow
from mindfl.sim.run_record import RunRecord
from mindfl.sim.run_state import RunState
from mindfl.spelling import counted
from mindfl.work_files import HISTORY, SWEEP

_CHOICES = "--resume goes on with it, --overwrite replaces it, and another --work_dir leaves it alone"


@dataclass(frozen=True)
class Beginning:
    """Where a training begins: its record, the rows of earlier iterations, and the state after them (None: at 1)."""

    record: RunRecord
    rows: tuple[IterationRow, ...] = ()
    state: RunState | None = None


class RunFolder:
    """Checks and begins the training of ``config`` in its work folder, which the caller has locked.

    ``warn`` reports differences that may change the last bits of a resumed run's weights.
    """

    def __init__(self, config: JobConfig, warn: Callable[[str], None]) -> None:
        self._config = config
        self._warn = warn
        self._history = config.work_dir / HISTORY

    def check(self) -> None:
        """Raise :class:`OptionError` if training would replace a result, or resume a run that left no state.

        The folder of a sweep is refused, too.
        """
        refuse_sweeps(self._config.work_dir)
        if self._config.overwrite:
            return
        recorded, rows = self._recorded(), self._rows_written()
        if self._config.resume and rows and recorded is None:
            raise OptionError(
                f"{self._config.work_dir} holds a run of mindfl 0.1.0, which left no state to go on from",
                hint="--overwrite replaces it",
            )
        if rows and not self._config.resume:
            done = (
                f"{rows} of {recorded.settings.get('iterations')} iterations"
                if recorded
                else counted(rows, "iteration")
            )
            raise OptionError(f"{self._config.work_dir} holds a run of {done}", hint=_CHOICES)

    def begin(self, record: RunRecord) -> Beginning:
        """Write ``config.json`` and return where training begins: ``record`` tells what it would begin with now.

        Raises :class:`OptionError` if the run to resume was made with other settings.
        """
        earlier = self._recorded() if self._config.resume else None
        if earlier is None:
            remove_file(self._config.work_dir / run_state.NAME)
            remove_memories(self._config.work_dir)
            if (self._config.work_dir / "tensorboard").exists():
                from mindfl.tracking.event_files import remove_event_files

                remove_event_files(self._config.work_dir)
            record.write(self._config.work_dir)
            return Beginning(record)
        self._compare(record, earlier)
        state = RunState.load(self._config.work_dir)
        continued = replace(record, began=earlier.began)
        beginning = Beginning(continued) if state is None else Beginning(continued, self._rows(state), state)
        if state is not None and state.iteration > self._config.iterations:
            raise OptionError(
                f"--iterations is {self._config.iterations}, but {state.iteration} are done in {self._config.work_dir}",
                hint="give more, or --overwrite to start again",
            )
        continued.write(self._config.work_dir)
        return beginning

    def save(self, state: RunState) -> None:
        """Keep the state after an iteration."""
        state.save(self._config.work_dir)

    def end(self, record: RunRecord, iterations: int, weights_sha256: str) -> None:
        """Complete ``config.json`` at the end of the run."""
        record.finished(iterations, weights_sha256).write(self._config.work_dir)

    def _recorded(self) -> RunRecord | None:
        path = self._config.work_dir / run_record.NAME
        return RunRecord.load(path) if path.exists() else None

    def _rows_written(self) -> int:
        try:
            return self._history.read_bytes().count(b"\n")
        except FileNotFoundError:
            return 0
        except OSError as error:
            raise StorageError.from_os_error(error, "read", self._history) from None

    def _rows(self, state: RunState) -> tuple[IterationRow, ...]:
        rows = tuple(row for row in History.load(self._history) if row.iteration <= state.iteration)
        if [row.iteration for row in rows] != list(range(1, state.iteration + 1)):
            raise DataError(
                f"{self._history} does not hold the {state.iteration} iterations that were finished",
                hint="start again with --overwrite",
            )
        return rows

    def _compare(self, now: RunRecord, earlier: RunRecord) -> None:
        for name, values in now.differences(earlier).items():
            is_now, was = ("its default" if value is None else value for value in values)
            raise OptionError(
                f"--{name} is {is_now}, but the run in {self._config.work_dir} was made with {was}",
                hint=f"leave --{name} out, or choose another --work_dir",
            )
        if now.data != earlier.data:
            raise OptionError(
                f"the data are not those that the run in {self._config.work_dir} began with",
                hint="restore them, or start again with --overwrite or another --work_dir",
            )
        if now.model["sha256"] != earlier.model["sha256"]:
            raise OptionError(
                f"the model to start from is not the one that the run in {self._config.work_dir} began with",
                hint="restore it, or start again with --overwrite or another --work_dir",
            )
        for name, (there, here) in earlier.changed_versions().items():
            self._warn(
                f"the run began with {name} {there} and goes on with {here}: the last bits of the weights may differ"
            )
        for path in earlier.changed_files():
            self._warn(f"{path} has changed since the run began, which goes on with it as it is now")


#: variable by which a sweep tells its child processes its folder, as Python's text of it
SWEEP_VARIABLE = "MINDFL_SWEEP"


def refuse_sweeps(folder: Path, *, own: bool = False) -> None:
    """Raise :class:`OptionError` if ``folder`` is in that of a sweep, or is one that is not the caller's ``own``.

    The runs of that sweep may work there.
    """
    whole = folder.absolute()
    for place in (*[whole] * (not own), *whole.parents):
        if (place / SWEEP).is_file() and os.environ.get(SWEEP_VARIABLE) != ascii(str(place)) and _lists_runs(place):
            where = "is the folder of a sweep" if place == whole else f"is in the folder of a sweep, {place}"
            raise OptionError(
                f"{folder} {where}",
                hint="choose another --work_dir; mindfl sweep goes on with the runs of a sweep",
            )


def _lists_runs(place: Path) -> bool:
    """Return whether the file there is mindfl's: other programs have sweeps, too."""
    try:
        found = json.loads((place / SWEEP).read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(found, dict) and {"format", "runs"} <= found.keys()


#: folders in a work folder that are written to as well
_BELOW = ("processes", "federated", "tensorboard")


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

    Each folder is locked once, even if several paths name it. Raises :class:`SimulationError` naming a folder in which
    another job works. Nothing waits for a lock, so two jobs with the same folders never wait for each other.
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
