"""Rules that hold against clients who upload anything: median, trimmed mean, Krum and Multi-Krum.

They see the uploads of single clients, so none of them works with secure aggregation. All count clients alike, whatever
number of samples these tell: a client could choose it. Arithmetic is in float64.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from mindfl.algorithms.algorithm import Algorithm, Arrays, Round, Step
from mindfl.algorithms.setting_checks import checked, whole

Floats = NDArray[np.float64]
_BLOCK = 2**20  # values in float64 at a time
_CACHED = 2**17


class Median(Algorithm):
    """Coordinate-wise median of the clients' weights (arXiv 1803.01498).

    With an even number of clients, it is the mean of the two middle values. It holds while fewer than half of the
    clients are faulty.

    Example:
        >>> Median().needs_uploads
        True
    """

    needs_uploads: ClassVar[bool] = True

    def step(self, round: Round) -> Step:
        """Return the median of each weight."""
        return Step(model=_by_weight(round, lambda values: np.median(values, axis=0)))


class TrimmedMean(Algorithm):
    """Coordinate-wise mean of the clients' weights without the smallest and largest values (arXiv 1803.01498).

    With n clients, floor(beta n) values are cut off at each end. It holds while no more clients than that are faulty.

    Args:
        beta: the share of the clients that is cut off at each end, at least 0 and below 0.5.

    Raises:
        OptionError: ``beta`` is out of range.

    Example:
        >>> TrimmedMean(0.3).cut(10)
        3
    """

    needs_uploads: ClassVar[bool] = True

    def __init__(self, beta: float = 0.2) -> None:
        self.beta = checked(self, "beta", beta, least=0, below=0.5)

    def cut(self, clients: int) -> int:
        """Return how many values of so many clients are cut off at each end."""
        return math.floor(Fraction(repr(self.beta)) * clients)  # 0.29 * 100 is 28.999999999999996 in float64

    def step(self, round: Round) -> Step:
        """Return the trimmed mean of each weight."""
        kept = slice(self.cut(round.clients), round.clients - self.cut(round.clients))
        return Step(model=_by_weight(round, lambda values: np.sort(values, axis=0)[kept].mean(axis=0)))


class Krum(Algorithm):
    """The model of the client that is nearest to the others (arXiv 1703.02757).

    A client's score is the sum of the squared distances to the n - f - 2 clients nearest to it. The client with the
    smallest score is chosen; of equal ones the first in the order of client ids. It holds while at most f of the n
    clients are faulty, and f < (n - 2) / 2.

    Args:
        f: the number of faulty clients in a round against which it must hold, at least 0.

    Raises:
        OptionError: ``f`` is out of range.

    Example:
        >>> Krum(2).uploads_fault(6)
        'f=2 faulty clients take at least 7 clients in an iteration, not 6'
    """

    needs_uploads: ClassVar[bool] = True

    def __init__(self, f: int = 1) -> None:
        self.f = whole(self, "f", f, least=0)

    def uploads_fault(self, clients: int) -> str:
        """Return why f is too large for so many clients; empty: it is not."""
        if self.f < (clients - 2) / 2:
            return ""
        return f"f={self.f} faulty clients take at least {2 * self.f + 3} clients in an iteration, not {clients}"

    def step(self, round: Round) -> Step:
        """Return the chosen client's weights."""
        return Step(model=round.uploads[self._best(round)[0]].weights)

    def _best(self, round: Round) -> NDArray[np.intp]:
        """Return the places of the uploads, those with small scores first."""
        others = np.sort(_squared_distances(round), axis=1)  # each client's distance to itself is 0 and comes first
        return np.argsort(others[:, 1 : round.clients - self.f - 1].sum(axis=1), kind="stable")


class MultiKrum(Krum):
    """Plain mean of the n - f models with the smallest scores of Krum (arXiv 1703.02757).

    m = n - f is what the paper's experiments use. It holds as Krum does.

    Args:
        f: the number of faulty clients in a round against which it must hold, at least 0.

    Raises:
        OptionError: ``f`` is out of range.

    Example:
        >>> MultiKrum().f
        1
    """

    def step(self, round: Round) -> Step:
        """Return the mean of the chosen clients' weights."""
        chosen = np.sort(self._best(round)[: round.clients - self.f])
        return Step(model=_by_weight(round, lambda values: values[chosen].mean(axis=0)))


def _by_weight(round: Round, rule: Callable[[Floats], Floats]) -> Arrays:
    """Return the model of what ``rule`` makes of each weight's values: float64 [clients, weights] -> [weights]."""
    model: dict[str, NDArray[Any]] = {}
    for name, old in round.model.items():
        parts = [rule(values) for values in _blocks(round, name, _BLOCK)]
        model[name] = np.concatenate(parts).reshape(old.shape)
    return model


def _squared_distances(round: Round) -> Floats:
    """Return the squared distances of all pairs of uploads, [clients, clients].

    They are summed without a matrix product, whose bits depend on the machine.
    """
    squares = np.zeros((round.clients, round.clients))
    for name in round.model:
        for values in _blocks(round, name, _CACHED):
            for place in range(round.clients - 1):
                apart = values[place + 1 :] - values[place]
                squares[place, place + 1 :] += np.einsum("ij,ij->i", apart, apart)
    squares += squares.T
    return squares


def _blocks(round: Round, name: str, size: int) -> Iterator[Floats]:
    """Yield the uploads of one array in blocks of about ``size`` values, [clients, columns]."""
    columns = max(1, size // round.clients)
    for begin in range(0, round.model[name].size, columns):
        yield np.array([upload.weights[name][begin : begin + columns] for upload in round.uploads], np.float64)
