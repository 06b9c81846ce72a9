"""Reading FlatBuffers without trusting them, and writing them front to back.

Every offset is checked before it is followed. The layout rules are those of the FlatBuffers "internals" page: little
endian, a root offset at byte 0, tables whose first int32 points *back* to a vtable, vectors and strings prefixed by a
uint32 length. A buffer that breaks them raises :class:`BrokenBufferError`; nothing is ever read outside the buffer, and
only strings are copied.

Values are checked when they are read, as the structural ``Verifier`` of the FlatBuffers C++ library does: bounds, the
alignment of tables, vtables, lengths and numbers (counted from the buffer's start), offsets that are not zero, texts
that end in a zero byte, at most 1,000,000 tables. So a reader that reads every field of its schema refuses the same
buffers as a verifier. Intended differences:

- Texts that are not UTF-8, and offsets of zero in a vector, are refused; in C++ they pass.
- Numbers of 8 bytes need an alignment of 4 only: the converter of MindSpore Lite does not keep more.
- No limit of 64 levels: a reader goes as deep as its schema.
- Offsets may point to one place repeatedly, so a small buffer could describe gigabytes. Reading is limited by an
  allowance in proportion to the buffer's length, which no honest buffer uses up.

The writer collects parts and joins them once, a table first and then what its pointers lead to. The ``flatbuffers``
package fills its buffer from the back and copies every vector several times.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias, TypeVar

import numpy as np
from numpy.typing import DTypeLike, NDArray

Buffer: TypeAlias = bytes | memoryview

_U16 = struct.Struct("<H")
_I32 = struct.Struct("<i")
_U32 = struct.Struct("<I")
_NUMBERS = {code: struct.Struct("<" + code) for code in "?bBhHiIqQfd"}
_ALIGNMENT = 4
_MAX_TABLES = 1_000_000  # max_tables of the C++ verifier
_PART_COST = 32  # a table, text or vector takes 8 bytes at least, an offset and a length, and the allowance is fourfold


class BrokenBufferError(ValueError):
    """The bytes are not the FlatBuffer they claim to be."""


def _unpack(code: struct.Struct, data: Buffer, at: int) -> Any:
    if at < 0 or at + code.size > len(data):
        raise BrokenBufferError(f"offset {at} lies outside the {len(data)} bytes")
    if at % min(code.size, _ALIGNMENT):
        raise BrokenBufferError(f"the value at {at} is not aligned")
    return code.unpack_from(data, at)[0]


def _follow(data: Buffer, at: int) -> int:
    """Return the place that the offset at ``at`` points to."""
    offset: int = _unpack(_U32, data, at)
    if not offset:
        raise BrokenBufferError(f"the offset at {at} points to itself")
    return at + offset


class Allowance:
    """The number of bytes, and of tables, that may still be read from one buffer."""

    def __init__(self, length: int) -> None:
        self._left = 4 * length + 4096
        self._tables = _MAX_TABLES

    def open_table(self) -> None:
        """Take one table from the allowance, or raise :class:`BrokenBufferError`."""
        self._tables -= 1
        if self._tables < 0:
            raise BrokenBufferError(f"it has more than {_MAX_TABLES} tables")
        self.spend(_PART_COST)

    def spend(self, count: int) -> None:
        """Take ``count`` bytes from the allowance, or raise :class:`BrokenBufferError`."""
        self._left -= count
        if self._left < 0:
            raise BrokenBufferError("its parts point to the same bytes repeatedly")


@dataclass(frozen=True, slots=True)
class Table:
    """One table at ``start`` in ``data``; fields are addressed by slot number."""

    data: Buffer
    start: int
    vtable: int
    slots: int
    allowance: Allowance

    @classmethod
    def at(cls, data: Buffer, start: int, allowance: Allowance) -> Table:
        """Open the table that begins at byte ``start``."""
        allowance.open_table()
        vtable = start - _unpack(_I32, data, start)
        size = _unpack(_U16, data, vtable)
        if size % 2 or vtable + size > len(data):
            raise BrokenBufferError(f"broken vtable at {vtable}")
        return cls(data, start, vtable, (size - 4) // 2, allowance)

    @classmethod
    def root(cls, data: Buffer) -> Table:
        """Open the root table."""
        return cls.at(data, _follow(data, 0), Allowance(len(data)))

    def _field(self, slot: int) -> int:
        """Return the position of a field's value, or 0 if the field is absent."""
        if slot >= self.slots:
            return 0
        offset = _unpack(_U16, self.data, self.vtable + 4 + 2 * slot)
        return self.start + offset if offset else 0

    def has(self, slot: int) -> bool:
        """Return whether a field is present."""
        return self._field(slot) != 0

    def scalar(self, slot: int, dtype: str, default: float) -> int | float | bool:
        """Return a number; ``dtype`` is a struct code such as ``"i"``, ``"f"``, ``"B"`` or ``"?"``."""
        at = self._field(slot)
        value: int | float | bool = _unpack(_NUMBERS[dtype], self.data, at) if at else default
        return value

    def integer(self, slot: int, dtype: str = "i", default: int = 0) -> int:
        """Return a whole number."""
        return int(self.scalar(slot, dtype, default))

    def _target(self, slot: int) -> int:
        at = self._field(slot)
        return _follow(self.data, at) if at else 0

    def table(self, slot: int) -> Table | None:
        """Return a child table, or None if it is absent."""
        at = self._target(slot)
        return Table.at(self.data, at, self.allowance) if at else None

    def _items(self, at: int, item_size: int) -> tuple[int, int]:
        """Return the position of the first item, and the number of items, of the vector at ``at``."""
        count: int = _unpack(_U32, self.data, at)
        if count * item_size > len(self.data) - at - 4:
            raise BrokenBufferError(f"a vector of {count} items at {at} runs over the end")
        return at + 4, count

    def _vector(self, slot: int, item_size: int) -> tuple[int, int]:
        at = self._target(slot)
        start, count = self._items(at, item_size) if at else (0, 0)
        self.allowance.spend(_PART_COST + count * item_size)
        return start, count

    def _text(self, at: int) -> str:
        start, count = self._items(at, 1)
        self.allowance.spend(_PART_COST + count)
        if start + count == len(self.data) or self.data[start + count]:
            raise BrokenBufferError(f"the text at {at} has no zero byte at its end")
        try:
            return str(self.data[start : start + count], "utf-8")
        except UnicodeDecodeError:
            raise BrokenBufferError(f"the text at {at} is not UTF-8") from None

    def string(self, slot: int) -> str:
        """Return a text; absent reads as empty."""
        at = self._target(slot)
        return self._text(at) if at else ""

    def strings(self, slot: int) -> list[str]:
        """Return a vector of texts; absent reads as empty."""
        return [self._text(at) for at in self._targets(slot)]

    def array(self, slot: int, dtype: DTypeLike) -> NDArray[np.generic] | None:
        """Return a vector of numbers as a read-only view, or None if it is absent."""
        item = np.dtype(dtype)
        at, count = self._vector(slot, item.itemsize)
        return np.frombuffer(self.data, item, count, at) if at else None

    def place(self, slot: int) -> int:
        """Return the byte position of a number, or 0 if it is absent."""
        return self._field(slot)

    def position(self, slot: int) -> int:
        """Return the byte position of a vector's first item, or 0 if it is absent."""
        at = self._target(slot)
        return self._items(at, 1)[0] if at else 0

    def _targets(self, slot: int) -> Iterator[int]:
        at, count = self._vector(slot, 4)
        return (_follow(self.data, item) for item in range(at, at + 4 * count, 4))

    def tables(self, slot: int) -> Iterator[Table]:
        """Iterate over a vector of tables; absent reads as empty."""
        return (Table.at(self.data, at, self.allowance) for at in self._targets(slot))


