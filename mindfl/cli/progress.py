"""Progress of jobs on standard error: stages as lines, training as a bar or, without a terminal, as lines."""

from __future__ import annotations

import math
import sys
from typing import TYPE_CHECKING, Any

import click

from mindfl.notices import WARNING
from mindfl.spelling import counted

if TYPE_CHECKING:
    from mindfl.sim.callbacks import Progress as ClientDone
    from mindfl.sim.history import IterationRow
    from mindfl.sweeps.followed_runs import SweptRow

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
            self._bar = _new_bar(self._iterations * progress.clients, 0, text)
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
        if row.iteration == self._iterations:
            self.close()

    def close(self) -> None:
        """Leave the bar as it stands."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def _text(self, iteration: int, clients: object, loss: float) -> str:
        since = f" after iteration {self._measured}" if 0 < self._measured < iteration - 1 else ""
        return f"iteration {iteration}/{self._iterations}, {clients}, loss {loss:.3f}, {self._avg}{since}"


class SweepProgress:
    """Shows a sweep: what it says as lines, the rounds of all runs as a bar; without a terminal a line for each of the
    ``rounds``, if they are wanted."""

    def __init__(self, *, quiet: bool, rounds: bool = True) -> None:
        self._quiet = quiet
        self._rounds = rounds
        self._terminal = sys.stderr.isatty()
        self._bar: Any = None

    def say(self, text: str) -> None:
        if self._quiet and not text.startswith(WARNING):
            return
        if self._bar is not None:
            self._bar.clear()
        click.echo(f"mindfl: {text}", err=True)

    def row(self, swept: SweptRow) -> None:
        from mindfl.sim.history import average_words

        row = swept.row
        words = f"iteration {row.iteration}/{swept.iterations}, {counted(row.clients, 'client')}, loss {row.loss:.3f}"
        words += "" if math.isnan(row.avg) else f", {average_words(row, 3)}"
        text = f"{swept.name}: {words}{', not aggregated' * (not row.aggregated)}"
        if not self._terminal:
            if self._rounds:
                self.say(f"{text}, {row.seconds:.1f} s")
        elif not self._quiet:
            if self._bar is None:
                self._bar = _new_bar(swept.rounds, swept.rounds_done - 1, text)
            self._bar.set_description_str(text, refresh=False)
            self._bar.update(swept.rounds_done - self._bar.n)

    def close(self) -> None:
        """Leave the bar as it stands."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def _new_bar(steps: int, done: int, text: str) -> Any:
    from tqdm import tqdm

    form = "{desc} |{bar}| {remaining} left"
    options = {"bar_format": form, "dynamic_ncols": True, "mininterval": 0.2, "smoothing": 0.3}
    return tqdm(total=steps, initial=done, desc=text, **options)
