"""Signs and indices: probabilities against exact fractions, the real server's models, refusals."""

import os
from collections import Counter
from dataclasses import replace
from fractions import Fraction
from itertools import combinations
from math import comb

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from real_privacy import LENGTHS, STEP, array_of, first_model, golden, sign_faults
from scipy import stats

from mindfl.errors import OptionError
from mindfl.privacy import EncodingError, EncodingFault, decode_signs, encode_signs, sign_plan
from mindfl.privacy.signds import _largest, below, draw
from mindfl.protocol import DSParams

DEFAULTS = DSParams(sign_k=0.01, sign_eps=100.0, sign_thr_ratio=0.6, sign_global_lr=0.1)


def exact_probabilities(dimensions, top, output, threshold, factor):
    counts = [Fraction(comb(top, v) * comb(dimensions - top, output - v)) for v in range(output + 1)]
    counts = [count * (factor if v >= threshold else 1) for v, count in enumerate(counts)]
    return [count / sum(counts) for count in counts]


def exact_plan(dimensions, top, output, epsilon):
    """The threshold and its expectation, by fractions."""
    factor = Fraction(float(np.exp(epsilon)))
    best, expected = 1, Fraction(-1)
    for threshold in range(1, output + 1):
        probabilities = exact_probabilities(dimensions, top, output, threshold, factor)
        mean = sum(v * p for v, p in enumerate(probabilities))
        if mean <= expected:
            break
        best, expected = threshold, mean
    return best, expected


def decoded(sign=1, indices=(0, 5), names=tuple(LENGTHS), model=None, data_size=1):
    values = None if indices is None else np.array(indices, np.int32)
    return decode_signs(sign, values, names, model or first_model(), data_size=data_size, global_lr=STEP)


def test_lenet_uploads_as_many_indices_as_the_java_client():
    plan = sign_plan(66404, DEFAULTS)
    assert (plan.top, plan.output) == (664, 43)
    assert 0.6 <= plan.expected / plan.output < 0.61


@settings(max_examples=60, deadline=None)
@given(st.integers(4, 400), st.floats(0.05, 0.25), st.integers(1, 12), st.sampled_from([0.5, 2.0, 10.0, 100.0]))
def test_plans_are_those_of_exact_fractions(dimensions, share, output, epsilon):
    plan = sign_plan(dimensions, replace(DEFAULTS, sign_k=share, sign_eps=epsilon, sign_dim_out=output))
    output = min(output, dimensions)
    threshold, expected = exact_plan(dimensions, plan.top, output, epsilon)
    assert plan.output == output
    assert plan.expected == pytest.approx(float(expected), rel=1e-9)
    if plan.threshold != threshold:  # two thresholds that differ by rounding only
        assert abs(plan.threshold - threshold) == 1
        return
    probabilities = exact_probabilities(dimensions, plan.top, output, threshold, Fraction(float(np.exp(epsilon))))
    assert np.diff([0.0, *plan.cumulative]).tolist() == pytest.approx([float(p) for p in probabilities], abs=1e-12)


@pytest.mark.parametrize("dimensions", [10**6, 10**9, 2**31 - 1])
def test_large_models_do_not_overflow(dimensions):
    plan = sign_plan(dimensions, replace(DEFAULTS, sign_dim_out=50))
    assert (plan.output, plan.threshold) == (50, 27) and 26.99 < plan.expected < 27
    assert sign_plan(dimensions, DEFAULTS).output == 43


@pytest.mark.parametrize("dimensions", [1, 2, 5, 99])
@pytest.mark.parametrize("output", [0, 1, 50])
def test_small_models_have_a_plan(dimensions, output):
    plan = sign_plan(dimensions, replace(DEFAULTS, sign_dim_out=output))
    assert plan.top >= 1 and 1 <= plan.output <= dimensions
    assert plan.cumulative[-1] == 1.0


def test_the_number_of_indices_never_exceeds_what_the_server_takes():
    assert sign_plan(10**6, replace(DEFAULTS, sign_k=0.25)).output == 100


def test_the_largest_number_of_indices_with_the_ratio_is_taken():
    for epsilon in (1.0, 10.0, 30.0):
        params = replace(DEFAULTS, sign_eps=epsilon)
        plan = sign_plan(5000, params)
        assert plan.output == 1 or plan.expected / plan.output >= 0.6
        following = sign_plan(5000, replace(params, sign_dim_out=plan.output + 1))
        assert following.expected / following.output < 0.6


