"""Running means and variances of BatchNorm layers, which travel with the weights: how algorithms tell them apart.

A server knows its weights by their names alone, so these are MindSpore's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: how the names end: they change with the training, and no optimizer trains them
STATISTICS = ("moving_mean", "moving_variance")


def is_statistic(name: str) -> bool:
    """Return whether a weight of this name is a running mean or variance.

    Example:
        >>> is_statistic("norm1.moving_mean"), is_statistic("norm1.gamma")
        (True, False)
    """
    return name.rpartition(".")[2] in STATISTICS


def without_negative_variances(model: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
    """Return ``model`` with 0 for each running variance below 0; the same object if there is none.

    Noise, sparse differences and signs of updates can make one negative, and MindSpore takes its root.

    Example:
        >>> without_negative_variances({"norm.moving_variance": np.float32([-0.5, 2])})["norm.moving_variance"].tolist()
        [0.0, 2.0]
    """
    variances = (name for name in model if name.rpartition(".")[2] == STATISTICS[1])
    wrong = {name: np.maximum(model[name], 0) for name in variances if (model[name] < 0).any()}
    return {**model, **wrong} if wrong else model
