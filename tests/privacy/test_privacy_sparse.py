"""Sparse uploads: the generator literally, the real server's models, refusals."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from real_privacy import LENGTHS, RATE, array_of, first_model, golden, literal_mask, sparse_faults

from mindfl.privacy import EncodingError, EncodingFault, decode_update, encode_update
from mindfl.privacy.compression import generator_states, keep_count, keep_mask
from mindfl.protocol import CompressFeatureMap

int32 = st.integers(-(2**31), 2**31 - 1)


def literal_states(first, count):
    states = [first]
    for _ in range(count - 1):
        product = (states[-1] * 48271 + 2**31) % 2**32 - 2**31
        rest = abs(product) % (2**31 - 1)
        states.append(rest if product >= 0 else -rest)
    return states


def seed_for(first):
    """Return the seed whose first state is ``first`` (not one of the three that the remainder changes)."""
    return (first * pow(48271, -1, 2**32) - (2**31 - 1) + 2**31) % 2**32 - 2**31


def as_entries(recorded):
    return tuple(
        CompressFeatureMap(
            weight_fullname=item["name"],
            compress_data=array_of(item["data"], np.int8),
            min_val=item["min"],
            max_val=item["max"],
        )
        for item in recorded
    )


def decoded(entries, names=tuple(LENGTHS), model=None, data_size=1, upload_rate=RATE, iteration=1):
    return decode_update(
        entries,
        names,
        model or first_model(),
        data_size=data_size,
        rate=RATE,
        upload_rate=upload_rate,
        iteration=iteration,
    )


def some_upload(data_size=1):
    received = first_model()
    random = np.random.default_rng(11)
    trained = {
        name: values + random.normal(0, 0.01, values.size).astype(np.float32) for name, values in received.items()
    }
    return trained, received, encode_update(trained, received, data_size=data_size, rate=RATE, iteration=1)


@given(int32, st.integers(1, 300))
@example(seed_for(2**31 - 2), 50)
@example(-(2**31) + 1, 50)
def test_states_are_those_of_the_literal_generator(seed, count):
    first = (seed + 2147483647 + 2**31) % 2**32 - 2**31
    first = literal_states(first, 2)[1] if first else 0
    assert generator_states(seed, count).tolist() == literal_states(first, count)


@pytest.mark.parametrize("special", [2**31 - 1, -(2**31) + 1])
@pytest.mark.parametrize("before", [1, 7, 40])
def test_states_after_a_value_that_the_remainder_changes(special, before):
    """Such values need states that lead there: their predecessors are powers of the multiplier's inverse."""
    first = (special * pow(48271, -before, 2**32) + 2**31) % 2**32 - 2**31
    states = generator_states(seed_for(first), before + 10).tolist()
    assert states == literal_states(first, before + 10)
    assert states[before:] == [0] * 10


def test_the_smallest_integer_becomes_minus_one():
    """Only itself leads to -2**31, so that it can be the first product alone."""
    states = generator_states(seed_for(-(2**31)), 5).tolist()
    assert states == literal_states(-1, 5)


def test_states_are_of_either_sign():
    states = generator_states(1, 1000)
    assert 400 < int((states < 0).sum()) < 600


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 400), st.floats(0, 1, width=32), int32)
def test_masks_are_the_literal_ones(size, rate, seed):
    mask = keep_mask(size, rate, seed)
    assert mask.tolist() == [bool(bit) for bit in literal_mask(size, rate, seed)]
    assert int(mask.sum()) == keep_count(size, rate) == int(np.float32(size) * np.float32(rate))


@pytest.mark.parametrize("iteration", [1, 2, 500, 2**31 - 1])
def test_masks_of_lenet_are_the_literal_ones(iteration):
    assert keep_mask(66404, 0.4, iteration).tolist() == [bool(bit) for bit in literal_mask(66404, 0.4, iteration)]


def test_masks_are_kept_and_cannot_be_written():
    mask = keep_mask(1000, 0.5, 3)
    assert keep_mask(1000, 0.5, 3) is mask
    with pytest.raises(ValueError):
        mask[0] = True


def test_uploads_are_read_as_by_the_real_server():
    """Bit by bit, over iterations whose models follow from each other."""
    model = first_model()
    for iteration, recorded in enumerate(golden("sparse"), 1):
        size = recorded["data_size"]
        upload = decoded(as_entries(recorded["entries"]), model=model, data_size=size, iteration=iteration)
        model = {name: array_of(text) for name, text in recorded["model"].items()}
        for name, values in upload.items():
            assert (values / np.float32(size)).tobytes() == model[name].tobytes(), (iteration, name)


@pytest.mark.parametrize("name", sorted(golden("sparse")[0]["refused"]))
def test_what_the_real_server_refuses_is_refused(name):
    recorded = golden("sparse")[0]
    entries = as_entries(recorded["entries"])
    fields = sparse_faults(entries)[name]
    with pytest.raises(EncodingError) as caught:
        decoded(
            fields.get("compress_feature_map", entries),
            fields.get("name_vec", tuple(LENGTHS)),
            upload_rate=fields.get("upload_sparse_rate", RATE),
        )
    assert caught.value.fault is EncodingFault[name.split()[0]]
    assert recorded["refused"][name][0] == 400


