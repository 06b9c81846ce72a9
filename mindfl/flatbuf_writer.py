"""Writing FlatBuffers front to back: a table first, then what its pointers lead to.

The ``flatbuffers`` package fills its buffer from the back and copies every vector several times. Written forwards,
parts are collected, and joined once.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

PartT = TypeVar("PartT", bytes, bytearray, memoryview)

_U32 = struct.Struct("<I")
_I32 = struct.Struct("<i")
_MAX_BYTES = 2**31 - 1  # FLATBUFFERS_MAX_BUFFER_SIZE of the C++ library

POINTER_CELL = bytes(_U32.size)
"""Cell of a field that leads to a part appended later."""


class Pointer(NamedTuple):
    """A uint32 that will lead to a part: ``offset`` bytes into ``holder``, ``position`` bytes into the buffer."""

    holder: bytearray
    offset: int
    position: int


class Writer:
    """One buffer under construction. Every part takes the pointer that is to lead to it, ``root`` the first one.

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
        """Let ``pointer`` lead to what is appended next."""
        _U32.pack_into(pointer.holder, pointer.offset, self._length - pointer.position)

    def _append(self, part: PartT) -> PartT:
        padding = -len(part) % _U32.size
        self._parts += (part, bytes(padding))
        self._length += len(part) + padding
        if self._length > _MAX_BYTES:
            raise OverflowError(f"{self._length} bytes are more than a FlatBuffer can have")
        return part
