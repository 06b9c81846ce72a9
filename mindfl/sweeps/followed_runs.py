"""Follows the runs of a sweep: the rows that their histories gain."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mindfl.options.job_options import JobOptions
from mindfl.sim.history import IterationRow, read_row
from mindfl.sweeps.experiment import PlannedRun
from mindfl.work_files import HISTORY


@dataclass(frozen=True)
class SweptRow:
    """A round of a run that ended while a sweep works.

    Args:
        name: of the run.
        row: of its history.
        iterations: rounds that the run was asked for.
        rounds_done: rounds of all runs that have ended.
        rounds: rounds that all runs were asked for.
    """

    name: str
    row: IterationRow
    iterations: int
    rounds_done: int
    rounds: int


class FollowedRuns:
    """Tells of each new row of ``runs`` once; ``work_dir`` returns the folder of a run by its name."""

    def __init__(
        self, runs: Sequence[PlannedRun], work_dir: Callable[[str], Path], tell: Callable[[SweptRow], None]
    ) -> None:
        self._asked = {run.name: int(run.settings.get("iterations", JobOptions.iterations)) for run in runs}
        self._work_dir = work_dir
        self._tell = tell
        #: run -> rounds that are done
        self._done = dict.fromkeys(self._asked, 0)
        #: run -> number of the file of its history, which is another one when the run begins, and how much was read
        self._files: dict[str, tuple[int, int]] = {}

    def ended(self, name: str) -> None:
        """Count all rounds of a run that ended before."""
        self._done[name] = self._asked[name]

    def begin(self, name: str, *, resume: bool) -> None:
        """Pass over the rows that a run has before it begins; they count if it goes on after them."""
        rows = self._new_rows(name)
        if resume and rows:
            self._done[name] = rows[-1].iteration

    def look(self, names: Iterable[str]) -> None:
        """Tell of the rows that the runs ``names`` have gained."""
        for name in names:
            for row in self._new_rows(name):
                if row.iteration > self._done[name]:
                    self._done[name] = row.iteration
                    done, asked = sum(self._done.values()), sum(self._asked.values())
                    self._tell(SweptRow(name, row, self._asked[name], done, asked))

    def _new_rows(self, name: str) -> Sequence[IterationRow]:
        try:
            with (self._work_dir(name) / HISTORY).open("rb") as file:
                number = os.fstat(file.fileno()).st_ino
                known, read = self._files.get(name, (number, 0))
                file.seek(read := read if known == number else 0)
                whole = file.read().rpartition(b"\n")[0]
        except OSError:  # not there yet
            return []
        self._files[name] = (number, read + len(whole) + bool(whole))
        try:
            return [read_row(line) for line in whole.split(b"\n")] if whole else []
        except (ValueError, TypeError, KeyError, AttributeError):  # the run itself says what is wrong with it
            return []
