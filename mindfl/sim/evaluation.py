"""Accuracies: whose, after which iterations, and their summary AVG, TOP5 and LOW5."""

from __future__ import annotations

import math
from array import array
from collections.abc import ItemsView, Iterable, Iterator, Mapping, Sequence, ValuesView
from dataclasses import dataclass
from typing import NamedTuple

from mindfl.client.flow import evaluation_due
from mindfl.options.job_options import EvaluateName

#: a training step of a batch, forward and backward, costs about so many evaluations of one
_FORWARDS_PER_STEP = 3


@dataclass(frozen=True)
class Evaluation:
    """The models of every ``every``-th iteration and of the last one are evaluated.

    ``clients``: "all" of the job, or those that were "drawn" for the iteration.
    """

    clients: EvaluateName = "all"
    every: int = 1

    def due(self, iteration: int, iterations: int) -> bool:
        """Return whether the model of ``iteration`` is evaluated, in a job of ``iterations``."""
        return evaluation_due(iteration, self.every, iterations)


def affordable_every(sizes: Sequence[tuple[int, int]], *, batch_size: int, epochs: int, cohort: int) -> int:
    """Return the smallest interval at which evaluating all clients costs no more than training the drawn ones.

    ``sizes`` are the train and test samples of each client; ``cohort`` of them are drawn for an iteration. Where all
    are drawn, each has the model at hand, so every iteration is evaluated.
    """
    if cohort >= len(sizes):
        return 1
    steps = sum(-(-train // batch_size) for train, _ in sizes)
    forwards = sum(-(-test // batch_size) for _, test in sizes)
    # An iteration trains steps / clients * cohort batches, on average.
    return max(1, -(-forwards * len(sizes) // (_FORWARDS_PER_STEP * epochs * steps * cohort)))


EXTREMES = 5


class Accuracy(NamedTuple):
    """Mean accuracy 0..1 over all clients, over the best five, and over the worst five."""

    avg: float
    top5: float
    low5: float

    @classmethod
    def of(cls, accuracies: Iterable[float]) -> Accuracy:
        """Summarise one accuracy per client, each on the client's own test data; fewer than five count as they are.

        Without any client all three are NaN.
        """
        ranked = sorted(accuracies)
        return cls(_mean(ranked), _mean(ranked[-EXTREMES:]), _mean(ranked[:EXTREMES]))


def _mean(values: list[float]) -> float:
    return math.fsum(values) / len(values) if values else math.nan


class ClientAccuracies(Mapping[str, float]):
    """Accuracy of each client that was evaluated, by name: an array beside names that rows share.

    A dict would cost some hundred bytes per client and iteration, which 3,500 clients and 1,000 iterations would make
    hundreds of megabytes.
    """

    __slots__ = ("_names", "_values")

    def __init__(self, names: tuple[str, ...], values: Sequence[float]) -> None:
        self._names = names
        self._values = array("d", values)

    @classmethod
    def of(cls, pairs: Iterable[tuple[str, float | None]], like: Mapping[str, float] | None = None) -> ClientAccuracies:
        """Return the accuracies of (name, accuracy) pairs without those that have none.

        The names are shared with ``like``, an earlier row's accuracies, where they are the same in the same order.
        """
        evaluated = [(name, accuracy) for name, accuracy in pairs if accuracy is not None]
        names = tuple(name for name, _ in evaluated)
        if isinstance(like, ClientAccuracies) and like._names == names:
            names = like._names
        return cls(names, [accuracy for _, accuracy in evaluated])

    def __getitem__(self, name: str) -> float:
        return self._as_dict()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def items(self) -> ItemsView[str, float]:
        """Return the pairs, as a dict's."""
        return self._as_dict().items()

    def values(self) -> ValuesView[float]:
        """Return the accuracies, as a dict's."""
        return self._as_dict().values()

    def _as_dict(self) -> dict[str, float]:
        return dict(zip(self._names, self._values, strict=True))
