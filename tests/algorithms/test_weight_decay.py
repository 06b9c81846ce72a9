"""Weight decay of the exported optimizer: against MindSpore's own, against NumPy, and in the record of a run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import oracle
import pytest
from small_job import SIZES, Turns, distance, server

from mindfl.lite.ops.optimizer import optimizer_of

pytestmark = pytest.mark.slow

NETWORK = f"{Path(__file__).parent}/small_net.py:SmallNet"
#: decays that float32 does not hold
DECAYS = {"momentum": 0.07, "sgd": 0.3, "adam": 0.0011, "adam_weight_decay": 0.11}


@pytest.mark.parametrize("optimizer", DECAYS)
def test_twenty_steps_are_those_of_mindspore(optimizer: str, run_small: Callable[..., Any], tmp_path: Path) -> None:
    settings: dict[str, Any] = {
        **{"weight_decay": DECAYS[optimizer], "optimizer": optimizer, "learning_rate": 0.02},
        **{"client_num": 1, "iterations": 1, "epochs": 20, "sampler": None},  # 7 samples are one batch
    }
    began, result = run_small("lite", **settings)
    _, expected = run_small("mindspore", **settings, engine="mindspore", model=NETWORK, workers=None)
    for name, values in expected.weights.items():
        np.testing.assert_allclose(result.weights[name], values, rtol=0, atol=1e-6, err_msg=name)
    record = json.loads((tmp_path / "lite" / "config.json").read_text("utf-8"))
    assert record["settings"]["weight_decay"] == DECAYS[optimizer]
    found = optimizer_of(began)
    assert found is not None and (found.name, found.weight_decay) == (optimizer, DECAYS[optimizer])


@pytest.mark.parametrize("name", ["fedavg", "scaffold", "feddyn"])
@pytest.mark.parametrize("optimizer", ["momentum", "sgd"])
def test_algorithms_with_weight_decay_are_those_of_numpy(
    name: str, optimizer: str, run_small: Callable[..., Any]
) -> None:
    """Also with a rate that changes."""
    decay, momentum = DECAYS[optimizer], 0.9 if optimizer == "momentum" else 0.0
    schedule = {"lr_schedule": "step:every=2,factor=0.5", "weight_decay": decay}
    model, result = run_small(optimizer=optimizer, algorithm=name, **schedule)
    expected, without = server(model, momentum, 0.05), server(model, momentum, 0.05)
    expected.plan.decay = decay
    for iteration, rate in enumerate([0.05, 0.05, 0.025, 0.025, 0.0125], 1):
        expected.plan.rate = without.plan.rate = rate
        for each in (expected, without):
            oracle.ROUNDS[name](each, [*Turns().sample(len(SIZES), iteration, np.random.default_rng(0), {})])
    assert distance(result.weights, expected.x) < 1e-5
    assert distance(without.x, expected.x) > 1e-3  # so that the line above says something
