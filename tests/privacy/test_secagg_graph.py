"""The neighbour graph: its bounds against the distributions they are of, and its shape."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import hypergeom

from mindfl.errors import OptionError
from mindfl.privacy.secagg import GraphPlan, SeededRandom, plan_graph


def close(log2: float, expected: float) -> bool:
    return (
        math.isclose(log2, min(0.0, math.log2(expected)), rel_tol=1e-6, abs_tol=1e-6) if expected else log2 == -math.inf
    )


@pytest.mark.parametrize(("devices", "corrupt", "lost"), [(1000, 50, 100), (300, 10, 30), (5000, 100, 500)])
def test_bounds_are_hypergeometric_tails(devices: int, corrupt: int, lost: int) -> None:
    plan = plan_graph(devices, corrupt, lost)
    degree, threshold = plan.degree, plan.threshold
    needed = 2 * threshold - degree

    assert close(plan.exposed_log2, devices * hypergeom(devices - 1, corrupt, degree).sf(needed - 1))
    assert close(plan.not_recovered_log2, devices * hypergeom(devices - 1, lost, degree).sf(degree - threshold))
    gone = hypergeom(devices, corrupt + lost, degree // 2).logpmf(degree // 2) / math.log(2)
    assert math.isclose(plan.cut_off_log2, min(0.0, gone + math.log2(devices)), rel_tol=1e-6)
    assert max(plan.exposed_log2, plan.cut_off_log2) <= -40 and plan.not_recovered_log2 <= -20


def test_weaker_demands_take_fewer_neighbours() -> None:
    usual = plan_graph(1000, 50, 100)

    assert usual.degree < 100
    assert plan_graph(1000, 50, 100, privacy_bits=20, failure_bits=10).degree < usual.degree
    assert plan_graph(1000, 100, 200).degree > usual.degree


def test_bounds_hold_in_drawn_graphs() -> None:
    """With demands weak enough to be seen broken: the frequency of failures stays below the printed bound."""
    plan = plan_graph(60, 0, 12, privacy_bits=3, failure_bits=3)
    ids = [f"{number:03}" for number in range(60)]
    lost = set(ids[:12])
    random = SeededRandom("graphs")
    trials, failures = 400, 0
    for _ in range(trials):
        neighbours = plan.neighbours(ids, random)
        failures += any(len(set(neighbours[name]) - lost) < plan.threshold for name in ids)

    assert plan.degree < 59 and 2**plan.not_recovered_log2 <= 1 / 8
    assert failures / trials <= 2**plan.not_recovered_log2 + 0.04


@settings(max_examples=40, deadline=None)
@given(devices=st.integers(3, 60), degree=st.integers(1, 29), seed=st.integers())
def test_graphs_are_regular_symmetric_and_of_every_device(devices: int, degree: int, seed: int) -> None:
    degree = min(2 * degree, devices - 1)
    plan = GraphPlan(devices, 0, 0, degree, 1, -math.inf, -math.inf, -math.inf)
    ids = [f"device-{number}" for number in range(devices)]

    neighbours = plan.neighbours(reversed(ids), SeededRandom(seed))

    assert neighbours.keys() == set(ids)
    for name, others in neighbours.items():
        assert len(others) == len(set(others)) == degree and name not in others and list(others) == sorted(others)
        assert all(name in neighbours[other] for other in others)
    assert neighbours == plan.neighbours(ids, SeededRandom(seed))


def test_every_pair_is_as_likely_as_any_other() -> None:
    plan = GraphPlan(9, 0, 0, 4, 3, 0, 0, 0)
    ids = list("abcdefghi")
    random = SeededRandom("pairs")
    pairs = list(combinations(ids, 2))
    seen = dict.fromkeys(pairs, 0)
    trials = 2000
    for _ in range(trials):
        neighbours = plan.neighbours(ids, random)
        for one, two in pairs:
            seen[one, two] += two in neighbours[one]

    expected = trials * 4 / 8
    deviations = np.array(list(seen.values())) - expected
    assert np.abs(deviations).max() < 5.5 * math.sqrt(trials / 4)


@pytest.mark.parametrize(
    ("devices", "corrupt", "lost"), [(2, 0, 0), (3, 0, 1), (5, 0, 2), (10, 5, 5), (10, -1, 0), (10, 4, 4), (0, 0, 0)]
)
def test_devices_that_cannot_be_protected_are_refused(devices: int, corrupt: int, lost: int) -> None:
    with pytest.raises(OptionError, match=f"{devices} devices"):
        plan_graph(devices, corrupt, lost)


@pytest.mark.parametrize(
    ("devices", "corrupt", "lost", "message"),
    [
        (2, 0, 0, "nothing to protect"),
        (10, -1, 0, "nothing to protect"),
        (10, 0, -1, "nothing to protect"),
        (10, 5, 5, "nothing to protect"),
        (10, 4, 5, "cannot withstand 4 corrupt and 5 lost"),
    ],
)
def test_the_refusal_says_whether_other_numbers_could_help(devices: int, corrupt: int, lost: int, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        plan_graph(devices, corrupt, lost)


@pytest.mark.parametrize(("devices", "corrupt", "lost"), [(1000, 50, 100), (300, 30, 60), (100, 5, 30), (60, 2, 20)])
def test_the_two_ways_to_fail_stay_below_the_bound_together(devices: int, corrupt: int, lost: int) -> None:
    for bits in range(10, 60, 5):
        plan = plan_graph(devices, corrupt, lost, privacy_bits=bits)

        assert 2.0**plan.exposed_log2 + 2.0**plan.cut_off_log2 <= 2.0**-bits


def test_small_jobs_have_complete_graphs_and_certainties() -> None:
    plan = plan_graph(5, 1, 1)

    assert (plan.degree, plan.threshold) == (4, 3)
    assert {plan.exposed_log2, plan.cut_off_log2, plan.not_recovered_log2} == {-math.inf}
    assert plan.neighbours("abcde", SeededRandom(1))["c"] == tuple("abde")


def test_a_graph_is_for_as_many_devices_as_planned() -> None:
    with pytest.raises(OptionError, match="5 devices was planned, not for 4"):
        plan_graph(5, 1, 1).neighbours("abcd", SeededRandom(1))


def test_the_plan_says_what_it_promises() -> None:
    first, second = plan_graph(1000, 50, 100).lines()

    assert first == (
        "1000 devices, of which up to 50 corrupt and 100 lost: each shares its secrets with 78 others, "
        "and 52 of them recover one"
    )
    assert second == (
        "for an honest-but-curious server a device is exposed with probability 2^-47.1, "
        "or a group of them cut off with 2^-103.5; "
        "the iteration fails with probability 2^-21.2"
    )
