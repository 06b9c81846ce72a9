"""Learning rates that change from round to round: in jobs, in the history, and what is refused."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import oracle
import pytest
from small_job import SIZES, StopAfterTwo, StoppedError, Turns, distance, server

from mindfl.algorithms import ConstantRate, CosineDecay, StepDecay
from mindfl.algorithms.learning_rates import LearningRates, make_schedule, recorded
from mindfl.errors import OptionError, SimulationError

STEP = "step:every=2,factor=0.5"
RATES = [0.05, 0.05, 0.025, 0.025, 0.0125]


@pytest.mark.parametrize("name", ["scaffold", "qfedavg"])
def test_algorithms_with_a_step_schedule_are_those_of_numpy(name: str, run_small: Callable[..., Any]) -> None:
    """With momentum: each divides by the rate of the round, or by sums of its gradients."""
    model, result = run_small(algorithm=name, lr_schedule=STEP)
    expected, constant = server(model, 0.9, 0.05), server(model, 0.9, 0.05)
    for iteration, rate in enumerate(RATES, 1):
        cohort = [*Turns().sample(len(SIZES), iteration, np.random.default_rng(0), {})]
        expected.plan.rate = rate
        oracle.ROUNDS[name](expected, cohort)
        oracle.ROUNDS[name](constant, cohort)
    assert distance(result.weights, expected.x) < 1e-5
    assert distance(constant.x, expected.x) > 5e-3  # so that the line above says something
    assert result.history.column("learning_rate") == RATES


def test_a_constant_schedule_makes_the_bits_of_plain_fedavg(run_small: Callable[..., Any]) -> None:
    _, plain = run_small("plain", iterations=2)
    assert run_small("constant", lr_schedule="constant", iterations=2)[1].hash == plain.hash
    assert run_small("same", lr_schedule=lambda iteration: 0.05, iterations=2)[1].hash == plain.hash
    assert plain.history.column("learning_rate") == [0.05] * 2


def test_workers_transport_and_resumption_do_not_change_the_bits(run_small: Callable[..., Any]) -> None:
    settings: dict[str, Any] = {"algorithm": "scaffold", "lr_schedule": "cosine:least=0.001", "iterations": 3}
    _, whole = run_small("whole", **settings)
    assert run_small("http", **settings, transport="http")[1].hash == whole.hash
    with pytest.raises(StoppedError):
        run_small("stopped", **settings, reporter=StopAfterTwo())
    _, resumed = run_small("stopped", **settings, resume=True, workers=2)
    assert resumed.hash == whole.hash
    assert resumed.history.column("learning_rate") == whole.history.column("learning_rate")


def test_the_record_names_the_schedule_and_another_one_is_refused(
    run_small: Callable[..., Any], tmp_path: Path
) -> None:
    run_small("run", lr_schedule="cosine", iterations=2)
    config = json.loads((tmp_path / "run" / "config.json").read_text("utf-8"))
    assert config["settings"]["lr_schedule"] == "cosine:rounds=2,least=0.0"
    with pytest.raises(OptionError, match="lr_schedule"):
        run_small("run", lr_schedule="step", iterations=3, resume=True)
    header, first, _ = (tmp_path / "run" / "history.csv").read_text("utf-8").splitlines()
    assert dict(zip(header.split(","), first.split(","), strict=True))["learning_rate"] == "0.05"


FAULTS: dict[str, Callable[..., Any]] = {
    "ZeroDivisionError: division by zero": lambda iteration: 1 / 0,
    "a learning rate must be finite and above 0, got nan": lambda iteration: math.nan,
    "a learning rate must be finite and above 0, got 1e+300": lambda iteration: 1e300,
    "a learning rate must be finite: int too large": lambda iteration: 10**400,
    "a learning rate must be finite and above 0, got -0.05": lambda iteration: -0.05,
    "a learning rate must be finite and above 0, got 0, and devices take a rate of their own": lambda iteration: 0,
    "a learning rate must be a number, got None": lambda iteration: None,
    "a learning rate must be a number, got True": lambda iteration: True,
    "a learning rate must be a number, got array([0.1])": lambda iteration: np.array([0.1]),
    "TypeError: ": lambda: 0.05,
}


@pytest.mark.parametrize("cause", FAULTS)
def test_what_no_plan_can_carry_is_named(cause: str) -> None:
    with pytest.raises(SimulationError) as failed:
        LearningRates(FAULTS[cause], 5).planned(0.1, 3)
    assert str(failed.value).startswith(f"lr_schedule <lambda> failed in iteration 3: {cause}")


def test_a_schedule_that_fails_ends_the_run_with_one_line(run_small: Callable[..., Any], tmp_path: Path) -> None:
    settings: dict[str, Any] = {"lr_schedule": fails_once, "iterations": 3}
    with pytest.raises(SimulationError, match="failed in iteration 2: RuntimeError: no rate") as failed:
        run_small(**settings)
    assert failed.value.hint == "correct it, then --resume: the iterations before are kept"
    fails_once.__kwdefaults__["faulty"] = False
    _, result = run_small(**settings, resume=True)
    assert result.history.column("learning_rate") == [0.05, 0.025, float(str(np.float32(0.05 / 3)))]


def fails_once(iteration: int, *, faulty: bool = True) -> float:
    if faulty and iteration == 2:
        raise RuntimeError("no rate")
    return 0.05 / iteration


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("steps", "did you mean step?"),
        ("step:evry=5", "StepDecay has no setting evry"),
        ("step:every=0", "StepDecay: every must be a whole number of at least 1, got 0"),
        ("step:every=1.5", "every must be a whole number of at least 1, got 1.5"),
        ("step:factor=-1", "StepDecay: factor must be a number above 0, got -1"),
        ("cosine:rounds=0", "CosineDecay: rounds must be a whole number of at least 1, got 0"),
        ("cosine:least=nan", "CosineDecay: least must be a number at least 0, got nan"),
        ("constant:rate=1", "ConstantRate has no setting rate"),
        ("math:pi", "cannot be called"),
        (0.1, "lr_schedule float cannot be called"),
        (StepDecay, "lr_schedule ABCMeta cannot be called"),
    ],
)
def test_wrong_schedules_are_refused(given: Any, words: str) -> None:
    with pytest.raises(OptionError) as refused:
        make_schedule(given)
    assert words in f"{refused.value} {refused.value.hint}"


@pytest.mark.parametrize("given", ["cosine:rounds=3", "step:every=1,factor=1e-30"])
def test_a_schedule_without_a_rate_for_the_last_round_is_refused_before_the_first(
    given: str, run_small: Callable[..., Any]
) -> None:
    with pytest.raises(OptionError, match=r"failed in iteration 5: a learning rate must be finite and above 0, got"):
        run_small(lr_schedule=given)


class Warmup(ConstantRate):
    def rate(self, first: float, iteration: int) -> float:
        return first * min(iteration / 4, 1)


def test_a_subclass_of_the_constant_rate_has_rates_of_its_own() -> None:
    rates = LearningRates(Warmup(), 5)
    assert (rates.constant, rates.planned(1, 1), rates.planned(1, 5)) == (False, 0.25, 1)


def test_rates_are_those_of_the_formulas() -> None:
    cosine = CosineDecay(10, 0.01)
    assert [cosine.rate(0.05, k) for k in (1, 6, 11, 99)] == pytest.approx([0.05, 0.03, 0.01, 0.01])
    assert [StepDecay(3, 0.1).rate(1, k) for k in (1, 3, 4, 7)] == pytest.approx([1, 1, 0.1, 0.01])
    assert LearningRates(lambda k: 0.1, 5).planned(9, 1) == float(np.float32(0.1))


OWN = """
def rate(iteration):
    return 1 / iteration


class Warmup:
    def __init__(self, rounds=5):
        self.rounds = rounds

    def __call__(self, iteration):
        return min(iteration / self.rounds, 1)
"""


def test_records_make_schedules_again(tmp_path: Path) -> None:
    (tmp_path / "täglich.py").write_text(OWN, "utf-8")
    warmup = recorded(make_schedule(f"{tmp_path}/täglich.py:Warmup:rounds=4").function)  # type: ignore[attr-defined]
    assert (warmup, make_schedule(warmup).rate(9, 1)) == (f"{tmp_path}/täglich.py:Warmup:rounds=4", 0.25)
    with pytest.raises(OptionError, match="Warmup has no setting round"):
        make_schedule(f"{tmp_path}/täglich.py:Warmup:round=4")
    named = f"{tmp_path}/täglich.py:rate"
    made = make_schedule(recorded(named))
    assert made.rate(9, 4) == 0.25
    assert recorded(getattr(made, "function")) == named  # noqa: B009
    assert make_schedule(recorded(StepDecay(7))).rate(1, 8) == 0.1
    with pytest.raises(OptionError, match="an object that its record cannot make again"):
        make_schedule(recorded(lambda iteration: 1.0))
