"""Messages survive the wire, and the flatbuffers package reads and writes the same bytes' meaning."""

from __future__ import annotations

from typing import Any

import flatbuffers
import numpy as np
import pytest
from flatbuffers.number_types import Float32Flags, Int8Flags, Int32Flags
from flatbuffers.table import Table
from hypothesis import given, settings
from hypothesis import strategies as st
from protocol_messages import MESSAGES, messages, same

from mindfl.errors import ProtocolError
from mindfl.protocol import (
    Aggregation,
    CipherPublicParams,
    CompressFeatureMap,
    CompressType,
    DPParams,
    EarlyStop,
    FLPlan,
    RequestFLJob,
    RequestPullWeight,
    RequestUpdateModel,
    ResponseAsyncGetModel,
    ResponseAsyncUpdateModel,
    ResponseFLJob,
    ResponseGetModel,
    ReturnClientList,
    decode,
    encode,
    flatbuf,
)


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: message.__name__)
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_every_message_survives_the_wire(message: type[Any], data: st.DataObject) -> None:
    sent = data.draw(messages(message))

    wire = encode(sent)

    assert same(decode(wire, message), sent)
    assert same(decode(wire + b"\1\2\3", message), sent), "bytes after the buffer matter"
    assert len(wire) % 4 == 0


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: message.__name__)
def test_an_empty_message_has_no_fields_on_the_wire(message: type[Any]) -> None:
    wire = encode(message())

    assert wire.hex(" ", 4) == "08000000 04000400 04000000", "root offset, vtable without slots, table"
    assert same(decode(wire, message), message())


def test_empty_is_not_absent() -> None:
    sent = ResponseGetModel(reason="", feature_map={}, compress_feature_map=())

    received = decode(encode(sent), ResponseGetModel)

    assert same(received, sent)
    assert received.timestamp is None


def test_numbers_at_their_limits() -> None:
    largest = float(np.finfo(np.float32).max)
    sent = EarlyStop(weight=-largest, rounds=-(2**31))

    assert decode(encode(sent), EarlyStop) == sent
    assert decode(encode(DPParams(dp_eps=1e-45, dp_delta=float("-inf"))), DPParams).dp_eps == np.float32(1e-45)


def test_weights_are_read_only_views_into_the_body() -> None:
    wire = encode(ResponseFLJob(feature_map={"fc.weight": np.arange(6, dtype=np.float32)}))

    received = decode(wire, ResponseFLJob).feature_map

    assert received is not None
    weight = received["fc.weight"]
    assert np.shares_memory(weight, np.frombuffer(wire, np.uint8)) and weight.flags.aligned
    with pytest.raises(ValueError, match="read-only"):
        weight[0] = 1
    with pytest.raises(TypeError):
        received["new"] = weight  # type: ignore[index]


@pytest.mark.parametrize(
    "given_form",
    [
        np.arange(6, dtype=np.float32).reshape(2, 3),
        np.arange(12, dtype=np.float32)[::2] / 2,
        np.arange(6, dtype=">f4"),
        np.asfortranarray(np.arange(6, dtype=np.float32).reshape(2, 3)),
    ],
    ids=["two dimensions", "strided", "big endian", "column-major"],
)
def test_any_form_of_array_is_sent_flat_in_row_major_order(given_form: np.ndarray) -> None:
    received = decode(encode(RequestUpdateModel(feature_map={"w": given_form})), RequestUpdateModel)

    assert received.feature_map is not None
    assert received.feature_map["w"].dtype == np.float32 and received.feature_map["w"].tolist() == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("message", "field"),
    [
        (RequestFLJob(data_size=2**31), "RequestFLJob .*data_size"),
        (RequestFLJob(data_size=-(2**31) - 1), "RequestFLJob .*data_size"),
        (RequestFLJob(fl_id="\ud800"), "RequestFLJob .*fl_id"),
        (RequestUpdateModel(upload_loss=1e39), "RequestUpdateModel .*upload_loss"),
        (RequestUpdateModel(upload_compress_type=300), "RequestUpdateModel .*upload_compress_type"),
        (RequestUpdateModel(feature_map={"\udc80": np.zeros(1, np.float32)}), "RequestUpdateModel .*feature_map"),
        (RequestPullWeight(weight_names=("a", "\udfff")), "RequestPullWeight .*weight_names"),
        (FLPlan(cipher=CipherPublicParams(dp_params=DPParams(dp_eps=-1e300))), "DPParams .*dp_eps"),
    ],
    ids=lambda case: case if isinstance(case, str) else "",
)
def test_what_has_no_form_on_the_wire_is_refused_by_name(message: Any, field: str) -> None:
    with pytest.raises(ProtocolError, match=field):
        encode(message)


