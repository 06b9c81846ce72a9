"""Hostile bodies are refused, in proportion to their length; an accepted one is a message that can be sent on."""

from __future__ import annotations

import struct
import tracemalloc
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from protocol_messages import MESSAGES, messages, same

from mindfl.protocol import (
    REQUESTS,
    ClientPublicKeys,
    ClientShare,
    CompressFeatureMap,
    CompressType,
    RequestFLJob,
    RequestPullWeight,
    RequestUpdateModel,
    ResponseFLJob,
    ResponsePullWeight,
    ReturnClientList,
    ReturnExchangeKeys,
    SendReconstructSecret,
    decode,
    encode,
    flatbuf,
)
from mindfl.protocol.flatbuf import BrokenBufferError


def _read(body: bytes, message: type[Any]) -> Any:
    """Return the message, which must survive being sent on, or None where the body is refused."""
    try:
        read = decode(body, message)
    except BrokenBufferError:
        return None
    assert same(decode(encode(read), message), read)
    return read


@pytest.mark.parametrize("request_type", REQUESTS.values(), ids=list(REQUESTS))
@settings(max_examples=60, deadline=None)
@given(body=st.binary(max_size=300))
def test_random_bytes(request_type: type[Any], body: bytes) -> None:
    _read(body, request_type)


@settings(max_examples=400, deadline=None)
@given(data=st.data())
def test_changed_bytes(data: st.DataObject) -> None:
    message = data.draw(st.sampled_from(MESSAGES))
    body = bytearray(encode(data.draw(messages(message))))
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(body) - 1))
        body[place] = data.draw(st.integers(0, 255) | st.sampled_from([body[place] ^ 4, body[place] ^ 1, 0xFF]))
    _read(bytes(body), message)


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_a_body_of_one_type_read_as_another(data: st.DataObject) -> None:
    written, read = data.draw(st.sampled_from(MESSAGES)), data.draw(st.sampled_from(MESSAGES))
    _read(encode(data.draw(messages(written))), read)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_truncated_bodies(data: st.DataObject) -> None:
    message = data.draw(st.sampled_from(MESSAGES))
    sent = data.draw(messages(message))
    body = encode(sent)
    for length in range(len(body)):
        read = _read(body[:length], message)
        assert read is None or (same(read, sent) and not any(body[length:])), "only padding may be missing"


def _put(body: bytes, at: int, code: str, value: int) -> bytes:
    changed = bytearray(body)
    struct.pack_into("<" + code, changed, at, value)
    return bytes(changed)


def _body() -> bytes:
    """Return a RequestPullWeight by hand: root offset, vtable at 4, table at 12, vector at 24, text "conv" at 32."""
    return struct.pack("<I 4H iiI II I4sI", 12, 8, 12, 4, 8, 8, 7, 4, 1, 4, 4, b"conv", 0)


def test_the_body_that_the_faults_are_put_into_is_sound() -> None:
    assert decode(_body(), RequestPullWeight) == RequestPullWeight(iteration=7, weight_names=("conv",))


