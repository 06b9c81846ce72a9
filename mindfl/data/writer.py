"""Writes data sets of both forms user by user, so that memory does not grow with the number of users."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from tqdm import tqdm

from mindfl.data.bins import BinSink
from mindfl.data.compact import CompactSink
from mindfl.data.folder import filled_folder
from mindfl.data.samples import CLASSES, Samples, check_labels, check_name
from mindfl.errors import DataError
from mindfl.files import PathLike, local_path
from mindfl.notices import warn
from mindfl.options.data_options import ImagesForm
from mindfl.options.job_options import DataForm
from mindfl.spelling import counted


@dataclass(frozen=True)
class Report:
    """Outcome of writing a data set. ``problems`` has one line for each omitted user or file; ``untested`` is the
    number of users without test samples, ``classes`` that of classes."""

    output: Path
    format: ImagesForm
    source: str
    users: int
    train_samples: int
    test_samples: int
    problems: tuple[str, ...]
    untested: int = 0
    classes: int = CLASSES


class Sink(Protocol):
    """Stores users in a folder, in one form."""

    def add(self, name: str, train: Samples, test: Samples) -> None:
        """Store one user."""

    def close(self, *, complete: bool) -> None:
        """Finish the files; called once, with ``complete=False`` if they will be deleted."""


_SINKS: dict[DataForm, Callable[[Path, str, int], Sink]] = {
    "bin": BinSink,
    "compact": lambda folder, source, _batch_size: CompactSink(folder, source),
}


class DatasetWriter:
    """Checks and counts the users that go into a :class:`Sink`."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._names: set[str] = set()
        self.train_samples = 0
        self.test_samples = 0
        self.untested = 0
        self.problems: list[str] = []

    @property
    def users(self) -> int:
        """Number of users stored so far."""
        return len(self._names)

    def add(self, name: object, train: Samples, test: Samples) -> None:
        """Store one user; raise :class:`DataError` if its name, labels or number of samples cannot be used."""
        user = check_name(name)
        if user in self._names:
            raise DataError(f"user {user} appears twice")
        if not len(train.labels):
            raise DataError(f"user {user} has no train samples", hint="each user needs at least one")
        for part, samples in (("train", train), ("test", test)):
            check_labels(samples.labels, user, f"the {part} part")
        self._sink.add(user, train, test)
        self._names.add(user)
        self.untested += not len(test.labels)
        self.train_samples += len(train.labels)
        self.test_samples += len(test.labels)

    def skip(self, problem: DataError) -> None:
        """Record a user or file that is left out."""
        self.problems.append(problem.advice())


class Writing:
    """A data set being written: add users through ``writer``; ``report`` exists after the ``with`` block."""

    def __init__(self, writer: DatasetWriter, folder: Path) -> None:
        self.writer = writer
        self.folder = folder
        self.report: Report


@contextmanager
def write_dataset(output: PathLike, *, format: DataForm, source: str, batch_size: int = 32) -> Iterator[Writing]:
    """Write a data set to ``output``, which must be missing or empty; it appears completely or not at all.

    Each omitted user or file is named in a :class:`~mindfl.errors.MindflWarning`.

    ``batch_size`` matters for bins only. Raises :class:`OptionError` if ``output`` is not empty, :class:`DataError`
    if no user could be stored, and :class:`StorageError` if writing fails.
    """
    target = local_path(output).absolute()
    with filled_folder(target) as folder:
        sink = _SINKS[format](folder, source, batch_size)
        writer = DatasetWriter(sink)
        writing = Writing(writer, folder)
        complete = False
        try:
            yield writing
            if not writer.users:
                first = f": {writer.problems[0]}" if writer.problems else ""
                raise DataError(f"nothing to write, no usable user ({counted(len(writer.problems), 'problem')}){first}")
            complete = True
        finally:
            sink.close(complete=complete)
    for problem in writer.problems:
        warn(f"left out: {problem}")
    writing.report = Report(
        output=target,
        format=format,
        source=source,
        users=writer.users,
        train_samples=writer.train_samples,
        test_samples=writer.test_samples,
        problems=tuple(writer.problems),
        untested=writer.untested,
    )


def progress_bar(title: str, total: int, unit: str, *, shown: bool) -> tqdm[Any]:
    """Return a progress bar on standard error; without ``shown``, or if that is not a terminal, it is silent."""
    return tqdm(
        total=total, desc=title, unit=unit, unit_scale=unit == "B", disable=None if shown else True, dynamic_ncols=True
    )
