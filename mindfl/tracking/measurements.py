"""What other programs are told of a run: the numbers of each round by tag, and the settings that decide the result."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from mindfl.sim.history import IterationRow
from mindfl.sim.run_record import DECIDING, default_settings, recorded_rate

#: percentiles of the clients' values that are told
PERCENTILES = (10, 50, 90)
#: up to here 64-bit floats hold each whole number
_LARGEST_WHOLE = 2**53
#: settings that are told also where they have their defaults
_ALWAYS = ("model", "algorithm", "client_num", "iterations", "epochs", "learning_rate", "seed")
#: settings that are told where they differ from their defaults
_CHANGED = (*DECIDING, "iterations", "train_dataset", "test_dataset", "evaluate", "dp_budget")


def scalars(row: IterationRow) -> dict[str, float]:
    """Return the numbers of a round by tag.

    Args:
        row: the round. Numbers that are not known, such as the accuracy of a round without evaluation, have no tag. A
            training loss that is NaN is told, and so are NaNs among the metrics of callbacks.

    Returns:
        Numbers by tag, such as ``accuracy/avg``, or ``perplexity/avg`` where that was measured.

    Example:
        >>> numbers = scalars(result.history[-1])
        >>> numbers["accuracy/p10"] <= numbers["accuracy/p50"] <= numbers["accuracy/p90"]
        True
    """
    measured = {name: getattr(row, name) for name in ("avg", "top5", "low5", "weighted_avg")}
    finite = [value for value in row.accuracies.values() if math.isfinite(value)]
    if finite:
        measured |= {f"p{each}": float(np.percentile(finite, each)) for each in PERCENTILES}
    known = {
        **{f"{row.metric}/{name}": value for name, value in measured.items()},
        "clients": row.clients,
        "samples": row.samples,
        "bytes/down": row.bytes_down,
        "bytes/up": row.bytes_up,
        "speed/steps_per_s": row.steps_per_s,
        "speed/seconds": row.seconds,
        "learning_rate": row.learning_rate,
        "epsilon": row.epsilon,
        **{f"per_class/{name}": value for name, value in row.per_class.items()},
    }
    told = {tag: float(value) for tag, value in known.items() if not math.isnan(value)}
    return {**told, "loss": row.loss, **{f"metrics/{name}": float(value) for name, value in row.metrics.items()}}


def hyperparameters(settings: Mapping[str, Any]) -> dict[str, bool | float | str]:
    """Return the settings of a run that decide its result, where they are not as by default, and a few always.

    Args:
        settings: those of a ``config.json``.

    Returns:
        Truth values, numbers and texts by the name of the option.

    Example:
        >>> chosen = hyperparameters({"algorithm": "fedprox:mu=0.1", "epochs": 5, "workers": 2})
        >>> chosen
        {'algorithm': 'fedprox:mu=0.1', 'epochs': 5}
    """
    defaults = default_settings()
    if "learning_rate" in settings:
        settings = {**settings, "learning_rate": recorded_rate(settings)}
    told = {
        name: value
        for name, value in settings.items()
        if name in _ALWAYS or (name in _CHANGED and value != defaults.get(name))
    }
    return {name: _told(value) for name, value in told.items() if value is not None}


def _told(value: Any) -> bool | float | str:
    """Return a setting as other programs take it: a whole number that their 64-bit floats do not hold as a text."""
    fits = isinstance(value, str | float) or (isinstance(value, int) and abs(value) <= _LARGEST_WHOLE)
    return value if fits else str(value)
