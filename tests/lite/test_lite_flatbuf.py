"""The FlatBuffers reader: honest buffers are read, all others refused in proportion to their length."""

from __future__ import annotations

import struct
import tracemalloc
from contextlib import suppress

import flatbuffers
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mindfl.protocol.flatbuf import BrokenBufferError, Table


def _buffer() -> bytes:
    """Return a table with a text, a number, two children and a vector of int64."""
    builder = flatbuffers.Builder(64)
    text = builder.CreateString("héllo")
    builder.StartVector(8, 2, 8)
    builder.PrependInt64(-2)
    builder.PrependInt64(1)
    numbers = builder.EndVector()
    children = []
    for value in (5, 6):
        builder.StartObject(1)
        builder.PrependInt32Slot(0, value, 0)
        children.append(builder.EndObject())
    builder.StartVector(4, 2, 4)
    for child in reversed(children):
        builder.PrependUOffsetTRelative(child)
    vector = builder.EndVector()
    builder.StartObject(6)
    builder.PrependUOffsetTRelativeSlot(0, text, 0)
    builder.PrependFloat32Slot(1, 0.5, 0.0)
    builder.PrependUOffsetTRelativeSlot(2, children[1], 0)
    builder.PrependUOffsetTRelativeSlot(3, vector, 0)
    builder.PrependUOffsetTRelativeSlot(4, numbers, 0)
    builder.Finish(builder.EndObject())
    return bytes(builder.Output())


def _read_everything(content: bytes) -> tuple[object, ...]:
    root = Table.root(content)
    child, numbers = root.table(2), root.array(4, "<i8")
    return (
        root.string(0),
        root.scalar(1, "f", 9),
        child.integer(0) if child is not None else None,
        [table.integer(0) for table in root.tables(3)],
        numbers.tolist() if numbers is not None else None,
        root.position(4) % 8 if numbers is not None else 0,
    )


def test_what_the_flatbuffers_package_writes_is_read() -> None:
    assert _read_everything(_buffer()) == ("héllo", 0.5, 6, [5, 6], [1, -2], 0)


def test_absent_fields_read_as_their_defaults() -> None:
    root = Table.root(_buffer())
    assert (root.string(5), root.scalar(5, "f", 2.5), root.integer(99, "b", 7)) == ("", 2.5, 7)
    assert (root.table(5), root.array(5, "u1"), list(root.tables(99)), root.position(5)) == (None, None, [], 0)


def test_every_truncation_is_refused() -> None:
    content = _buffer()
    for length in range(len(content) - 4):  # four bytes may be the end of a text
        with pytest.raises(BrokenBufferError):
            _read_everything(content[:length])


@given(st.data())
def test_changed_bytes_are_read_or_refused(data: st.DataObject) -> None:
    content = bytearray(_buffer())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    with suppress(BrokenBufferError):
        _read_everything(bytes(content))


@given(st.binary(max_size=200))
def test_random_bytes_are_read_or_refused(content: bytes) -> None:
    with suppress(BrokenBufferError):
        _read_everything(content)


@pytest.mark.parametrize("form", ["texts", "tables", "arrays"])
def test_one_place_described_a_million_times_is_refused_soon(form: str) -> None:
    """A vector of 30,000 entries that all point to one table, whose text is the whole buffer."""
    count = 30_000
    table_at = 4 + 4 * (count + 1) + 8
    parts = [struct.pack("<I", table_at)]
    vector_at = 4
    parts.append(struct.pack("<I", count))
    parts += [struct.pack("<I", table_at - (vector_at + 4 + 4 * n)) for n in range(count)]
    parts.append(struct.pack("<HHHH", 8, 12, 4, 8))  # vtable: two fields, at 4 and 8
    text_at = table_at + 12
    parts.append(struct.pack("<iiI", 8, 0, text_at - (table_at + 8)))
    parts.append(struct.pack("<I", 100_000) + b"a" * 100_000 + b"\0")
    content = b"".join(parts)
    root = Table.root(content)
    assert len(root.string(1)) == 100_000
    entries = range(vector_at + 4, vector_at + 4 + 4 * count, 4)

    tracemalloc.start()
    with pytest.raises(BrokenBufferError, match="bytes repeatedly"):
        for at in entries:
            table = Table.at(content, at + struct.unpack_from("<I", content, at)[0], root.allowance)
            if form == "texts":
                table.string(1)
            elif form == "arrays":
                table.array(1, np.uint8)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10 * len(content)
