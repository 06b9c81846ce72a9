"""Who is told how a job goes."""

from __future__ import annotations

from typing import Protocol

from mindfl.notices import logger, warn
from mindfl.sim.callbacks import Progress
from mindfl.sim.history import IterationRow


class Reporter(Protocol):
    """Is told how a job goes.

    Without one a job uses :class:`PythonReporter`; the command line draws a progress bar.
    """

    def stage(self, text: str) -> None:
        """A stage such as "exporting" begins."""

    def warning(self, text: str) -> None:
        """Something needs the user's attention; the job goes on."""

    def progress(self, progress: Progress) -> None:
        """A client uploaded."""

    def row(self, row: IterationRow) -> None:
        """An iteration ended."""


class PythonReporter:
    """Warns through ``warnings`` (:class:`~mindfl.errors.MindflWarning`), logs stages and rows to ``mindfl`` at INFO.

    A base for reporters that need only some of the four methods.
    """

    def stage(self, text: str) -> None:
        """Log the stage."""
        logger.info("%s", text)

    def warning(self, text: str) -> None:
        """Warn."""
        warn(text)

    def progress(self, progress: Progress) -> None:
        """Ignore: one call per client is too much for a log."""

    def row(self, row: IterationRow) -> None:
        """Log the iteration's accuracy and loss."""
        logger.info("iteration %d: %d clients, loss %.4f, AVG %.4f", row.iteration, row.clients, row.loss, row.avg)


class Silent(PythonReporter):
    """Reports nothing, for callers who ask for that."""

    def stage(self, text: str) -> None:
        """Ignore."""

    def warning(self, text: str) -> None:
        """Ignore."""

    def row(self, row: IterationRow) -> None:
        """Ignore."""