@given(st.integers(1, 65535), st.integers(1, 2**31 - 1), st.floats(0.125, 1, width=32))
@settings(max_examples=30, deadline=None)
def test_what_is_kept_comes_back_and_the_rest_stays(data_size, iteration, rate):
    trained, received, _ = some_upload()
    sent = encode_update(trained, received, data_size=data_size, rate=rate, iteration=iteration)
    read = decode_update(
        sent.entries,
        sent.names,
        received,
        data_size=data_size,
        rate=rate,
        upload_rate=sent.rate,
        iteration=iteration,
    )
    mask = np.split(keep_mask(1307, rate, iteration), np.cumsum(list(LENGTHS.values()))[:-1])
    for (name, old), kept, entry in zip(received.items(), mask, sent.entries, strict=True):
        assert (read[name][~kept] == np.float32(data_size) * old[~kept]).all()
        step = (entry.max_val - entry.min_val) / 255 + 1e-10
        slack = 1e-6 * data_size
        assert (np.abs(read[name][kept] - np.float32(data_size) * trained[name][kept]) <= step / 2 + slack).all()


def test_an_upload_follows_the_order_of_what_was_received():
    trained, received, sent = some_upload()
    assert sent.names == ("c", "a", "b") == tuple(entry.weight_fullname for entry in sent.entries)
    assert sent.rate == float(np.float32(RATE))
    shuffled = {name: trained[name] for name in sorted(trained)}
    again = encode_update(shuffled, received, data_size=1, rate=RATE, iteration=1)
    assert [e.compress_data.tobytes() for e in again.entries] == [e.compress_data.tobytes() for e in sent.entries]


def test_an_upload_may_hold_some_weights_only():
    trained, received, _ = some_upload()
    part = {name: received[name] for name in ("b", "c")}
    sent = encode_update(trained, part, data_size=2, rate=RATE, iteration=1)
    assert list(decoded(sent.entries, sent.names, received, 2)) == ["b", "c"]


def test_a_weight_of_which_nothing_is_kept_needs_no_entry():
    model = {"long": np.zeros(1000, np.float32), "short": np.ones(1, np.float32)}
    iteration = next(k for k in range(1, 1000) if not keep_mask(1001, RATE, k)[-1])
    sent = encode_update(model, model, data_size=3, rate=RATE, iteration=iteration)
    assert sent.entries[1].compress_data.size == 0
    for entries in (sent.entries, sent.entries[:1]):
        assert decoded(entries, sent.names, model, 3, iteration=iteration)["short"].tolist() == [3.0]


def test_a_rate_that_is_equal_in_float32_is_equal():
    _, _, sent = some_upload()
    assert decoded(sent.entries, upload_rate=float(np.float32(RATE)))
    assert decoded(sent.entries, upload_rate=RATE)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda first, *rest: {"entries": None}, EncodingFault.NO_ENTRIES),
        (lambda first, *rest: {"names": None}, EncodingFault.NO_NAMES),
        (lambda first, *rest: {"names": ("c", "a", "b", "a")}, EncodingFault.REPEATED_NAME),
        (lambda first, *rest: {"names": ("c", "a", "x")}, EncodingFault.UNKNOWN_NAME),
        (lambda first, *rest: {"names": ("c", "a")}, EncodingFault.UNKNOWN_NAME),
        (lambda first, *rest: {"entries": rest}, EncodingFault.WRONG_LENGTH),
        (lambda first, *rest: {"entries": (first, first, *rest)}, EncodingFault.REPEATED_NAME),
        (lambda first, *rest: {"entries": (replace(first, weight_fullname="x"), *rest)}, EncodingFault.UNKNOWN_NAME),
        (lambda first, *rest: {"entries": (replace(first, weight_fullname=None), *rest)}, EncodingFault.UNKNOWN_NAME),
        (
            lambda first, *rest: {"entries": (replace(first, compress_data=first.compress_data[1:]), *rest)},
            EncodingFault.WRONG_LENGTH,
        ),
        (
            lambda first, *rest: {"entries": (replace(first, compress_data=np.zeros(300, np.int8)), *rest)},
            EncodingFault.WRONG_LENGTH,
        ),
        (lambda first, *rest: {"entries": (replace(first, max_val=np.inf), *rest)}, EncodingFault.NOT_FINITE),
        (lambda first, *rest: {"upload_rate": np.nan}, EncodingFault.RATE),
        (lambda first, *rest: {"iteration": 2}, EncodingFault.WRONG_LENGTH),
    ],
)
def test_broken_uploads_are_refused(change, fault):
    _, _, sent = some_upload()
    with pytest.raises(EncodingError) as caught:
        decoded(**{"entries": sent.entries} | change(*sent.entries))
    assert caught.value.fault is fault


@pytest.mark.parametrize("rate", [-0.1, 1.5, np.nan, np.inf])
def test_a_device_refuses_a_rate_that_cannot_be(rate):
    model = first_model()
    with pytest.raises(EncodingError) as caught:
        encode_update(model, model, data_size=1, rate=rate, iteration=1)
    assert caught.value.fault is EncodingFault.RATE


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("bad", [np.nan, np.inf, np.float32(3e38), np.float32(-3e38)])
def test_weights_that_overflow_are_refused_and_nothing_is_warned_of(bad):
    received = {"a": np.full(50, -3e38, np.float32)}
    with pytest.raises(EncodingError) as caught:
        encode_update({"a": np.full(50, bad, np.float32)}, received, data_size=100, rate=1.0, iteration=1)
    assert caught.value.fault is EncodingFault.NOT_FINITE


def test_of_several_unknown_names_the_first_is_named():
    entries = tuple(
        CompressFeatureMap(weight_fullname=name, compress_data=np.zeros(1, np.int8), min_val=0.0, max_val=0.0)
        for name in ("zz", "mm", "xx")
    )
    with pytest.raises(EncodingError, match=r"\(mm\)"):
        decoded(entries)


def test_a_device_refuses_to_send_what_is_not_finite():
    trained, received, _ = some_upload()
    trained["a"] = np.full_like(trained["a"], np.nan)
    with pytest.raises(EncodingError, match=r"NaN.*\(a\)"):
        encode_update(trained, received, data_size=1, rate=RATE, iteration=1)
