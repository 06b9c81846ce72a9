"""A regression of a user's own: a network whose samples are no pictures, and people whose numbers it predicts."""

from __future__ import annotations

import numpy as np
from mindspore import Tensor, nn

from mindfl.data import Dataset


class LineNet(nn.Cell):
    """Two dense layers, for six numbers."""

    inputs = (((6,), "float32"),)

    def __init__(self, num_class: int) -> None:
        super().__init__()
        self.hidden, self.relu, self.last = nn.Dense(6, 12), nn.ReLU(), nn.Dense(12, num_class)

    def construct(self, x: Tensor) -> Tensor:
        return self.last(self.relu(self.hidden(x)))


def people() -> Dataset:
    """Three people with 37 samples and 10 for testing, none a whole number of batches."""
    rng = np.random.default_rng(0)
    slope, users = rng.normal(size=(6, 2)), {}
    for name in ("ann", "ben", "cleo"):
        x = rng.normal(size=(47, 6)).astype(np.float32)
        y = (x @ slope).astype(np.float32)
        users[name] = (x[:37], y[:37], x[37:], y[37:])
    return Dataset.from_arrays(users)