@pytest.mark.parametrize(
    ("at", "code", "value", "fault"),
    [
        pytest.param(0, "I", 0, "points to itself", id="root offset 0"),
        pytest.param(0, "I", 14, "not aligned", id="root table off by 2"),
        pytest.param(0, "I", 44, "outside", id="root table behind the end"),
        pytest.param(0, "I", 2**32 - 4, "outside", id="root table at -4 by wrapping"),
        pytest.param(12, "i", 16, "outside", id="vtable before the buffer"),
        pytest.param(12, "i", -1000, "outside", id="vtable behind the buffer"),
        pytest.param(12, "i", 7, "not aligned", id="vtable at an odd place"),
        pytest.param(4, "H", 9, "broken vtable", id="vtable of odd length"),
        pytest.param(4, "H", 0x7FFE, "broken vtable", id="vtable over the end"),
        pytest.param(8, "H", 5, "not aligned", id="number off by 1"),
        pytest.param(8, "H", 0xFFF0, "outside", id="number behind the end"),
        pytest.param(10, "H", 6, "not aligned", id="pointer off by 2"),
        pytest.param(20, "I", 0, "points to itself", id="vector offset 0"),
        pytest.param(20, "I", 5, "not aligned", id="vector off by 1"),
        pytest.param(20, "I", 2**31, "outside", id="vector 2 GiB away"),
        pytest.param(24, "I", 2**30, "over the end", id="2^30 texts, whose bytes are 0 modulo 2^32"),
        pytest.param(24, "I", 5, "over the end", id="vector over the end"),
        pytest.param(28, "I", 0, "points to itself", id="text offset 0"),
        pytest.param(28, "I", 6, "not aligned", id="text off by 2"),
        pytest.param(32, "I", 2**32 - 1, "over the end", id="text of 4 GiB"),
        pytest.param(32, "I", 9, "over the end", id="text one byte over the end"),
        pytest.param(32, "I", 8, "no zero byte", id="text that fills the buffer"),
        pytest.param(32, "I", 3, "no zero byte", id="text with something else behind"),
        pytest.param(36, "B", 0xFF, "not UTF-8", id="text in another encoding"),
    ],
)
def test_each_fault_is_named(at: int, code: str, value: int, fault: str) -> None:
    with pytest.raises(BrokenBufferError, match=fault):
        decode(_put(_body(), at, code, value), RequestPullWeight)


@pytest.mark.parametrize("size", [0, 2, 4])
def test_a_vtable_without_slots_makes_an_empty_message(size: int) -> None:
    assert decode(_put(_body(), 4, "H", size), RequestPullWeight) == RequestPullWeight()


@pytest.mark.parametrize("length", range(8))
def test_bodies_too_short_for_a_root(length: int) -> None:
    with pytest.raises(BrokenBufferError):
        decode(bytes(length), RequestFLJob)


def _with_weights(entries: list[tuple[str | None, bytes | None]]) -> bytes:
    """Return a ResponsePullWeight whose entries may lack a name or values, or share a name."""
    body = bytearray(struct.pack("<I 6H iI I", 16, 12, 8, 0, 0, 0, 4, 12, 4, len(entries)))
    pointers = len(body)
    body += bytes(4 * len(entries))
    for n, (name, values) in enumerate(entries):
        table = len(body) + 8
        struct.pack_into("<I", body, pointers + 4 * n, table - pointers - 4 * n)
        places = 4 if name is not None else 0, 8 if values is not None else 0
        body += struct.pack("<4H i II", 8, 12, *places, 8, 0, 0)
        for place, part in ((4, name and name.encode()), (8, values)):
            if part is not None:
                struct.pack_into("<I", body, table + place, len(body) - table - place)
                count = len(part) if place == 4 else len(part) // 4
                body += struct.pack("<I", count) + part + bytes(4 - len(part) % 4)
    return bytes(body)


def test_of_two_weights_with_one_name_the_later_counts() -> None:
    one, two = (np.float32(value).tobytes() for value in (1, 2))

    read = decode(_with_weights([("a", one), ("b", one), ("a", two)]), ResponsePullWeight).feature_map

    assert read is not None and {name: values.tolist() for name, values in read.items()} == {"a": [2.0], "b": [1.0]}


def test_a_weight_without_values_is_empty() -> None:
    read = decode(_with_weights([("a", None)]), ResponsePullWeight).feature_map

    assert read is not None and read["a"].shape == (0,) and not read["a"].flags.writeable


def test_a_weight_without_a_name_is_refused() -> None:
    with pytest.raises(BrokenBufferError, match="has no name"):
        decode(_with_weights([("a", b""), (None, b"")]), ResponsePullWeight)


def test_unknown_enumeration_values_are_kept() -> None:
    body = encode(RequestFLJob(download_compress_types=(CompressType(2), CompressType(77), CompressType(-1))))

    assert decode(body, RequestFLJob).download_compress_types == (2, 77, -1)


