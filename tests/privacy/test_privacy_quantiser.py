"""Weights as int8: the real server's bytes, error bounds, refusals."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from real_privacy import array_of, golden

from mindfl.errors import ProtocolError
from mindfl.privacy import EncodingError, EncodingFault, Rounding, dequantise_weights, quantise_weights
from mindfl.privacy.compression import dequantise, quantise
from mindfl.protocol import CompressFeatureMap, ResponseGetModel, decode, encode

SINGLE = np.finfo(np.float32)
finite = st.floats(-(2.0**126), 2.0**126, width=32)
vectors = hnp.arrays(np.float32, st.integers(1, 50), elements=finite)


def entry(data=(0, 1), low=0.0, high=1.0, name="w"):
    return CompressFeatureMap(weight_fullname=name, compress_data=np.array(data, np.int8), min_val=low, max_val=high)


@pytest.mark.parametrize("name", sorted(golden("quant")))
def test_a_download_has_the_real_servers_bytes(name):
    recorded = golden("quant")[name]
    made = quantise(name, array_of(recorded["values"]), Rounding.HALF_AWAY)
    assert made.compress_data.tobytes() == array_of(recorded["data"], np.int8).tobytes()
    assert (made.min_val, made.max_val) == (recorded["min"], recorded["max"])


def test_the_two_roundings_differ_in_halves_only():
    values = np.array([0, 0.5, 1.5, 127.5, 128.5, 200.5, 255], np.float32)
    away = quantise("w", values, Rounding.HALF_AWAY).compress_data.tolist()
    up = quantise("w", values, Rounding.HALF_UP).compress_data.tolist()
    assert away == [-128, -128, -127, -1, 1, 73, 127]
    assert up == [-128, -127, -126, 0, 1, 73, 127]


def test_just_below_a_half_is_rounded_down():
    step = np.nextafter(np.float32(128.5), np.float32(0))
    made = quantise("w", np.array([0, step, 255], np.float32), Rounding.HALF_UP)
    assert made.compress_data.tolist() == [-128, 0, 127]


@given(vectors, st.sampled_from(Rounding))
def test_values_are_read_within_half_a_step(values, rounding):
    made = quantise("w", values, rounding)
    assert made.compress_data.dtype == np.int8 and made.compress_data.shape == values.shape
    width = float(values.max()) - float(values.min())
    slack = 4 * float(SINGLE.eps) * (float(np.abs(values).max()) + width)
    error = np.abs(dequantise(made).astype(np.float64) - values.astype(np.float64))
    assert error.max() <= (width / 255 + 1e-10) / 2 + slack


@given(vectors)
def test_order_is_kept(values):
    read = dequantise(quantise("w", values, Rounding.HALF_AWAY))
    assert (np.diff(read[np.argsort(values)]) >= 0).all()


@given(hnp.arrays(np.int8, 20), finite, finite)
def test_reading_is_float32_throughout(data, low, high):
    low, high = sorted((low, high))
    assume(high - low < float(SINGLE.max))
    scale = np.float32(np.float32(np.float32(high) - np.float32(low)) / np.float32(255)) + np.float32(1e-10)
    expected = [np.float32(np.float32(np.float32(int(q) + 128) * scale) + np.float32(low)) for q in data]
    assert dequantise(entry(data, low, high)).tobytes() == np.array(expected, np.float32).tobytes()


def test_minus_zero_is_not_sent():
    made = quantise("w", np.array([-0.0, -0.0], np.float32), Rounding.HALF_AWAY)
    assert str(made.min_val) == str(made.max_val) == "0.0"


def test_weights_survive_the_wire():
    weights = {"b": np.linspace(-1, 2, 1000, dtype=np.float32), "a": np.zeros(3, np.float32)}
    sent = encode(ResponseGetModel(compress_feature_map=quantise_weights(weights)))
    assert len(sent) < 1300
    received = dequantise_weights(
        decode(sent, ResponseGetModel).compress_feature_map, {name: values.size for name, values in weights.items()}
    )
    assert list(received) == ["b", "a"]
    assert np.abs(received["b"] - weights["b"]).max() <= 3 / 255 / 2 * 1.001
    assert not received["a"].any()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused(bad):
    with pytest.raises(EncodingError, match=r"NaN, Inf.*\(fc\.weight\)") as caught:
        quantise_weights({"fc.weight": np.array([0, bad, 1], np.float32)})
    assert caught.value.fault is EncodingFault.NOT_FINITE
    assert isinstance(caught.value, ProtocolError)


def test_a_range_beyond_float32_is_refused():
    with pytest.raises(EncodingError) as caught:
        quantise("w", np.array([-SINGLE.max, SINGLE.max], np.float32), Rounding.HALF_AWAY)
    assert caught.value.fault is EncodingFault.NOT_FINITE


@pytest.mark.parametrize(
    ("entries", "fault"),
    [
        ([entry(low=np.nan)], EncodingFault.NOT_FINITE),
        ([entry(high=np.inf)], EncodingFault.NOT_FINITE),
        ([entry(low=-3e38, high=3e38)], EncodingFault.NOT_FINITE),
        ([entry(low=2.0, high=1.0)], EncodingFault.BOUNDS),
        ([], EncodingFault.NO_ENTRIES),
        ([entry(), entry()], EncodingFault.REPEATED_NAME),
        ([entry(name="x")], EncodingFault.UNKNOWN_NAME),
        ([entry(name=None)], EncodingFault.UNKNOWN_NAME),
        ([entry([1])], EncodingFault.WRONG_LENGTH),
        ([CompressFeatureMap(weight_fullname="w")], EncodingFault.WRONG_LENGTH),
        ([entry([1], name="v")], EncodingFault.MISSING_NAME),
    ],
)
def test_broken_downloads_are_refused(entries, fault):
    with pytest.raises(EncodingError) as caught:
        dequantise_weights(entries, {"w": 2, "v": 1})
    assert caught.value.fault is fault
    assert "\n" not in caught.value.line()


def test_bounds_of_no_values_do_not_matter():
    assert dequantise(entry((), np.nan, -np.inf)).size == 0


def test_a_peers_text_cannot_spoil_the_report():
    name = "\x1b[2Jevil\n" + "x" * 1_000_000
    with pytest.raises(EncodingError) as caught:
        dequantise_weights([entry(name=name)], {"w": 2})
    assert len(caught.value.line()) < 250 and caught.value.line().isprintable() and "evil" in caught.value.line()
