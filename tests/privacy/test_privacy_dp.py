"""Calibration, clipping, the adaptive bound, and what the noise looks like."""

import math
import os
import subprocess
import sys

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from mindfl.errors import OptionError
from mindfl.privacy import ClipBound, EncodingError, EncodingFault, add_noise, noise_multiplier
from mindfl.privacy.dp import FIRST_BOUND, distance, gaussian_epsilon, gaussian_log_delta, normal_noise

EPSILONS = (1e-3, 0.1, 0.5, 1.0, 4.0, 50.0, 1000.0)
DELTAS = (1e-30, 1e-10, 1e-5, 0.01, 0.3)
GRID = [(epsilon, delta) for epsilon in EPSILONS for delta in DELTAS]


def seeded(seed=0):
    """A keystream, for noise that is the same each time."""
    stream = Cipher(algorithms.ChaCha20(seed.to_bytes(32, "big"), bytes(16)), None).encryptor()
    return lambda count: stream.update(bytes(count))


def weights(**values):
    return {name: np.asarray(value, np.float32) for name, value in values.items()}


def specified_alpha(epsilon, delta):
    """The calibration as the protocol has it: two functions, a bracket by doubling, bisection (here to the end)."""
    phi = stats.norm.cdf

    def upper(v):
        return phi(math.sqrt(epsilon * v)) - math.exp(epsilon) * phi(-math.sqrt(epsilon * (v + 2)))

    def lower(v):
        return phi(-math.sqrt(epsilon * v)) - math.exp(epsilon) * phi(-math.sqrt(epsilon * (v + 2)))

    few_noise = delta > upper(0.0)
    function, sign = (upper, -1) if few_noise else (lower, 1)
    low, high = 0.0, 1.0
    while (function(high) < delta) if few_noise else (function(high) > delta):
        low, high = high, 2 * high
    for _ in range(200):
        middle = (low + high) / 2
        if (function(middle) <= delta) == few_noise:
            low = middle
        else:
            high = middle
    return math.sqrt(1 + low / 2) + sign * math.sqrt(low / 2)


@pytest.mark.parametrize(("epsilon", "delta"), [(0.1, 1e-5), (1, 0.01), (1, 0.3), (4, 1e-6), (50, 0.01), (50, 0.3)])
def test_the_calibration_is_the_specified_one(epsilon, delta):
    expected = specified_alpha(epsilon, delta) / math.sqrt(2 * epsilon)
    assert noise_multiplier(epsilon, delta) == pytest.approx(expected, rel=1e-7)


@pytest.mark.parametrize(("epsilon", "delta"), GRID)
def test_calibration_and_epsilon_are_those_of_dp_accounting(epsilon, delta):
    exact = pytest.importorskip("dp_accounting.gaussian_mechanism")
    multiplier = noise_multiplier(epsilon, delta)
    assert multiplier == pytest.approx(exact.get_sigma_gaussian(epsilon, delta), rel=1e-6)
    assert gaussian_epsilon(multiplier, delta) == pytest.approx(epsilon, rel=1e-6)


def test_known_multipliers():
    """The classical bound sqrt(2 ln(1.25 / delta)) / epsilon is looser; the reference's defaults need little noise."""
    assert noise_multiplier(1.0, 1e-5) == pytest.approx(3.730632, abs=1e-6)
    assert noise_multiplier(1.0, 1e-5) < math.sqrt(2 * math.log(1.25e5))
    assert noise_multiplier(50.0, 0.01) == pytest.approx(0.124601, abs=1e-6)


@settings(max_examples=60, deadline=None)
@given(st.floats(1e-4, 1e4), st.floats(1e-12, 0.9))
def test_the_multiplier_reaches_delta(epsilon, delta):
    multiplier = noise_multiplier(epsilon, delta)
    assert gaussian_log_delta(multiplier, epsilon) == pytest.approx(math.log(delta), abs=1e-6)
    assert gaussian_log_delta(multiplier * 1.01, epsilon) < math.log(delta)


