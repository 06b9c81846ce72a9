"""Each algorithm equals an independent program in float64, over five rounds of unequal clients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import oracle
import pytest
from small_job import SIZES, cohorts, distance, server

from mindfl.algorithms import APFL, Client, Ditto, Upload
from mindfl.algorithms.naming import REGISTERED, describe

SETTINGS: dict[str, dict[str, float]] = {
    "fedavg": {"eta": 0.5},
    "fedavgm": {"eta": 0.7, "beta1": 0.8},
    "fedadagrad": {"eta": 0.02, "tau": 0.01},
    "fedadam": {"beta1": 0.8, "beta2": 0.95},
    "fedyogi": {"eta": 0.02},
    "fedexp": {"eps": 1e-6},
    "fedprox": {"mu": 0.5},
    "feddyn": {"alpha": 0.3},
    "qfedavg": {"q": 2},
    "fedcm": {"alpha": 0.3},
    "ditto": {"lam": 0.2},
    "apfl": {"alpha": 0.8},
}
CASES = [
    (name, settings)
    for name in REGISTERED
    if name != "fedbn" and not REGISTERED[name].needs_uploads
    for settings in ({}, SETTINGS.get(name))
    if settings is not None
]


@pytest.mark.parametrize("optimizer", ["sgd", "momentum"])
@pytest.mark.parametrize(("name", "settings"), CASES, ids=lambda value: str(value).strip("{}"))
def test_algorithm_is_that_of_numpy(
    name: str, settings: dict[str, float], optimizer: str, run_small: Callable[..., Any]
) -> None:
    momentum = 0.9 if optimizer == "momentum" else 0.0
    rate, rounds = (0.01 if momentum else 0.05, 10) if name == "fedexp" else (0.05, 5)  # at first it is FedAvg
    text = ":".join([name, *([",".join(f"{key}={value}" for key, value in settings.items())] if settings else [])])
    model, result = run_small(optimizer=optimizer, algorithm=text, learning_rate=rate, iterations=rounds)
    expected = server(model, momentum, rate)
    plain, began = server(model, momentum, rate), expected.x
    run_oracle(expected, name, rounds, **settings)
    run_oracle(plain, "fedavg", rounds)
    assert distance(result.weights, expected.x) < 1e-5
    assert distance(began, expected.x) > 1e-2  # so that the line above says something
    assert name in ("fedavg", "ditto", "apfl") or distance(plain.x, expected.x) > 1e-3


def run_oracle(expected: oracle.Server, name: str, rounds: int, **settings: float) -> None:
    for cohort in cohorts(rounds):
        oracle.ROUNDS[name](expected, cohort, **settings)


@pytest.mark.parametrize("name", ["ditto:lam=0.2", "apfl:alpha=0.8", "fedper"])
def test_personal_models_are_evaluated(name: str, run_small: Callable[..., Any]) -> None:
    """Each client's accuracy is that of NumPy's model of its own; clients without one yet have the common model."""
    model, result = run_small(algorithm=name, iterations=3)
    expected = server(model, 0.9, 0.05)
    word, _, setting = name.partition(":")
    settings = {key: float(value) for key, _, value in [setting.partition("=")] if value}
    run_oracle(expected, word, 3, **settings)
    share = settings.get("alpha", 1)
    own = [
        {
            n: share * expected.own[i][n] + (1 - share) * v if n in expected.own[i] and expected.own[i][n].any() else v
            for n, v in expected.x.items()
        }
        for i in expected.clients
    ]
    accuracies = [oracle.accuracy(w, data) for w, data in zip(own, expected.clients.values(), strict=True)]
    assert result.history[-1].avg == pytest.approx(np.mean(accuracies), abs=1e-6)
    common = [oracle.accuracy(expected.x, data) for data in expected.clients.values()]
    assert abs(np.mean(common) - np.mean(accuracies)) > 0.01


@pytest.mark.parametrize("optimizer", ["sgd", "momentum"])
@pytest.mark.parametrize("algorithm", [APFL(0.3), Ditto(0.2)], ids=describe)
def test_personal_models_are_those_of_numpy(
    algorithm: APFL | Ditto, optimizer: str, run_small: Callable[..., Any]
) -> None:
    kept: dict[str, Any] = {}

    class Watched(type(algorithm)):  # type: ignore[misc]
        def end(self, client: Client) -> Upload:
            kept[client.name] = {name: values.copy() for name, values in client.personal.items()}
            return super().end(client)

    model, _ = run_small(algorithm=Watched(**vars(algorithm)), optimizer=optimizer)
    expected = server(model, 0.9 if optimizer == "momentum" else 0.0, 0.05)
    run_oracle(expected, type(algorithm).__name__.lower(), 5, **vars(algorithm))
    assert len(kept) == len(SIZES)
    for index in range(len(SIZES)):
        assert distance(kept[f"user{index}"], expected.own[index]) < 1e-5
        assert distance(kept[f"user{index}"], expected.x) > 1e-2
