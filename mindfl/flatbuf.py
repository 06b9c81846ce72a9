"""Reading FlatBuffers without trusting them: every offset is checked before it is followed.

The layout rules are those of the FlatBuffers "internals" page: little endian, a root offset at byte 0, tables whose
first int32 points *back* to a vtable, vectors and strings prefixed by a uint32 length. A buffer that breaks them raises
:class:`BrokenBufferError`; nothing is ever read outside the buffer, and nothing is copied but strings.

Offsets may also point to one place again and again, so that a small buffer could describe gigabytes. What is read is
therefore counted against an allowance in proportion to the buffer's length, which no honest buffer uses up.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np
from numpy.typing import DTypeLike, NDArray

_U16 = struct.Struct("<H")
_I32 = struct.Struct("<i")
_U32 = struct.Struct("<I")
_TABLE_COST = 32  # bytes that a table takes at least: entry in a vector, vtable offset, a few fields


class BrokenBufferError(ValueError):
    """The bytes are not the FlatBuffer they claim to be."""


def _unpack(code: struct.Struct, data: bytes, at: int) -> int:
    if at < 0 or at + code.size > len(data):
        raise BrokenBufferError(f"offset {at} lies outside the {len(data)} bytes")
    value: int = code.unpack_from(data, at)[0]
    return value


class Allowance:
    """The number of bytes that may still be read from one buffer."""

    def __init__(self, length: int) -> None:
        self._left = 4 * length + 4096

    def spend(self, count: int) -> None:
        """Take ``count`` bytes from the allowance, or raise :class:`BrokenBufferError`."""
        self._left -= count
        if self._left < 0:
            raise BrokenBufferError("its parts point to the same bytes over and over")


@dataclass(frozen=True)
class Table:
    """One table at ``start`` in ``data``; fields are addressed by slot number."""

    data: bytes
    start: int
    vtable: int
    slots: int
    allowance: Allowance

    @classmethod
    def at(cls, data: bytes, start: int, allowance: Allowance) -> Table:
        """Open the table that begins at byte ``start``."""
        allowance.spend(_TABLE_COST)
        vtable = start - _unpack(_I32, data, start)
        size = _unpack(_U16, data, vtable)
        if size < 4 or size % 2 or vtable + size > len(data):
            raise BrokenBufferError(f"broken vtable at {vtable}")
        return cls(data, start, vtable, (size - 4) // 2, allowance)

    @classmethod
    def root(cls, data: bytes) -> Table:
        """Open the root table."""
        return cls.at(data, _unpack(_U32, data, 0), Allowance(len(data)))

    def _field(self, slot: int) -> int:
        """Return the position of a field's value, or 0 where the field is absent."""
        if slot >= self.slots:
            return 0
        offset = _unpack(_U16, self.data, self.vtable + 4 + 2 * slot)
        return self.start + offset if offset else 0

    def scalar(self, slot: int, dtype: str, default: float) -> int | float | bool:
        """Return a number; ``dtype`` is a struct code such as ``"i"``, ``"f"``, ``"B"`` or ``"?"``."""
        at = self._field(slot)
        if not at:
            return default
        code = struct.Struct("<" + dtype)
        if at + code.size > len(self.data):
            raise BrokenBufferError(f"a number at {at} lies outside the buffer")
        value: int | float | bool = code.unpack_from(self.data, at)[0]
        return value

    def integer(self, slot: int, dtype: str = "i", default: int = 0) -> int:
        """Return a whole number."""
        return int(self.scalar(slot, dtype, default))

    def _target(self, slot: int) -> int:
        at = self._field(slot)
        return at + _unpack(_U32, self.data, at) if at else 0

    def table(self, slot: int) -> Table | None:
        """Return a child table, or None where it is absent."""
        at = self._target(slot)
        return Table.at(self.data, at, self.allowance) if at else None

    def _vector(self, slot: int, item_size: int) -> tuple[int, int]:
        at = self._target(slot)
        if not at:
            return 0, 0
        count = _unpack(_U32, self.data, at)
        if count * item_size > len(self.data) - at - 4:
            raise BrokenBufferError(f"a vector of {count} items at {at} runs over the end")
        return at + 4, count

    def string(self, slot: int) -> str:
        """Return a text; absent reads as empty."""
        at, count = self._vector(slot, 1)
        self.allowance.spend(count)
        try:
            return self.data[at : at + count].decode()
        except UnicodeDecodeError:
            raise BrokenBufferError(f"the text at {at} is not UTF-8") from None

    def array(self, slot: int, dtype: DTypeLike) -> NDArray[np.generic] | None:
        """Return a vector of numbers as a read-only view, or None where it is absent."""
        item = np.dtype(dtype)
        at, count = self._vector(slot, item.itemsize)
        self.allowance.spend(count * item.itemsize)
        return np.frombuffer(self.data, item, count, at) if at else None

    def position(self, slot: int) -> int:
        """Return the byte position of a vector's first item, or 0 where it is absent."""
        return self._vector(slot, 1)[0]

    def tables(self, slot: int) -> list[Table]:
        """Return a vector of tables; absent reads as empty."""
        at, count = self._vector(slot, 4)
        items = range(at, at + 4 * count, 4)
        return [Table.at(self.data, item + _unpack(_U32, self.data, item), self.allowance) for item in items]
