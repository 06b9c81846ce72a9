"""Exact sums: order, grouping and errors of FedAvg."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mindfl.errors import OptionError, ProtocolError
from mindfl.server import FeatureLayout, FedAvgSum
from mindfl.server.aggregate import LIMIT, FeatureFault, initial_model

LENGTHS = {"b.weight": 2, "a.bias": 1}
values = st.floats(-(2.0**35), 2.0**35, width=32)
uploads = st.lists(st.tuples(st.tuples(values, values, values), st.integers(1, 65535)), min_size=1, max_size=12)


def as_upload(triple):
    return {"a.bias": np.array(triple[:1], np.float32), "b.weight": np.array(triple[1:], np.float32)}


def summed(items):
    total = FedAvgSum(FeatureLayout(LENGTHS))
    for triple, data_size in items:
        with total.convert(as_upload(triple)) as contribution:
            assert contribution.fault is None
            total.add(contribution, data_size)
    return total


def merged(*parts):
    total = FedAvgSum(parts[0].layout)
    for part in parts:
        total.merge(part.partial())
    return total


def result(total):
    previous = as_upload((0.0, 0.0, 0.0))
    average = total.average(previous)
    return np.concatenate([average["a.bias"], average["b.weight"]])


@given(uploads, st.randoms(use_true_random=False))
def test_order_of_arrival_does_not_matter(items, random):
    shuffled = random.sample(items, len(items))

    assert result(summed(items)).tobytes() == result(summed(shuffled)).tobytes()


@given(uploads, uploads, uploads)
def test_merging_workers_is_associative_and_equals_one_worker(first, second, third):
    left = merged(merged(summed(first), summed(second)), summed(third))
    right = merged(summed(first), merged(summed(second), summed(third)))

    assert result(left).tobytes() == result(summed(first + second + third)).tobytes()
    assert result(right).tobytes() == result(left).tobytes()


@given(uploads)
def test_agrees_with_the_exact_sum_to_float32_rounding(items):
    sizes = sum(size for _, size in items)
    actual = result(summed(items))

    for index in range(3):
        exact = math.fsum(triple[index] for triple, _ in items) / sizes
        # Values below 2**-33 are held to within 2**-57 each; then one rounding in float64 and one to float32.
        allowed = len(items) * 2.0**-57 / sizes + float(np.spacing(np.float32(abs(exact)))) * 0.500001
        assert abs(float(actual[index]) - exact) <= allowed


def test_ill_conditioned_sum_in_which_plain_float32_loses_everything():
    big = 2.0**35
    items = [((big, 1.0, 0.0), 1), ((-big, 2.0, 0.0), 1), ((2.0**-20, 3.0, 0.0), 1)]

    assert result(summed(items))[0] == np.float32(2.0**-20 / 3)


def test_headroom_at_the_largest_values_and_number_of_uploads():
    largest = float(np.nextafter(np.float32(LIMIT), np.float32(0)))
    total = FedAvgSum(FeatureLayout({"w": 1}))
    one = FedAvgSum(total.layout)
    with one.convert({"w": np.array([largest], np.float32)}) as contribution:
        one.add(contribution, 1)
    # Doubling: 2**17 - 1 = 1 + 2 + 4 + ... + 2**16 uploads.
    total.merge(one.partial())
    for _ in range(16):
        one = merged(one, one)
        total.merge(one.partial())

    assert total.average({"w": np.zeros(1, np.float32)})["w"][0] == np.float32(largest)
    with pytest.raises(ProtocolError, match="131071"):
        total.merge(one.partial())


def test_a_weight_that_nobody_uploaded_stays():
    total = FedAvgSum(FeatureLayout(LENGTHS))
    with total.convert({"a.bias": np.array([6.0], np.float32)}) as contribution:
        total.add(contribution, 2)
    with total.convert(as_upload((3.0, 8.0, 4.0))) as contribution:
        total.add(contribution, 1)
    average = total.average(as_upload((9.0, 9.0, 9.0)))
    assert average["a.bias"].tolist() == [3.0]
    assert average["b.weight"].tolist() == [8.0, 4.0]

    total.reset()
    with total.convert({"a.bias": np.array([6.0], np.float32)}) as contribution:
        total.add(contribution, 2)
    average = total.average(as_upload((9.0, 7.0, 5.0)))
    assert average["a.bias"].tolist() == [3.0]
    assert average["b.weight"].tolist() == [7.0, 5.0]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("upload", "fault"),
    [
        ({}, FeatureFault.EMPTY),
        ({"c": np.zeros(1, np.float32)}, FeatureFault.UNKNOWN_NAME),
        ({"a.bias": np.zeros(2, np.float32)}, FeatureFault.WRONG_SHAPE),
        ({"a.bias": np.zeros((1, 1), np.float32)}, FeatureFault.WRONG_SHAPE),
        ({"a.bias": np.zeros(1, np.float64)}, FeatureFault.WRONG_SHAPE),
        ({"a.bias": np.array([np.nan], np.float32)}, FeatureFault.NOT_FINITE),
        ({"a.bias": np.array([np.inf], np.float32)}, FeatureFault.NOT_FINITE),
        ({"b.weight": np.array([0, -np.inf], np.float32)}, FeatureFault.NOT_FINITE),
        ({"b.weight": np.array([np.nan, np.inf], np.float32)}, FeatureFault.NOT_FINITE),
        ({"a.bias": np.array([LIMIT], np.float32)}, FeatureFault.NOT_FINITE),
        ({"a.bias": np.array([-LIMIT], np.float32)}, FeatureFault.NOT_FINITE),
    ],
)
def test_faults_are_named_and_leave_no_trace(upload, fault):
    total = summed([((1.0, 2.0, 3.0), 1)])

    with total.convert(upload) as contribution:
        assert contribution.fault is fault

    # The scratch memory is reused: the next upload must not see what the faulty one left.
    with total.convert({"a.bias": np.array([3.0], np.float32)}) as contribution:
        assert contribution.fault is None
        total.add(contribution, 1)
    assert result(total).tolist() == [2.0, 2.0, 3.0]


def test_names_ascend_in_byte_order():
    names = ["fc1.weight", "conv2.weight", "fc1.bias", "Z", "é", "conv10.weight", "\U0001f600", "\uffff"]

    layout = FeatureLayout(dict.fromkeys(names, 1))

    assert list(layout.names) == sorted(names, key=str.encode)


def test_initial_model_is_flat_copied_and_read_only():
    tensor = np.arange(6, dtype=np.float32).reshape(1, 2, 3)

    _, model = initial_model({"w": tensor})
    tensor[:] = 9

    assert model["w"].tolist() == [0, 1, 2, 3, 4, 5]
    assert not model["w"].flags.writeable


@pytest.mark.parametrize(
    "bad", [np.zeros(0, np.float32), np.zeros(2), np.array([np.nan], np.float32), np.array([np.inf], np.float32)]
)
def test_unusable_initial_weights_are_named(bad):
    with pytest.raises(OptionError, match=r"fc\.weight"):
        initial_model({"ok": np.zeros(1, np.float32), "fc.weight": bad})


def test_a_model_without_weights_is_refused():
    with pytest.raises(OptionError, match="no weights"):
        initial_model({})
