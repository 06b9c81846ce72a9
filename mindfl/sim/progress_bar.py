"""The reporter of a job in Python that was given none: a progress bar where someone watches, else logging alone."""

from __future__ import annotations

import importlib.util
import logging
import sys
from typing import Any

from mindfl.notices import logger
from mindfl.sim.callbacks import Progress, PythonReporter
from mindfl.sim.history import IterationRow, average_words


def default_reporter() -> PythonReporter:
    """Return a progress bar in a notebook and where standard error is a terminal, else a reporter that logs."""
    if in_notebook():
        return BarReporter()
    return BarReporter(stages=True) if sys.stderr is not None and sys.stderr.isatty() else PythonReporter()


def in_notebook() -> bool:
    """Return whether this program is the kernel of a notebook."""
    shell = sys.modules.get("IPython")
    found = shell.get_ipython() if shell is not None else None
    return found is not None and hasattr(found, "kernel")


class BarReporter(PythonReporter):
    """Draws a progress bar for a training: in a notebook a widget where the package ipywidgets is installed.

    Args:
        stages: whether stages are also written to standard error, unless the logger ``mindfl`` writes them anyway.
    """

    def __init__(self, *, stages: bool = False) -> None:
        self._stages = stages
        self._bar: Any = None

    def stage(self, text: str) -> None:
        """Log the stage, which ends the bar of an earlier training."""
        self._close()
        super().stage(text)
        if self._stages and not logger.isEnabledFor(logging.INFO):
            print(f"mindfl: {text}", file=sys.stderr)

    def warning(self, text: str) -> None:
        """Warn, on a line of its own."""
        if self._bar is not None:
            self._bar.clear()
        super().warning(text)

    def progress(self, progress: Progress) -> None:
        """Advance the bar by a client."""
        if self._bar is None:
            done = (progress.iteration - 1) * progress.clients
            self._bar = _bar_class()(total=progress.iterations * progress.clients, initial=done, unit="client")
        self._bar.set_description_str(f"iteration {progress.iteration}/{progress.iterations}", refresh=False)
        self._bar.update()
        self._iterations = progress.iterations

    def row(self, row: IterationRow) -> None:
        """Show loss and accuracy, and log them."""
        super().row(row)
        if self._bar is not None:
            self._bar.set_postfix_str(f"loss {row.loss:.3f}, {average_words(row, 3)}")
            if row.iteration >= self._iterations:
                self._close()

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def _bar_class() -> Any:
    # tqdm.auto warns where ipywidgets is missing, and then has the plain bar.
    if importlib.util.find_spec("ipywidgets") is None:
        from tqdm import tqdm
    else:
        from tqdm.auto import tqdm
    return tqdm