@pytest.mark.parametrize("name", ["sign_k", "sign_eps", "sign_thr_ratio", "sign_dim_out"])
def test_unusable_parameters_are_refused(name):
    for value in (-1, 101):
        with pytest.raises(OptionError, match=name):
            sign_plan(100, replace(DEFAULTS, **{name: value}))
    with pytest.raises(OptionError):
        sign_plan(0, DEFAULTS)


def test_no_choice_is_more_than_epsilon_likelier():
    """All sets of a small model: their probabilities for two opposite updates differ by e**epsilon at most."""
    params = replace(DEFAULTS, sign_k=0.25, sign_eps=1.5, sign_dim_out=3)
    plan = sign_plan(8, params)
    shares = np.diff([0.0, *plan.cumulative])

    def chance(indices, top):
        v = len(set(indices) & top)
        return shares[v] / (comb(plan.top, v) * comb(8 - plan.top, 3 - v))

    sets = list(combinations(range(8), 3))
    here, there = ([chance(indices, top) for indices in sets] for top in ({0, 1}, {6, 7}))
    assert sum(here) == pytest.approx(1)
    assert np.log(np.array(here) / there).max() <= 1.5 + 1e-9


def test_the_choice_has_the_planned_distribution():
    params = replace(DEFAULTS, sign_k=0.25, sign_eps=2.0, sign_dim_out=4)
    received = {"a": np.zeros(30, np.float32), "b": np.zeros(10, np.float32)}
    move = np.random.default_rng(1).permutation(np.arange(-20, 20)).astype(np.float32)
    trained = {"a": move[:30], "b": move[30:]}
    plan = sign_plan(40, params)
    tops = {1: set(np.argsort(move)[-10:].tolist()), -1: set(np.argsort(move)[:10].tolist())}
    random = np.random.Generator(np.random.Philox(3)).bytes
    counts, signs, hits = Counter(), Counter(), Counter()
    runs = 4000
    for _ in range(runs):
        update = encode_signs(trained, received, params, random)
        indices = update.indices.tolist()
        assert indices == sorted(set(indices)) and update.indices.dtype == np.int32
        assert len(indices) == 4 and indices[0] >= 0 and indices[-1] < 40
        counts[len(set(indices) & tops[update.sign])] += 1
        signs[update.sign] += 1
        hits.update(indices)
    shares = np.diff([0.0, *plan.cumulative])
    assert stats.chisquare([counts[v] for v in range(5)], shares * runs).pvalue > 1e-4
    assert stats.binomtest(signs[1], runs).pvalue > 1e-4
    # With either sign one of the middle values is as likely as another.
    middle = [hits[index] for index in np.argsort(move)[10:30].tolist()]
    assert stats.chisquare(middle).pvalue > 1e-4


def test_the_choice_follows_its_randomness():
    model = first_model()
    trained = {name: values + np.float32(0.01) * np.sign(values) for name, values in model.items()}
    one, two = (encode_signs(trained, model, DEFAULTS, np.random.Generator(np.random.Philox(5)).bytes) for _ in "ab")
    assert one.indices.tolist() == two.indices.tolist()
    assert {tuple(encode_signs(trained, model, DEFAULTS).indices) for _ in range(3)} != {tuple(one.indices)}


def test_an_upload_moves_the_model_towards_training():
    model = first_model()
    trained = {name: values + np.linspace(-1, 1, values.size, dtype=np.float32) for name, values in model.items()}
    random = np.random.Generator(np.random.Philox(6)).bytes
    agree = 0
    for _ in range(20):
        update = encode_signs(trained, model, replace(DEFAULTS, sign_k=0.1), random)
        moved = decode_signs(update.sign, update.indices, tuple(model), model, data_size=1, global_lr=0.1)
        agree += sum(float((moved[n] - model[n]) @ (trained[n] - model[n])) for n in model) > 0
    assert agree == 20


@given(st.lists(st.integers(-3, 3), min_size=1, max_size=40), st.data())
def test_the_largest_are_the_first_of_a_stable_order(values, data):
    count = data.draw(st.integers(1, len(values)))
    expected = sorted(range(len(values)), key=lambda i: (-values[i], i))[:count]
    assert _largest(np.array(values, np.float32), count).tolist() == sorted(expected)