def test_a_message_beyond_the_formats_length_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    message = RequestUpdateModel(feature_map={"w": np.zeros(100, np.float32)})
    monkeypatch.setattr(flatbuf, "_MAX_BYTES", len(encode(message)))
    assert same(decode(encode(message), RequestUpdateModel), message)

    monkeypatch.setattr(flatbuf, "_MAX_BYTES", len(encode(message)) - 4)
    with pytest.raises(ProtocolError, match=r"RequestUpdateModel .*feature_map .*more than a FlatBuffer can have"):
        encode(message)


def _official(wire: bytes) -> Table:
    return Table(wire, int.from_bytes(wire[:4], "little"))


def _field(table: Table, slot: int) -> int:
    """Return the place of a field that must be there."""
    offset = table.Offset(4 + 2 * slot)
    assert offset
    return int(table.Pos + offset)


def _child(table: Table, slot: int) -> Table:
    return Table(table.Bytes, table.Indirect(_field(table, slot)))


def _text(table: Table, slot: int) -> bytes:
    return bytes(table.String(_field(table, slot)))


def _numbers(table: Table, slot: int, flags: Any) -> list[float]:
    return list(table.GetVectorAsNumpy(flags, _field(table, slot) - table.Pos))


def test_the_flatbuffers_package_reads_what_we_write() -> None:
    weights = {"a": np.arange(3, dtype=np.float32), "ünt": np.zeros(0, np.float32)}
    plan = FLPlan(iterations=5, shuffle=True, lr=0.5, aggregation=Aggregation(iid_rate=0.25), cipher=None)
    small = CompressFeatureMap(compress_data=np.array([-128, 127, 0], np.int8), max_val=1.5)
    wire = encode(
        ResponseFLJob(
            retcode=200,
            reason="success",
            is_selected=True,
            fl_plan_config=plan,
            feature_map=weights,
            upload_compress_type=CompressType.DIFF_SPARSE_QUANT,
            compress_feature_map=(small,),
        )
    )

    root = _official(wire)

    assert root.Get(Int32Flags, _field(root, 0)) == 200
    assert _text(root, 1) == b"success"
    assert (root.Offset(4 + 2 * 2), root.Offset(4 + 2 * 7)) == (0, 0), "iteration 0 and absent timestamp are written"
    assert root.Get(Int8Flags, _field(root, 3)) == 1
    assert root.Get(Int8Flags, _field(root, 8)) == 1
    read_plan = _child(root, 5)
    assert read_plan.Get(Int32Flags, _field(read_plan, 2)) == 5
    assert read_plan.Get(Float32Flags, _field(read_plan, 7)) == 0.5
    aggregation = _child(read_plan, 8)
    assert aggregation.Get(Float32Flags, _field(aggregation, 2)) == 0.25
    first = root.Vector(_field(root, 6) - root.Pos)
    assert root.VectorLen(_field(root, 6) - root.Pos) == 2
    entries = [Table(wire, root.Indirect(first + 4 * n)) for n in range(2)]
    assert [_text(entry, 0).decode() for entry in entries] == ["a", "ünt"]
    assert [_numbers(entry, 1, Float32Flags) for entry in entries] == [[0, 1, 2], []]
    packed = Table(wire, root.Indirect(root.Vector(_field(root, 11) - root.Pos)))
    assert _numbers(packed, 1, Int8Flags) == [-128, 127, 0]


def test_we_read_what_the_flatbuffers_package_writes() -> None:
    builder = flatbuffers.Builder(0)
    names = [builder.CreateString(name) for name in ("eins", "zwei")]
    builder.StartVector(4, 2, 4)
    for name in reversed(names):
        builder.PrependUOffsetTRelative(name)
    clients = builder.EndVector()
    reason = builder.CreateString("not yet")
    builder.ForceDefaults(True)
    builder.StartObject(5)
    builder.PrependInt32Slot(0, 201, 0)
    builder.PrependUOffsetTRelativeSlot(1, reason, 0)
    builder.PrependUOffsetTRelativeSlot(2, clients, 0)
    builder.PrependInt32Slot(3, 0, 0)
    builder.Finish(builder.EndObject())
    wire = bytes(builder.Output())

    assert decode(wire, ReturnClientList) == ReturnClientList(retcode=201, clients=("eins", "zwei"), reason="not yet")


def test_a_newer_peers_further_fields_are_not_looked_at() -> None:
    wire = encode(ResponseAsyncGetModel(retcode=200, iteration=3, feature_map={"w": np.zeros(3, np.float32)}))

    assert decode(wire, ResponseAsyncUpdateModel) == ResponseAsyncUpdateModel(retcode=200, iteration=3)