@pytest.mark.parametrize(
    "arguments", [(0, 0.1), (-1, 0.1), (math.nan, 0.1), (math.inf, 0.1), (1, 0), (1, 1), (1, math.nan)]
)
def test_unusable_settings_are_refused(arguments):
    with pytest.raises(OptionError):
        noise_multiplier(*arguments)


@pytest.mark.parametrize(("epsilon", "delta"), [(1e-38, 1e-300), (1e-38, 0.999), (3e38, 1e-300), (3e38, 0.999)])
def test_extreme_settings_have_a_multiplier(epsilon, delta):
    assert 0 < noise_multiplier(epsilon, delta) < math.inf


def test_epsilon_at_the_ends():
    assert gaussian_epsilon(0.0, 0.01) == math.inf
    assert gaussian_epsilon(1e6, 0.01) == 0.0
    with pytest.raises(OptionError):
        gaussian_epsilon(-1.0, 0.01)


def test_noise_is_normal():
    noise = normal_noise(200_000, seeded(1))
    assert stats.kstest(noise, "norm").pvalue > 1e-3
    assert abs(noise.std() - 1) < 0.01 and abs(noise.mean()) < 0.01


def test_noise_has_known_answers_at_the_ends():
    """All bits 0 and all bits 1: the extreme quantiles, finite and each the other's negative."""
    low, high = normal_noise(2, lambda count: (bytes(8) + b"\xff" * 8)[:count])
    assert low == -high == pytest.approx(stats.norm.ppf(2.0**-53))
    assert normal_noise(1, lambda count: b"\x00" * 7 + b"\x80")[0] == pytest.approx(0.0, abs=1e-15)


def test_noise_follows_its_seed():
    assert normal_noise(5, seeded(1)).tolist() == normal_noise(5, seeded(1)).tolist()
    assert normal_noise(5, seeded(1)).tolist() != normal_noise(5, seeded(2)).tolist()
    assert normal_noise(5).tolist() != normal_noise(5).tolist()


@pytest.mark.parametrize("multiplier", [0.1, 1.0, 5.0])
def test_the_deviation_of_uploads_is_multiplier_times_bound(multiplier):
    received = weights(a=np.zeros(50_000), b=np.full(50_000, 0.5))
    noisy = add_noise(received, received, ClipBound(0.2), multiplier, seeded(3))
    differences = np.concatenate([noisy.weights[name] - received[name] for name in received])
    assert differences.std() == pytest.approx(0.2 * multiplier, rel=0.01)
    assert noisy.norm == 0.0


@given(st.lists(st.floats(-100, 100, width=32), min_size=1, max_size=20), st.floats(1e-3, 10))
def test_without_noise_the_update_has_the_bounds_norm_at_most(moves, bound):
    received = weights(a=np.full(len(moves), 0.25), b=np.ones(3))
    trained = received | weights(a=np.float32(0.25) + np.array(moves, np.float32))
    noisy = add_noise(trained, received, ClipBound(bound), 0.0, seeded())
    assert noisy.norm == distance(received, trained)
    clipped = distance(received, noisy.weights)
    assert clipped <= bound + 1e-6
    assert clipped == pytest.approx(min(noisy.norm, bound), rel=1e-3, abs=1e-5)


def test_an_update_keeps_its_direction():
    received = weights(a=[1.0, 2.0], b=[3.0])
    trained = weights(b=[3.0], a=[4.0, 6.0])
    clipped = add_noise(trained, received, ClipBound(2.5), 0.0, seeded())
    assert clipped.norm == 5.0
    assert list(clipped.weights) == ["a", "b"]
    assert clipped.weights["a"].tolist() == [2.5, 4.0] and clipped.weights["b"].tolist() == [3.0]
    assert clipped.weights["a"].dtype == np.float32


