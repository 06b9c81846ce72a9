"""Accuracies: whose, after which iterations, and their summary: AVG, TOP5, LOW5 and the mean over samples."""

from __future__ import annotations

import math
from array import array
from collections.abc import ItemsView, Iterable, Iterator, Mapping, Sequence, ValuesView
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mindfl.client.flow import evaluation_due
from mindfl.options.job_options import EvaluateName
from mindfl.sim.metrics import ACCURACY, Measure

#: a training step of a batch, forward and backward, costs about so many evaluations of one
_FORWARDS_PER_STEP = 3


@dataclass(frozen=True)
class Evaluation:
    """The models of every ``every``-th iteration and of the last one are evaluated.

    ``whose`` test data: those of "all" clients of the job, of those that were "drawn" for the iteration, or the
    "central" test set.
    """

    whose: EvaluateName = "all"
    every: int = 1

    def due(self, iteration: int, iterations: int) -> bool:
        """Return whether the model of ``iteration`` is evaluated, in a job of ``iterations``."""
        return evaluation_due(iteration, self.every, iterations)


def affordable_every(
    sizes: Sequence[tuple[int, int]], *, batch_size: int, epochs: int, cohort: int, central: int | None = None
) -> int:
    """Return the smallest interval at which evaluating all test samples costs no more than training the drawn clients.

    ``sizes`` are the train and test samples of each client; ``cohort`` of them are drawn for an iteration. Where all
    are drawn, each has the model at hand, so every iteration is evaluated. ``central`` are the samples of a central
    test set, which is evaluated instead.
    """
    if cohort >= len(sizes) and central is None:
        return 1
    steps = sum(-(-train // batch_size) for train, _ in sizes)
    tests = [test for _, test in sizes] if central is None else [central]
    forwards = sum(-(-test // batch_size) for test in tests)
    # An iteration trains steps / clients * cohort batches, on average.
    return max(1, -(-forwards * len(sizes) // (_FORWARDS_PER_STEP * epochs * steps * cohort)))


EXTREMES = 5


class Accuracy(NamedTuple):
    """Mean accuracy 0..1 over all clients, over the best five, and over the worst five."""

    avg: float
    top5: float
    low5: float

    @classmethod
    def of(cls, accuracies: Iterable[float], metric: Measure = ACCURACY) -> Accuracy:
        """Summarise one accuracy per client, each on the client's own test data; fewer than five count as they are.

        Without any client all three are NaN. Of another ``metric`` the best five may be the lowest.
        """
        ranked = sorted(accuracies, reverse=metric.lower_is_better)
        return cls(_mean(ranked), _mean(ranked[-EXTREMES:]), _mean(ranked[:EXTREMES]))


def _mean(values: list[float]) -> float:
    return math.fsum(values) / len(values) if values else math.nan


EvaluatedName = Literal["all", "drawn", "central", ""]
#: class and predicted class of each test sample in one number, see :func:`cells_of`
Cells = NDArray[np.int64]
#: no classifier has more than 2 to this many classes
CLASS_BITS = 20


def cells_of(labels: NDArray[np.int32], predicted: NDArray[np.int_]) -> Cells:
    """Return the cells of the confusion matrix in which these samples are, as (class << 20) + predicted class."""
    return ((labels.astype(np.int64) << CLASS_BITS) + predicted).reshape(-1)


class Measured(NamedTuple):
    """The test samples of ``name``, a client or a part of the central test set.

    ``accuracy`` is None without test samples, or if they were not evaluated; ``cells`` are known where it is. It is the
    value of ``metric``; where that is another than accuracy there are no cells, and ``samples`` counts what it is of.
    """

    name: str
    accuracy: float | None
    cells: Cells | None = None
    metric: Measure = ACCURACY
    samples: int = 0

    @property
    def correct(self) -> float:
        """The number of correct predictions, or what the metric sums up in its place."""
        if self.accuracy is None:
            return 0
        if self.metric != ACCURACY:
            return self.metric.summand(self.accuracy) * self.samples
        return 0 if self.cells is None else round(self.accuracy * len(self.cells))

    @classmethod
    def by(cls, trainer: Any, name: str, value: float | None) -> Measured:
        """Return the latest evaluation of a trainer, of ``value``."""
        if value is None or trainer.metric == ACCURACY:
            return cls(name, value, None if value is None else trainer.cells)
        return cls(name, value, None, trainer.metric, trainer.eval_size)


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


@dataclass(frozen=True, kw_only=True)
class Evaluated:
    """The evaluation of one model.

    Args:
        measured: what it was evaluated on: the test data of "all" clients, of the "drawn" ones, the "central" test set,
            or "": it was not evaluated.
        accuracies: accuracy of each evaluated client by name; none for the central test set.
        samples, correct: test samples, and how many of them were predicted correctly; 0 where that is not known. Java
            clients' own accuracy may count some samples twice.
        cells: of each test sample, as in :class:`Measured`; None if it is not known.
        metric: what the accuracies are, if they are values of another metric.
    """

    measured: EvaluatedName = ""
    accuracies: Mapping[str, float] = field(default_factory=dict)
    samples: int = 0
    correct: float = 0
    cells: Cells | None = None
    metric: Measure = ACCURACY

    @classmethod
    def of_clients(
        cls, measured: EvaluatedName, found: Iterable[Measured], like: Mapping[str, float] | None = None
    ) -> Evaluated:
        """Return the evaluation of ``found``; ``like`` as for :meth:`ClientAccuracies.of`."""
        items = list(found)
        accuracies = ClientAccuracies.of(((item.name, item.accuracy) for item in items), like)
        return cls(measured=measured, accuracies=accuracies, **_totals(items))

    @classmethod
    def of_central(cls, parts: Iterable[Measured]) -> Evaluated:
        """Return the evaluation on a central test set of these parts."""
        return cls(measured="central", **_totals(list(parts)))

    @property
    def summary(self) -> Accuracy:
        """AVG, TOP5 and LOW5 over the clients. A central test set has the accuracy on it as AVG, and no others."""
        if self.measured == "central":
            return Accuracy(self.weighted_avg, math.nan, math.nan)
        return Accuracy.of(self.accuracies.values(), self.metric)

    @property
    def weighted_avg(self) -> float:
        """The share of correct test samples: the mean accuracy weighted by test samples; NaN if it is not known."""
        return self.metric.of_mean(self.correct / self.samples) if self.samples else math.nan


def _totals(items: Sequence[Measured]) -> dict[str, Any]:
    cells = [item.cells for item in items if item.cells is not None]
    joined = np.concatenate(cells) if cells else np.zeros(0, np.int64)
    metric = next((item.metric for item in items if item.accuracy is not None), ACCURACY)
    if metric != ACCURACY:
        samples = sum(item.samples for item in items)
        return {"samples": samples, "correct": math.fsum(item.correct for item in items), "metric": metric}
    return {"samples": len(joined), "correct": sum(item.correct for item in items), "cells": joined}
