"""Progress of jobs on standard error: stages as lines, training as a bar or, without a terminal, as lines."""

from __future__ import annotations

import math
import sys
from typing import TYPE_CHECKING, Any

import click

from mindfl.spelling import counted

if TYPE_CHECKING:
    from mindfl.experiments.runner import Named
    from mindfl.sim.callbacks import Progress as ClientDone
    from mindfl.sim.history import IterationRow


#: AVG before the first evaluation
_UNKNOWN = "AVG -"


class TerminalProgress:
    """Shows stages as lines and training as a bar; where standard error is no terminal, as a line per iteration."""

    def __init__(self, iterations: int, *, quiet: bool) -> None:
        self._iterations = iterations
        self._quiet = quiet
        self._terminal = sys.stderr.isatty()
        self._bar: Any = None
        self._avg = _UNKNOWN
        self._measured = 0
        #: jobs that the bar is for, those done before it is drawn, whether this is the last; and the words before all
        self._jobs, self._done, self._is_last, self._name = 1, 0, True, ""

    def stage(self, text: str) -> None:
        if self._bar is not None:
            self._bar.set_description_str(text)
        elif not self._quiet:
            click.echo(f"mindfl: {text}", err=True)

    def warning(self, text: str) -> None:
        click.echo(f"mindfl: warning: {text}", err=True)

    def progress(self, progress: ClientDone) -> None:
        self._iterations = progress.iterations
        if self._quiet or not self._terminal:
            return
        clients = f"{progress.clients_done}/{counted(progress.clients, 'client')}"
        text = self._text(progress.iteration, clients, progress.loss)
        if self._bar is None:
            self._bar = _new_bar(self._jobs, self._done, self._iterations * progress.clients, text)
        self._bar.set_description_str(text, refresh=False)
        self._bar.update()

    def row(self, row: IterationRow) -> None:
        from mindfl.sim.history import average_words

        if not math.isnan(row.avg):
            self._avg = average_words(row, 3) + f" of the {row.evaluated} drawn" * (row.measured == "drawn")
            self._measured = row.iteration
        text = self._text(row.iteration, counted(row.clients, "client"), row.loss)
        text += ", not aggregated" * (not row.aggregated)
        if self._bar is not None:
            self._bar.set_description_str(text)
        elif not self._terminal:
            self.stage(f"{text}, {row.seconds:.1f} s")
        if row.iteration == self._iterations and self._is_last:
            self.close()

    def close(self) -> None:
        """Leave the bar as it stands."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def _text(self, iteration: int, clients: object, loss: float) -> str:
        since = f" after iteration {self._measured}" if 0 < self._measured < iteration - 1 else ""
        text = f"iteration {iteration}/{self._iterations}, {clients}, loss {loss:.3f}, {self._avg}{since}"
        return f"{self._name}{text}"


class StudyProgress(TerminalProgress):
    """Shows one bar for all modes of a study, and each warning once."""

    def __init__(self, iterations: int, *, quiet: bool) -> None:
        super().__init__(iterations, quiet=quiet)
        self._warned: set[str] = set()

    def warning(self, text: str) -> None:
        if text not in self._warned:
            self._warned.add(text)
            super().warning(text)

    def mode(self, mode: Named, number: int, modes: int, *, kept: bool) -> None:
        text = f"{mode.name} ({number}/{modes})"
        self.stage(f"{text}{', done already' if kept else ''}")
        self._name, self._avg, self._measured = f"{text}, ", _UNKNOWN, 0
        self._jobs, self._done, self._is_last = modes, number - 1, number == modes
        if kept and self._bar is not None:
            one = self._bar.total // modes
            self._bar.initial += one  # it took no time, and tells nothing of the others'
            self._bar.update(one)


def _new_bar(jobs: int, done: int, steps: int, text: str) -> Any:
    from tqdm import tqdm

    form = "{desc} |{bar}| {remaining} left"
    options = {"bar_format": form, "dynamic_ncols": True, "mininterval": 0.2}
    smoothing = 0.3 if jobs == 1 else 0  # over all jobs, which may differ in speed
    return tqdm(total=jobs * steps, initial=done * steps, desc=text, smoothing=smoothing, **options)
