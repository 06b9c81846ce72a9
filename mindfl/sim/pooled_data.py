"""All training data in one place: the data set of the algorithm ``centralized``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mindfl.data import Dataset, UserData
from mindfl.data.pixels import Images
from mindfl.data.samples import Split, no_samples
from mindfl.sim.config import JobConfig
from mindfl.sim.job_data import PairedDataset, usable_users


def pooled(config: JobConfig, dataset: Dataset, warn: Callable[[str], None]) -> Dataset:
    """Return ``dataset`` with the training samples of the job's clients all at the first of them.

    The others keep their test samples alone. ``warn`` is told of users that are left out, and of the order.
    """
    if not config.shuffle:
        warn("centralized trains on one client's samples after the other's: --shuffle mixes them")
    notes: list[str] = []
    names = [client.name for client in usable_users(dataset, config.client_num, notes.append)]
    for note in notes:
        if note.startswith("left out"):  # that there are too few is said where the pooled ones are counted
            warn(note)
    if isinstance(dataset, PairedDataset):
        return PairedDataset(PooledDataset(dataset.train, names), dataset.test)
    return PooledDataset(dataset, names)


class PooledDataset(Dataset):
    """The users ``names`` of ``dataset``: the first has the training samples of all of them, in this order."""

    def __init__(self, dataset: Dataset, names: Sequence[str]) -> None:
        self._dataset = dataset
        self._set_form(dataset.form)
        self.grey = dataset.grey
        self.classes, self.class_names = dataset.classes, dataset.class_names
        self.central_test = dataset.central_test
        self._set_users(list(names))

    @property
    def name(self) -> str:
        """That of the data set."""
        return self._dataset.name

    @property
    def title(self) -> str:
        """That of the data set."""
        return self._dataset.title

    @property
    def source(self) -> str:
        """Where the samples come from."""
        return self._dataset.source

    def _open(self, name: str) -> UserData:
        user = self._dataset.user(name)
        if name != self.users[0]:
            return UserData(name, no_samples(user.train.source), user.test)
        parts = [self._dataset.user(each).train for each in self.users]
        labels = np.concatenate([part.labels[: part.size] for part in parts])
        return UserData(name, Split(labels, len(labels), _JoinedSamples(tuple(parts))), user.test)

    def _open_test(self, name: str) -> Split:
        return self._dataset.test_part(name)


@dataclass(frozen=True, eq=False)
class _JoinedSamples(Images):
    """The samples of several parts, one after the other."""

    parts: tuple[Split, ...]

    @property
    def owner(self) -> str:
        return "the training data of all clients"

    def map(self, first: int, count: int) -> NDArray[Any]:
        """See :meth:`Images.map`; a copy."""
        return _joined(part.source.map(at, size) for part, at, size in self._chosen(first, count))

    def read(self, first: int, count: int) -> NDArray[Any]:
        """See :meth:`Images.read`."""
        return _joined(part.source.read(at, size) for part, at, size in self._chosen(first, count))

    def read_planes(self, first: int, count: int) -> NDArray[Any]:
        """See :meth:`Images.read_planes`."""
        planes = [part.source.read_planes(at, size) for part, at, size in self._chosen(first, count)]
        same = len({each.ndim for each in planes}) == 1
        return _joined(planes) if same else self.read(first, count)

    def read_grey(self, first: int, count: int) -> NDArray[np.uint8]:
        """See :meth:`Images.read_grey`."""
        return _joined(part.source.read_grey(at, size) for part, at, size in self._chosen(first, count))

    def _chosen(self, first: int, count: int) -> Iterator[tuple[Split, int, int]]:
        """Yield each part of which some samples are among ``count`` from ``first`` on, its first one, and how many."""
        begin = 0
        for number, part in enumerate(self.parts):
            low, high = max(first, begin), min(first + count, begin + part.size)
            if low < high or (not count and not number):
                yield part, part.first + max(0, low - begin), max(0, high - low)
            begin += part.size


def _joined(arrays: Iterable[NDArray[Any]]) -> NDArray[Any]:
    return np.concatenate(list(arrays))
