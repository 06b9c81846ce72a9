"""Rounds that no training made, and a model."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from mindfl.sim import IterationRow


@pytest.fixture
def make_row() -> Callable[..., IterationRow]:
    """Return a function that makes the row of a round; settings may be given."""

    def make(iteration: int, **settings: Any) -> IterationRow:
        values = {
            **{"avg": iteration / 10, "top5": 0.9, "low5": 0.1, "loss": 1 / iteration, "clients": 3, "samples": 96},
            **{"bytes_down": 300, "bytes_up": 200, "steps": 9, "steps_per_s": 4.5, "seconds": 2.0},
            **{"accuracies": {"ä": 0.0, "b": 0.5, "c": 1.0}, "measured": "all", "weighted_avg": 0.4},
        }
        return IterationRow(iteration=iteration, **{**values, **settings})

    return make


@pytest.fixture
def unevaluated() -> dict[str, Any]:
    """What a row has where no client was evaluated."""
    return {**dict.fromkeys(("avg", "top5", "low5", "weighted_avg"), math.nan), "accuracies": {}, "measured": ""}


@pytest.fixture
def model() -> dict[str, Any]:
    weights = np.linspace(-1, 1, 101, dtype=np.float32)
    return {"fc.weight": weights, "fc.bias": np.array([1, np.nan, np.inf], np.float32)}
