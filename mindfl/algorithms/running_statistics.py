"""Running means and variances of BatchNorm layers, which travel with the weights: how algorithms tell them apart.

A server knows its weights by their names alone, so these are MindSpore's.
"""

from __future__ import annotations

#: how the names end: they change with the training, and no optimizer trains them
STATISTICS = ("moving_mean", "moving_variance")


def is_statistic(name: str) -> bool:
    """Return whether a weight of this name is a running mean or variance.

    Example:
        >>> is_statistic("norm1.moving_mean"), is_statistic("norm1.gamma")
        (True, False)
    """
    return name.rpartition(".")[2] in STATISTICS
