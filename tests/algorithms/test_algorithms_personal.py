"""Personal models on label-skewed data: what docs/algorithms.md measures on Fashion-MNIST, in small."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from mindfl.data import Dataset, partition

CLIENTS = 6


@pytest.fixture(scope="module")
def skewed() -> Dataset:
    """Three classes that overlap, so that what a client knows of its own classes helps; half of it to test with."""
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 3, 800)
    images = rng.random((800, 5, 4), np.float32) * 0.7
    images[np.arange(800), labels] += 0.25
    owned = partition(labels, "dirichlet:alpha=0.1,least=10", CLIENTS, seed=2)
    parts = [(images[at[::2]], labels[at[::2]], images[at[1::2]], labels[at[1::2]]) for at in owned]
    return Dataset.from_arrays({f"user{i}": part for i, part in enumerate(parts)}, classes=3)


def test_ditto_and_apfl_beat_fedavg_on_label_skewed_data(skewed: Dataset, run_small: Callable[..., Any]) -> None:
    data = {"train_dataset": skewed, "client_num": CLIENTS, "sampler": None, "iterations": 6}

    def accuracies(name: str) -> dict[str, float]:
        return dict(run_small(name, algorithm=name, **data)[1].history[-1].accuracies)

    common, ditto, apfl = (accuracies(name) for name in ("fedavg", "ditto", "apfl"))
    for own in (ditto, apfl):
        assert np.mean([*own.values()]) > np.mean([*common.values()]) + 0.05
