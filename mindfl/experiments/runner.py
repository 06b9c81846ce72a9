"""What experiments share: settings with defaults, a folder of reports, words for setting and data, and a report."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

from mindfl.data import Dataset
from mindfl.files import remove_file
from mindfl.notices import logger
from mindfl.sim.callbacks import Progress, PythonReporter, Reporter, Silent
from mindfl.sim.config import JobConfig
from mindfl.sim.history import IterationRow
from mindfl.spelling import counted


class Named(Protocol):
    """A job of a study."""

    @property
    def name(self) -> str:
        """Its name in messages and tables."""


class StudyReporter(Reporter, Protocol):
    """Observes a study."""

    def mode(self, mode: Named, number: int, modes: int, *, kept: bool) -> None:
        """Job ``number`` of ``modes`` begins; or its result is there already."""


class PythonStudyReporter(PythonReporter):
    """Issues warnings, and logs the rest."""

    def mode(self, mode: Named, number: int, modes: int, *, kept: bool) -> None:
        """Log it."""
        logger.info("mode %d of %d: %s%s", number, modes, mode.name, ", done already" if kept else "")


class PartReporter(Silent):
    """Passes on a job's progress, and its warnings once it is ``prepared``: those before are the same for all jobs."""

    def __init__(self, reporter: Reporter) -> None:
        self._report = reporter
        self.prepared = False

    def warning(self, text: str) -> None:
        """Pass it on."""
        if self.prepared:
            self._report.warning(text)

    def progress(self, progress: Progress) -> None:
        """Pass it on."""
        self._report.progress(progress)

    def row(self, row: IterationRow) -> None:
        """Pass it on."""
        self._report.row(row)


def with_defaults(defaults: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``settings`` without those that are None, and ``defaults`` for the missing ones."""
    return {**defaults, **{name: value for name, value in settings.items() if value is not None}}


def remove_reports(folder: Path, files: Sequence[str]) -> None:
    """Remove the reports of an earlier experiment, so that none is taken for this one's."""
    for file in files:
        remove_file(folder / file)


@contextmanager
def written_up(write: Callable[[], None]) -> Iterator[None]:
    """Call ``write`` at the end of the block. An error that ends the block is raised, not one of ``write``."""
    try:
        yield
    except BaseException:
        with suppress(Exception):
            write()
        raise
    write()


def setting_words(config: JobConfig, clients: int, iterations: int) -> str:
    """Return the size of an experiment in words."""
    return (
        f"{counted(clients, 'client')}, {counted(iterations, 'iteration')}, {counted(config.epochs, 'epoch')}, "
        f"batch {config.network.batch_size}"
    )


def data_words(dataset: Dataset, clients: int) -> str:
    """Return whose handwriting an experiment with so many ``clients`` used."""
    if dataset.synthetic:
        return f"SYNTHETIC handwriting, no measure of FEMNIST ({counted(clients, 'synthetic writer')})"
    return f"{dataset.title} ({dataset.source}), {clients} of its {counted(len(dataset.users), 'writer')}"


def markdown(title: str, facts: Sequence[str], *lines: str) -> str:
    """Return a report in Markdown: a heading, a list of facts, and further lines."""
    return "\n".join([f"# {title}", "", *(f"- {fact}" for fact in facts), "", *lines]) + "\n"
