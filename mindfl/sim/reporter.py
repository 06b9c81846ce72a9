"""Who is told how a job goes."""

from __future__ import annotations

from typing import Protocol

from mindfl.sim.federation import Progress
from mindfl.sim.history import IterationRow


class Reporter(Protocol):
    """Is told how a job goes. :class:`Silent` ignores it; the command line draws a progress bar."""

    def stage(self, text: str) -> None:
        """A stage such as "exporting" begins."""

    def warning(self, text: str) -> None:
        """Something needs the user's attention; the job goes on."""

    def progress(self, progress: Progress) -> None:
        """A client uploaded."""

    def row(self, row: IterationRow) -> None:
        """An iteration ended."""


class Silent:
    """Reports nothing."""

    def stage(self, text: str) -> None:
        """Ignore."""

    def warning(self, text: str) -> None:
        """Ignore."""

    def progress(self, progress: Progress) -> None:
        """Ignore."""

    def row(self, row: IterationRow) -> None:
        """Ignore."""