@pytest.mark.parametrize(
    ("bound", "factor"),
    [(0.625, 0.125), (2.5, 0.5), (5.0, 1.0), (math.nextafter(5.0, 6.0), 1.0), (8.0, 1.0), (1e30, 1.0)],
)
def test_an_update_is_scaled_by_bound_over_norm_above_the_bound_and_never_below_it(bound, factor):
    """An update of norm 5 in numbers that float32 holds exactly."""
    received = weights(a=[1.0, 2.0], b=[-3.0])
    trained = weights(a=[4.0, 6.0], b=[-3.0])
    noisy = add_noise(trained, received, ClipBound(bound), 0.0, seeded())
    assert noisy.weights["a"].tolist() == [1.0 + 3.0 * factor, 2.0 + 4.0 * factor]
    assert noisy.weights["b"].tolist() == [-3.0]


def test_noise_does_not_depend_on_how_far_the_update_was_clipped():
    received = weights(a=np.zeros(1000))
    far, near = weights(a=np.full(1000, 64.0)), weights(a=np.zeros(1000))
    noise = 3.0 * 0.5 * normal_noise(1000, seeded(9))
    for trained in (far, near):
        clipped = add_noise(trained, received, ClipBound(0.5), 0.0, seeded()).weights["a"].astype(np.float64)
        noisy = add_noise(trained, received, ClipBound(0.5), 3.0, seeded(9)).weights["a"]
        assert noisy.tolist() == pytest.approx((clipped + noise).tolist(), rel=1e-6, abs=1e-6)


def test_a_device_that_learned_nothing_uploads_noise():
    received = weights(a=np.ones(1000))
    noisy = add_noise(received, received, ClipBound(), 1.0, seeded(5))
    assert np.std(noisy.weights["a"] - 1) == pytest.approx(FIRST_BOUND, rel=0.1)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_refused(bad):
    with pytest.raises(EncodingError) as caught:
        add_noise(weights(a=[0.0, bad]), weights(a=[0.0, 1.0]), ClipBound(), 1.0, seeded())
    assert caught.value.fault is EncodingFault.NOT_FINITE


def test_the_bound_follows_the_model():
    """A recorded run of the reference client: 1.2104 taken in iteration 1, 29.34 not taken later."""
    bound = ClipBound()
    assert bound.value == 0.05
    zero = weights(a=[0.0, 0.0])
    bound = bound.after(1, zero, weights(a=[1.2104, 0.0]), 1.0)
    assert bound.value == pytest.approx(1.2104)
    assert bound.after(2, zero, weights(a=[29.34, 0.0]), 1.0) == bound
    assert bound.after(2, zero, weights(a=[0.0, 3.0]), 0.1).value == pytest.approx(0.3)
    assert ClipBound().after(5, zero, weights(a=[9.0, 0.0]), 1.0) == ClipBound()


def test_a_failed_iteration_leaves_the_bound():
    zero = weights(a=[0.0])
    assert ClipBound(0.7).after(1, zero, zero, 1.0) == ClipBound(0.7)
    assert ClipBound(0.7).after(2, zero, zero, 1.0) == ClipBound(0.7)
    assert ClipBound(0.7).after(2, zero, weights(a=[np.nan]), 1.0) == ClipBound(0.7)


def test_a_norm_does_not_depend_on_the_number_of_processors() -> None:
    code = """
import numpy as np
from mindfl.privacy.dp import distance
draw = np.random.default_rng(0)
for size in (30_000, 60_000, 90_001):
    print(distance(*({"w": draw.standard_normal(size, np.float32)} for _ in range(2))).hex())
"""
    threads = [{"OPENBLAS_NUM_THREADS": str(count)} for count in (1, 2, 3)]
    found = {
        subprocess.run([sys.executable, "-c", code], env=os.environ | each, check=True, capture_output=True).stdout
        for each in threads
    }
    assert len(found) == 1
