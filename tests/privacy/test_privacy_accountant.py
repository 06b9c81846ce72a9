"""Epsilon over a run against dp-accounting, and when a budget warns and stops."""

import builtins
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mindfl.errors import OptionError
from mindfl.privacy import Decision, GaussianAccountant, PrivacyBudget, PureAccountant, noise_multiplier
from mindfl.privacy import accountant as module

GRID = [
    (0.3, 0.1, 20, 1e-3),
    (0.5, 0.02, 50, 1e-5),
    (1.0, 0.01, 1000, 1e-5),
    (2.0, 0.5, 100, 1e-6),
    (5.0, 0.2, 500, 1e-5),
    (20.0, 0.5, 1000, 1e-6),
]


@pytest.fixture
def reference():
    """dp-accounting's epsilon, at its own resolution."""
    dp_accounting = pytest.importorskip("dp_accounting")
    pld = pytest.importorskip("dp_accounting.pld")

    def epsilon(multiplier, rate, iterations, delta):
        accountant = pld.PLDAccountant()
        accountant.compose(
            dp_accounting.PoissonSampledDpEvent(rate, dp_accounting.GaussianDpEvent(multiplier)), iterations
        )
        return accountant.get_epsilon(delta)

    return epsilon


@pytest.mark.parametrize(("multiplier", "rate", "iterations", "delta"), GRID)
def test_sampled_iterations_cost_what_dp_accounting_says(reference, multiplier, rate, iterations, delta):
    ours = GaussianAccountant(multiplier, delta, rate).epsilon(iterations)
    theirs = reference(multiplier, rate, iterations, delta)
    # From 1 on the resolution is the same.
    assert ours == pytest.approx(theirs, rel=1e-9 if multiplier >= 1 else 1e-4)


@pytest.mark.parametrize(("multiplier", "iterations", "delta"), [(1.0, 1, 1e-5), (1.0, 30, 1e-5), (8.0, 500, 1e-6)])
def test_iterations_with_all_clients_cost_what_dp_accounting_says(reference, multiplier, iterations, delta):
    exact = GaussianAccountant(multiplier, delta).epsilon(iterations)
    assert exact == pytest.approx(reference(multiplier, 1.0, iterations, delta), rel=2e-3)


def test_a_sampling_rate_close_to_one_costs_nearly_as_much_as_one():
    pytest.importorskip("dp_accounting")
    sampled = GaussianAccountant(2.0, 1e-5, 0.999999).epsilon(10)
    assert sampled == pytest.approx(GaussianAccountant(2.0, 1e-5).epsilon(10), rel=2e-3)


@pytest.mark.parametrize(("epsilon", "delta"), [(0.5, 1e-5), (8.0, 1e-5), (50.0, 0.01)])
def test_one_iteration_costs_what_it_was_calibrated_for(epsilon, delta):
    assert GaussianAccountant(noise_multiplier(epsilon, delta), delta).epsilon(1) == pytest.approx(epsilon)


@settings(max_examples=50, deadline=None)
@given(st.floats(0.05, 50), st.floats(1e-9, 0.5), st.integers(0, 2000))
def test_more_iterations_cost_more(multiplier, delta, iterations):
    accountant = GaussianAccountant(multiplier, delta)
    assert 0 <= accountant.epsilon(iterations) <= accountant.epsilon(iterations + 1)


def test_nothing_and_no_noise():
    assert GaussianAccountant(1.0, 1e-5, 0.1).epsilon(0) == 0.0
    assert GaussianAccountant(0.0, 1e-5, 0.1).epsilon(1) == math.inf


def test_pure_costs_add_up():
    accountant = PureAccountant(0.5)
    assert [accountant.epsilon(count) for count in (0, 1, 4)] == [0.0, 0.5, 2.0]
    assert accountant.delta == 0.0


@pytest.mark.parametrize(
    "arguments",
    [(-1.0, 0.1, 1.0), (math.nan, 0.1, 1.0), (1.0, 0.0, 1.0), (1.0, 1.0, 1.0), (1.0, 0.1, 0.0), (1.0, 0.1, 1.1)],
)
def test_unusable_settings_are_refused(arguments):
    with pytest.raises(OptionError):
        GaussianAccountant(*arguments)


def test_a_missing_package_is_named(monkeypatch):
    module._sampled_gaussian.cache_clear()
    load = builtins.__import__

    def without(name, *rest):
        if name.startswith("dp_accounting"):
            raise ModuleNotFoundError(name)
        return load(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    assert GaussianAccountant(1.0, 1e-5).epsilon(3) > 0
    with pytest.raises(OptionError, match="dp-accounting") as caught:
        GaussianAccountant(1.0, 1e-5, 0.5).epsilon(3)
    assert caught.value.hint == "pip install dp-accounting; mindfl's extra privacy has it too"


def test_a_budget_goes_warns_and_stops():
    budget = PrivacyBudget(PureAccountant(1.0), stop_at=4.0, warn_at=2.5)
    assert [budget.after(count).decision for count in range(5)] == [
        Decision.GO,
        Decision.GO,
        Decision.WARN,
        Decision.WARN,
        Decision.STOP,
    ]
    assert budget.affordable(100) == 4 and budget.affordable(3) == 3


def test_a_budget_is_never_exceeded():
    accountant = GaussianAccountant(4.0, 1e-5)
    budget = PrivacyBudget(accountant, stop_at=3.0)
    iterations = 0
    while (state := budget.after(iterations)).decision is not Decision.STOP:
        iterations += 1
    assert state.spent <= 3.0 < state.next_spent
    assert iterations == budget.affordable(10_000) > 1
    assert accountant.epsilon(iterations) == state.spent


def test_the_limits_of_a_budget():
    assert PrivacyBudget(PureAccountant(1.0), stop_at=5.0).warn_at == 4.0
    assert PrivacyBudget(PureAccountant(1.0)).after(10**6).decision is Decision.GO
    assert PrivacyBudget(PureAccountant(1.0), warn_at=2.0).after(5).decision is Decision.WARN
    assert PrivacyBudget(PureAccountant(1.0), stop_at=0.5).affordable(10) == 0
    for limits in ({"stop_at": 0.0}, {"stop_at": math.nan}, {"warn_at": -1.0}, {"stop_at": 1.0, "warn_at": 2.0}):
        with pytest.raises(OptionError, match="budget"):
            PrivacyBudget(PureAccountant(1.0), **limits)


def test_a_budget_in_words():
    budget = PrivacyBudget(PureAccountant(1.5), stop_at=4.0)
    assert budget.after(2).line(4.0) == (
        "privacy: epsilon 3 of 4 spent in 2 iterations, 4.5 with the next: it would exceed the budget"
    )
    assert "of" not in budget.after(0).line(None).partition("spent")[0]


def test_a_budget_may_warn_where_it_stops():
    assert PrivacyBudget(PureAccountant(1.0), stop_at=2.0, warn_at=2.0).after(1).decision is Decision.GO


def test_a_job_gets_the_iterations_that_its_budget_pays_for_and_none_is_refused():
    assert module.affordable_iterations(PrivacyBudget(PureAccountant(1.0), stop_at=2.5), 10) == 2
    with pytest.raises(OptionError, match=r"dp_budget 0\.5 does not pay for one iteration, which costs epsilon 1$"):
        module.affordable_iterations(PrivacyBudget(PureAccountant(1.0), stop_at=0.5), 10)