COUNT = 6_000
TABLE = struct.pack("<iII I4s16s", 8, 8, 4, 4, b"abcd", bytes(16))  # slots 0 and 1 both lead to "abcd"
TEXT = struct.pack("<I4sI", 4, b"abcd", 0)


def _one_place(slot: int, target: bytes) -> bytes:
    """Return a table whose field ``slot`` is a vector of pointers that all lead to the same ``target``."""
    vtable = [4 + 2 * 12, 8] + [4 if n == slot else 0 for n in range(12)]
    head = struct.pack("<I14HiII", 32, *vtable, 28, 4, COUNT)
    pointers = struct.pack(f"<{COUNT}I", *(4 * (COUNT - n) + 8 for n in range(COUNT)))
    return head + pointers + struct.pack("<4H", 8, 12, 4, 8) + target


def _peak(body: bytes, message: type[Any]) -> int:
    """Return the most memory that reading ``body`` takes, in bytes, whether it is accepted or refused."""
    decode(encode(message()), message)  # the layout is made once
    tracemalloc.start()
    with suppress(BrokenBufferError):
        decode(body, message)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


@pytest.mark.parametrize(
    ("message", "slot", "target"),
    [
        (RequestPullWeight, 1, TEXT),
        (ReturnClientList, 2, TEXT),
        (RequestUpdateModel, 3, TABLE),
        (RequestUpdateModel, 9, TABLE),
        (ResponseFLJob, 6, TABLE),
        (ReturnExchangeKeys, 2, TABLE),
        (SendReconstructSecret, 1, TABLE),
    ],
)
def test_one_place_named_over_and_over_is_refused(message: type[Any], slot: int, target: bytes) -> None:
    body = _one_place(slot, target)

    with pytest.raises(BrokenBufferError, match="bytes repeatedly"):
        decode(body, message)
    assert _peak(body, message) < 12 * len(body)


NAMES = tuple(f"{n:05x}" for n in range(COUNT))


@pytest.mark.parametrize(
    "message",
    [
        RequestPullWeight(weight_names=NAMES),
        RequestPullWeight(weight_names=("",) * COUNT),
        RequestUpdateModel(feature_map={name: np.zeros(0, np.float32) for name in NAMES}),
        SendReconstructSecret(reconstruct_secret_shares=tuple(ClientShare(fl_id=name, share=b"") for name in NAMES)),
        RequestFLJob(fl_id="a" * 100_000 + "\U0001f600"),
        RequestFLJob(sign_data=bytes(100_000)),
    ],
    ids=["texts", "empty texts", "weights", "shares", "a text of wide characters", "bytes"],
)
def test_many_small_parts_are_read_in_proportion(message: Any) -> None:
    body = encode(message)

    assert same(decode(body, type(message)), message)
    assert _peak(body, type(message)) < 12 * len(body)


@pytest.mark.parametrize(
    "message",
    [
        ReturnExchangeKeys(remote_publickeys=(ClientPublicKeys(),) * COUNT),
        ResponseFLJob(compress_feature_map=(CompressFeatureMap(),) * COUNT),
        RequestFLJob(download_compress_types=(CompressType.QUANT,) * COUNT),
    ],
    ids=["keys", "weights", "enumeration"],
)
def test_many_parts_that_say_nothing_are_refused_in_proportion(message: Any) -> None:
    body = encode(message)

    with pytest.raises(BrokenBufferError):
        decode(body, type(message))
    assert _peak(body, type(message)) < 12 * len(body)


def test_the_number_of_tables_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    shares = SendReconstructSecret(reconstruct_secret_shares=(ClientShare(fl_id="client", share=b"share"),) * 10)
    monkeypatch.setattr(flatbuf, "_MAX_TABLES", 11)
    assert same(decode(encode(shares), SendReconstructSecret), shares)

    monkeypatch.setattr(flatbuf, "_MAX_TABLES", 10)
    with pytest.raises(BrokenBufferError, match="more than 10 tables"):
        decode(encode(shares), SendReconstructSecret)