@given(st.integers(0, 30), st.data())
def test_draws_are_different_numbers_in_range(population, data):
    count = data.draw(st.integers(0, population))
    drawn = draw(population, count, os.urandom)
    assert len(set(drawn)) == len(drawn) == count and all(0 <= number < population for number in drawn)


def test_draws_are_uniform():
    random = np.random.Generator(np.random.Philox(8)).bytes
    sets = Counter(tuple(sorted(draw(6, 3, random))) for _ in range(6000))
    assert len(sets) == 20 and stats.chisquare(list(sets.values())).pvalue > 1e-4
    numbers = Counter(below(5, random) for _ in range(5000))
    assert sorted(numbers) == [0, 1, 2, 3, 4] and stats.chisquare(list(numbers.values())).pvalue > 1e-4


def test_uploads_are_read_as_by_the_real_server():
    """Bit by bit, over iterations whose models follow from each other."""
    model = first_model()
    for recorded in golden("signs"):
        size = recorded["data_size"]
        upload = decoded(recorded["sign"], recorded["indices"], model=model, data_size=size)
        model = {name: array_of(text) for name, text in recorded["model"].items()}
        for name, values in upload.items():
            assert (values / np.float32(size)).tobytes() == model[name].tobytes(), name


@pytest.mark.parametrize("name", sorted(golden("signs")[0]["refused"]))
def test_what_the_real_server_refuses_is_refused(name):
    fields = sign_faults()[name]
    with pytest.raises(EncodingError) as caught:
        decoded(indices=fields.get("index_array", (1, 2)), names=tuple(fields.get("feature_map", LENGTHS)))
    assert caught.value.fault is EncodingFault[name.split()[0]]
    assert golden("signs")[0]["refused"][name][0] == 400


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({"sign": 0}, EncodingFault.SIGN),
        ({"sign": 2}, EncodingFault.SIGN),
        ({"sign": -2}, EncodingFault.SIGN),
        ({"indices": None}, EncodingFault.INDEX_COUNT),
        ({"indices": ()}, EncodingFault.INDEX_COUNT),
        ({"indices": range(101)}, EncodingFault.INDEX_COUNT),
        ({"indices": (-1, 4)}, EncodingFault.INDEX_RANGE),
        ({"indices": (4, 1307)}, EncodingFault.INDEX_RANGE),
        ({"indices": (4, 300), "names": ("c",)}, EncodingFault.INDEX_RANGE),
        ({"indices": (4, 4)}, EncodingFault.REPEATED_INDEX),
        ({"names": None}, EncodingFault.NO_NAMES),
        ({"names": ("c", "c")}, EncodingFault.REPEATED_NAME),
        ({"names": ("c", "zz")}, EncodingFault.UNKNOWN_NAME),
    ],
)
def test_broken_uploads_are_refused(fields, fault):
    with pytest.raises(EncodingError) as caught:
        decoded(**fields)
    assert caught.value.fault is fault


def test_indices_need_no_order_and_count_in_the_order_of_the_names():
    model = first_model()
    moved = decoded(-1, (306, 0), ("b", "c"), model)
    assert list(moved) == ["b", "c"]
    assert moved["b"][0] == model["b"][0] - np.float32(STEP)
    assert moved["c"][299] == model["c"][299] - np.float32(STEP)
    assert sum(int((moved[name] != model[name]).sum()) for name in moved) == 2
    assert model["b"].tobytes() == first_model()["b"].tobytes()


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("bad", [np.nan, np.inf, np.float32(3e38)])
def test_weights_that_overflow_are_refused_and_nothing_is_warned_of(bad):
    received = {"a": np.full(1000, -3e38, np.float32)}
    with pytest.raises(EncodingError) as caught:
        encode_signs({"a": np.full(1000, bad, np.float32)}, received, DEFAULTS)
    assert caught.value.fault is EncodingFault.NOT_FINITE


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_refused(bad):
    model = first_model()
    with pytest.raises(EncodingError) as caught:
        encode_signs(model | {"a": np.full(1000, bad, np.float32)}, model, DEFAULTS)
    assert caught.value.fault is EncodingFault.NOT_FINITE


@pytest.mark.parametrize(("bound", "size"), [(2, 1), (256, 1), (257, 2), (65536, 2), (65537, 3)])
def test_a_number_below_a_bound_takes_no_more_random_bytes_than_it_needs(bound, size):
    asked = []

    def random(count):
        asked.append(count)
        return b"\1" + bytes(count - 1)

    assert below(bound, random) == 1
    assert asked == [size]
