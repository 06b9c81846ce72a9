"""AVG, TOP5 and LOW5: the tutorial's summary of the clients' accuracies."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

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
