"""Runs of an experiment side by side, in child processes; what ended is kept, and what was interrupted goes on."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mindfl.errors import MindflError, OptionError, SimulationError
from mindfl.files import PathLike, local_path, make_dir, read_file
from mindfl.lite.kernels import is_cached, load_machine
from mindfl.locks import is_held
from mindfl.notices import WARNING, announce, once, warn
from mindfl.options import declared_arguments
from mindfl.options.command_options import SweepOptions
from mindfl.sim.config import JobConfig, default_workers
from mindfl.sim.result import Result
from mindfl.sim.run_folder import locked, refuse_sweeps
from mindfl.spelling import counted
from mindfl.sweeps.children import LOG, Children, arguments_of
from mindfl.sweeps.experiment import ExperimentPlan, PlannedRun, read_experiment
from mindfl.sweeps.followed_runs import FollowedRuns, SweptRow
from mindfl.sweeps.shared import Shared
from mindfl.sweeps.sweep_folder import SweepFolder, SweptRun, planned_run, read_runs
from mindfl.work_files import CARD, RECORD, SWEEP

Say = Callable[[str], None]
#: how often rows of runs are looked for
_LOOK_SECONDS = 0.2
#: at most so many runs that cannot be made are named
_NAMED = 20


@dataclass(frozen=True)
class SweepResult:
    """What a sweep left.

    Args:
        folder: the sweep's folder.
        runs: each run of the experiment by name, as in ``sweep.json``.
    """

    folder: Path
    runs: Mapping[str, SweptRun]

    @property
    def results(self) -> dict[str, Result]:
        """The result of each run by name, as :meth:`mindfl.Result.load` reads it."""
        return {name: Result.load(self.folder / run.folder) for name, run in self.runs.items()}


@declared_arguments(SweepOptions)
def run_sweep(
    experiment: PathLike | Mapping[str, Any],
    *,
    work_dir: PathLike | None = None,
    jobs: int | None = None,
    workers: int = 1,
    overwrite: bool = False,
    say: Say = announce,
    row: Callable[[SweptRow], None] | None = None,
) -> SweepResult:
    """Run all runs of an experiment, as many side by side as there are processors.

    Each run is a process of its own, ``mindfl simulate`` with its options, so its weights are those that it would have
    alone. One that fails, or dies, does not end the others. Runs that ended are not run again, interrupted ones go on,
    with the same bits: so the same call continues, also after Ctrl-C or a kill.

    Args:
        experiment: a file, or a dictionary like one; see :func:`mindfl.sweeps.read_experiment`.
        work_dir: folder of the sweep; None: ``work_dir`` of the experiment.
        jobs: runs side by side; None: one per processor.
        workers: threads of each run; its result does not depend on it.
        overwrite: run all runs anew.
        say: is told how far the sweep is, and warnings, which begin with "warning: "; by default they are Python's, and
            the rest is logged.
        row: is told each round of a run, soon after it ended.

    Returns:
        The runs, all of which have ended.

    Raises:
        OptionError: the experiment cannot be used, or a run that began was made with other settings.
        SimulationError: names each run that failed, after the others have ended; or another sweep works in the folder.
        StorageError: the folder cannot be written.

    Example:
        >>> sweep = {"train_dataset": "writers", "client_num": 2, "iterations": 1, "epochs": 1, "sweep": {"seed": [0]}}
        >>> len(run_sweep(sweep, work_dir="seeds").results["seed=0"].history)
        1
    """
    found = read_experiment(experiment)
    folder = sweep_folder(found, work_dir)
    if folder is None:
        raise OptionError("a sweep needs a folder", hint="--work_dir DIR, or work_dir in the experiment")
    runs = checked_runs(found)
    with locked(folder):
        sweep = _Sweep(SweepFolder(folder), runs, jobs or default_workers(), workers, say, row)
        return sweep.run(overwrite=overwrite)


def planned_runs(
    experiment: PathLike | Mapping[str, Any], work_dir: PathLike | None = None, *, overwrite: bool = False
) -> list[SweptRun]:
    """Return the runs that :func:`run_sweep` would have, with what is known of them; nothing is run or written.

    Runs that failed are such, and so are those of a sweep at work. Without a folder all are waiting.
    """
    found = read_experiment(experiment)
    place = sweep_folder(found, work_dir)
    runs = checked_runs(found)
    if place is None:
        return [planned_run(run) for run in runs]
    folder = SweepFolder(place)
    listed = {run.name: run for run in read_runs(place)} if (place / SWEEP).exists() and not overwrite else {}
    folder.plan(runs, overwrite=overwrite)
    for text in folder.changes():
        warn(text)
    told = ("failed", "running") if is_held(place / ".lock") else ("failed",)
    known = {name: run for name, run in listed.items() if run.status in told}
    return [
        known.get(run.name, folder[run.name]) if folder[run.name].status == "waiting" else folder[run.name]
        for run in runs
    ]


def sweep_folder(experiment: ExperimentPlan, work_dir: PathLike | None) -> Path | None:
    """Return a sweep's folder, None if there is none. Raises :class:`OptionError` for a run's, or no sweep."""
    if not experiment.swept:
        raise OptionError(
            f"{experiment.path or 'the experiment'} has no table [sweep]", hint="mindfl run runs its one run"
        )
    given = work_dir if work_dir is not None else experiment.settings.get("work_dir")
    if given is None:
        return None
    folder = local_path(given)
    if (folder / RECORD).exists() and not (folder / SWEEP).exists():
        raise OptionError(f"{folder} is the work folder of a run", hint="choose another --work_dir for the sweep")
    refuse_sweeps(folder, own=True)
    return folder


def checked(run: PlannedRun) -> PlannedRun:
    """Return ``run``. Raises :class:`OptionError` with a line of the file if a job cannot be made with its settings."""
    try:
        JobConfig(**run.settings)
    except OptionError as error:
        raise run.located(error) from None
    return run


def checked_runs(experiment: ExperimentPlan) -> list[PlannedRun]:
    """Return the runs. Raises :class:`OptionError` that names each one with which no job can be made."""
    faults: dict[str, OptionError] = {}
    for run in experiment.runs:
        try:
            checked(run)
        except OptionError as error:
            faults.setdefault(str(error), error)
    if len(faults) == 1:
        raise next(iter(faults.values()))
    if faults:
        texts = [error.advice() for error in faults.values()]
        more = [f"and {len(texts) - _NAMED} more"] if len(texts) > _NAMED else []
        raise OptionError("; ".join(texts[:_NAMED] + more))
    return list(experiment.runs)


def read_card(folder: Path) -> dict[str, Any]:
    """Return the result card in a work folder. Raises :class:`StorageError`."""
    content: dict[str, Any] = json.loads(read_file(folder / CARD))
    return content


def outcome(card: Mapping[str, Any]) -> str:
    """Return in words what came of the run with this result card."""
    last, metric = card["last"], card.get("metric")
    if last is None or last["avg"] is None:
        return "not evaluated"
    return f"AVG {last['avg']:.4f}" if metric is None else f"{metric} {last['avg']:.4f}"


@dataclass
class _Sweep:
    """Runs the ``runs`` in a folder that the caller has locked."""

    folder: SweepFolder
    runs: Sequence[PlannedRun]
    jobs: int
    workers: int
    say: Say
    row: Callable[[SweptRow], None] | None
    _failed: dict[str, str] = field(default_factory=dict)
    _began: set[str] = field(default_factory=set)
    _ended: int = 0

    def __post_init__(self) -> None:
        self.say = once(self.say)  # several runs warn of the same
        self._children = Children(self.folder.root)

    def run(self, *, overwrite: bool) -> SweepResult:
        dropped = self.folder.plan(self.runs, overwrite=overwrite)
        self.folder.write()
        if dropped:
            self._warn(
                f"{counted(len(dropped), 'run')} of {self.folder.root} not in the experiment any more, kept but not "
                f"compared with the others: {', '.join(dropped)}"
            )
        for text in self.folder.changes():
            self._warn(text)
        left = [run for run in self.runs if self.folder[run.name].status != "done"]
        self._ended = len(self.runs) - len(left)
        if self._ended:
            self.say(f"{self._ended} of {counted(len(self.runs), 'run')} ended before")
        self._run_all(left, overwrite=overwrite)
        if self._failed:
            listed = "; ".join(f"{name}: {reason}" for name, reason in self._failed.items())
            log = f", their {LOG} says more" if self._began.intersection(self._failed) else ""
            ended = "the others ended; " if len(self._failed) < len(self.runs) else ""
            raise SimulationError(
                f"{len(self._failed)} of {counted(len(self.runs), 'run')} failed: {listed}",
                hint=f"{ended}the same command tries these again{log}",
            )
        return SweepResult(self.folder.root, {run.name: self.folder[run.name] for run in self.runs})

    def _run_all(self, runs: Sequence[PlannedRun], *, overwrite: bool) -> None:
        """Make what runs share, then the runs that need it, so many at a time."""
        groups: dict[tuple[str, str], tuple[Shared, list[PlannedRun]]] = {}
        for run in runs:
            shared = Shared(run.settings, self.folder.common)
            groups.setdefault(shared.key, (shared, []))[1].append(run)
        if any(shared.runs_files for shared, _ in groups.values()) and not is_cached():
            self.say("compiling the device runtime")
            load_machine()  # else each of the first runs would compile it
        pool = ThreadPoolExecutor(self.jobs)
        followed = FollowedRuns(self.runs, self.folder.work_dir, self.row) if self.row is not None else None
        for run in self.runs:
            if followed is not None and run not in runs:
                followed.ended(run.name)
        try:
            making: dict[Future[Any], tuple[Shared, list[PlannedRun]]] = {
                pool.submit(self._make, shared, group[0]): (shared, group) for shared, group in groups.values()
            }
            running: dict[Future[Any], PlannedRun] = {}
            while making or running:
                ended = wait([*making, *running], None if followed is None else _LOOK_SECONDS, FIRST_COMPLETED).done
                if followed is not None:
                    followed.look(run.name for run in running.values())
                for future in ended:
                    reason = _failure(future)
                    if future in running:
                        self._end(running.pop(future), reason, future)
                        continue
                    shared, group = making.pop(future)
                    for run in group:
                        if reason is None:
                            resume = not overwrite and shared.resumable
                            if followed is not None:
                                followed.begin(run.name, resume=resume)
                            job = pool.submit(self._simulate, run, shared, resume=resume)
                            running[job] = run
                        else:
                            self._fail(run, reason)
        except BaseException:
            self._children.stop()
            raise
        finally:
            pool.shutdown(cancel_futures=True)
            for run in runs:
                if self.folder[run.name].status == "running":
                    self.folder.note(run.name, "waiting")

    def _make(self, shared: Shared, run: PlannedRun) -> None:
        """Make what is ``shared`` with ``run``."""
        if not shared.is_given:
            for text in self._children.make(run.settings, self.folder.common):
                self.say(text)

    def _simulate(self, run: PlannedRun, shared: Shared, *, resume: bool) -> list[str]:
        """Run one run in a child process; return its warnings."""
        folder = make_dir(self.folder.work_dir(run.name))
        self.folder.note(run.name, "running")
        self._began.add(run.name)
        shared.give(folder)
        settings = {
            **run.settings,
            "work_dir": folder.absolute(),
            "workers": self.workers,
            "resume": resume,
            "overwrite": not resume,
        }
        return self._children.simulate(arguments_of(settings), folder)

    def _end(self, run: PlannedRun, reason: str | None, future: Future[list[str]]) -> None:
        if reason is not None:
            self._fail(run, reason)
            return
        self.folder.note(run.name, "done")
        self._ended += 1
        for text in future.result():
            self._warn(text)
        self.say(f"{self._ended} of {len(self.runs)}: {run.name}, {outcome(read_card(self.folder.work_dir(run.name)))}")

    def _fail(self, run: PlannedRun, reason: str) -> None:
        self._failed[run.name] = reason
        self.folder.note(run.name, "failed", reason)
        self._warn(f"the run {run.name} failed: {reason}")

    def _warn(self, text: str) -> None:
        self.say(f"{WARNING}{text}")


def _failure(future: Future[Any]) -> str | None:
    """Return why what ``future`` stands for failed; None if it did not. Raises what is no error of mindfl's."""
    error = future.exception()
    if error is None:
        return None
    if not isinstance(error, MindflError):
        raise error
    return error.advice()