PartT = TypeVar("PartT", bytes, bytearray, memoryview)

_MAX_BYTES = 2**31 - 1  # FLATBUFFERS_MAX_BUFFER_SIZE of the C++ library

POINTER_CELL = bytes(_U32.size)
"""Cell of a field that leads to a part appended later."""


class Pointer(NamedTuple):
    """A uint32 that will lead to a part: ``offset`` bytes into ``holder``, ``position`` bytes into the buffer."""

    holder: bytearray
    offset: int
    position: int


class Writer:
    """One buffer under construction. Every part takes the pointer that leads to it, the first part ``root``.

    Parts are aligned to 4 bytes, so cells and items may have 1, 2 or 4 bytes. A part that does not fit into the 2 GiB
    of the format raises :class:`OverflowError`.
    """

    def __init__(self) -> None:
        self._parts: list[bytes | bytearray | memoryview] = []
        self._length = 0
        self._vtables: dict[bytes, int] = {}
        self.root = Pointer(self._append(bytearray(POINTER_CELL)), 0, 0)

    def table(self, pointer: Pointer, cells: Sequence[tuple[int, bytes]]) -> list[Pointer]:
        """Append a table of ``(slot, packed value)`` cells, wider ones first; return a pointer for each cell."""
        offsets = [0] * (1 + max((slot for slot, _ in cells), default=-1))
        end = _I32.size
        for slot, cell in cells:
            offsets[slot] = end
            end += len(cell)
        vtable = self._vtable(struct.pack(f"<{2 + len(offsets)}H", 4 + 2 * len(offsets), end, *offsets))
        start = self._length
        self._lead(pointer)
        holder = self._append(bytearray(b"".join([_I32.pack(start - vtable), *(cell for _, cell in cells)])))
        return [Pointer(holder, offsets[slot], start + offsets[slot]) for slot, _ in cells]

    def pointers(self, pointer: Pointer, count: int) -> list[Pointer]:
        """Append a vector of ``count`` pointers and return them."""
        start = self._length
        self._lead(pointer)
        holder = self._append(bytearray(_U32.pack(count) + count * POINTER_CELL))
        return [Pointer(holder, offset, start + offset) for offset in range(_U32.size, len(holder), _U32.size)]

    def text(self, pointer: Pointer, value: str) -> None:
        """Append a text as UTF-8; raises :class:`UnicodeEncodeError` for lone surrogates."""
        encoded = value.encode()
        self._lead(pointer)
        self._append(b"%b%b\0" % (_U32.pack(len(encoded)), encoded))

    def vector(self, pointer: Pointer, values: NDArray[Any]) -> None:
        """Append a vector of numbers, which must be contiguous, little endian and unchanged until :meth:`finish`."""
        self._lead(pointer)
        self._append(_U32.pack(values.size))
        self._append(values.reshape(-1).view(np.uint8).data)

    def finish(self) -> bytes:
        """Return the buffer."""
        return b"".join(self._parts)

    def _vtable(self, vtable: bytes) -> int:
        """Return the position of ``vtable``, which is written once."""
        position = self._vtables.setdefault(vtable, self._length)
        if position == self._length:
            self._append(vtable)
        return position

    def _lead(self, pointer: Pointer) -> None:
        """Make ``pointer`` lead to the next appended part."""
        _U32.pack_into(pointer.holder, pointer.offset, self._length - pointer.position)

    def _append(self, part: PartT) -> PartT:
        padding = -len(part) % _U32.size
        self._parts += (part, bytes(padding))
        self._length += len(part) + padding
        if self._length > _MAX_BYTES:
            raise OverflowError(f"{self._length} bytes are more than a FlatBuffer can have")
        return part
