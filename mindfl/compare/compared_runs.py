"""The runs that are compared: read from work folders and sweep folders, or given as results."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from mindfl.errors import OptionError
from mindfl.files import local_path
from mindfl.notices import warn
from mindfl.options.declaration import shown
from mindfl.sim.result import Result
from mindfl.spelling import check_path, counted
from mindfl.sweeps.sweep_folder import ended_runs
from mindfl.work_files import RECORD, SWEEP

#: a work folder, a sweep folder, either with a label before it (``name=folder``), or a result
RunSource: TypeAlias = "str | os.PathLike[str] | Result"

_SOURCES = (str, os.PathLike, Result)
_FORMS = 'such as ["runs/one", "label=runs/two", result]'


@dataclass(frozen=True)
class ComparedRun:
    """One run.

    Args:
        name: the run in messages: its folder, or the title of a result.
        result: what it left.
        label: of the group that the user put it into; empty if the settings decide.
    """

    name: str
    result: Result
    label: str = ""

    @property
    def seed(self) -> int | None:
        """Seed of the run; None if it is not known."""
        seed = self.result.settings.get("seed")
        return seed if isinstance(seed, int) else None


def find_runs(sources: Iterable[RunSource]) -> list[ComparedRun]:
    """Return the runs in ``sources``; those of a sweep that have not ended, or failed, are named in a warning.

    Raises:
        OptionError: a folder holds no run, there is none at all, or a sweep's list is damaged.
        DataError: a file of a run is damaged.
    """
    given = [sources] if isinstance(sources, _SOURCES) else sources
    if isinstance(given, Mapping) or not isinstance(given, Iterable):
        raise OptionError(f"runs must be a list, got {shown(given)}", hint=_FORMS)
    given = list(given)
    for source in given:
        if not isinstance(source, _SOURCES):
            raise OptionError(f"a run must be a folder or a result, got {shown(source)}", hint=_FORMS)
    runs = [run for source in given for run in _runs(source)]
    if not runs:
        raise OptionError("there is no run to compare", hint="give work folders of runs, or the folder of a sweep")
    for run in runs:
        if not run.result.complete:
            done, asked = len(run.result.history), counted(run.result.iterations, "iteration")
            how = "was interrupted" if run.result.ended else "has not ended"
            warn(f"{run.name} {how}: its first {done} of {asked} are compared")
    return runs


def _runs(source: RunSource) -> Iterator[ComparedRun]:
    if isinstance(source, Result):
        yield ComparedRun(source.title, source)
        return
    label, folder = _labelled(source)
    if (folder / SWEEP).exists():
        if (folder / RECORD).exists():
            warn(f"{folder} holds a sweep and a run of its own: only the sweep is compared")
        yield from _of_sweep(folder, label)
    else:
        yield ComparedRun(str(folder), Result.load(folder), label)


def _labelled(source: str | os.PathLike[str]) -> tuple[str, Path]:
    """Return the label, which may be empty, and the folder of ``name=folder``. A folder of that whole name counts."""
    text = os.fspath(source)
    check_path(text, "the folder of a run")
    label, sign, folder = text.partition("=")
    if not sign or not label or "/" in label or not isinstance(source, str) or _exists(text):
        return "", local_path(text)
    check_path(folder, f"the folder of {label}")
    return label, local_path(folder)


def _exists(path: str) -> bool:
    try:
        return local_path(path).exists()
    except OSError:  # a label may be longer than a name can be
        return False


def _of_sweep(folder: Path, label: str) -> Iterator[ComparedRun]:
    ended, left_out = ended_runs(folder)
    for run in ended:
        yield ComparedRun(f"{folder}: {run.name}", Result.load(folder / run.folder), label)
    if left_out:
        warn(f"{folder}: {counted(len(left_out), 'run')} of the sweep not compared: {', '.join(left_out)}")
