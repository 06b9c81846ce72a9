"""Files of named arrays in the form safetensors: mapped when they are read, and readable by other programs.

Eight bytes with the length of the head, the head in JSON, then the arrays, one after another in little endian. The head
says type, shape and place of each array; under ``__metadata__`` are further texts.
"""

from __future__ import annotations

import json
import math
import mmap
import os
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from mindfl.errors import OptionError

_LENGTH = struct.Struct("<Q")
_NOTES = "__metadata__"
_TYPES = {
    **{"F64": "<f8", "F32": "<f4", "F16": "<f2", "BOOL": "|b1"},
    **{"I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "|i1", "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "|u1"},
}
_NAMES = {np.dtype(kind): name for name, kind in _TYPES.items()}


@dataclass(frozen=True)
class Head:
    """The head of a file: its ``notes``, and where its arrays lie.

    Args:
        notes: further texts by name.
        arrays: type, shape and first byte of each array by name.
        size: bytes of the whole file.
    """

    notes: Mapping[str, str]
    arrays: Mapping[str, tuple[np.dtype[Any], tuple[int, ...], int]]
    size: int


def write_tensors(file: BinaryIO, arrays: Mapping[str, NDArray[Any]], notes: Mapping[str, str]) -> int:
    """Write ``arrays`` (of any shape; real numbers and truth values) and ``notes``; return the CRC-32 of the file.

    Raises :class:`OptionError` for an array that the form cannot hold, and ``OSError``.
    """
    little = {name: np.asarray(array, array.dtype.newbyteorder("<"), order="C") for name, array in arrays.items()}
    # The largest numbers first, so that each array is aligned to its own.
    ordered = sorted(little.items(), key=lambda item: -item[1].itemsize)
    head: dict[str, Any] = {_NOTES: dict(notes)}
    end = 0
    for name, array in ordered:
        if array.dtype not in _NAMES or name == _NOTES:
            raise OptionError(
                f"the array {name!r} of type {array.dtype} cannot be stored", hint="use float64, or another name"
            )
        begin, end = end, end + array.nbytes
        head[name] = {"dtype": _NAMES[array.dtype], "shape": array.shape, "data_offsets": (begin, end)}
    text = json.dumps(head, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    checksum = 0
    parts: list[Any] = [_LENGTH.pack(len(text)), text, *(array.reshape(-1).view(np.uint8) for _, array in ordered)]
    for part in parts:
        file.write(part)
        checksum = zlib.crc32(part, checksum)
    return checksum


def read_head(file: BinaryIO) -> Head:
    """Return the head of a file. Raises ``ValueError`` where it is none, or the file has another size; ``OSError``."""
    whole = os.fstat(file.fileno()).st_size
    begin = file.read(_LENGTH.size)
    length = _LENGTH.unpack(begin)[0] if len(begin) == _LENGTH.size else whole
    if length > whole:
        raise ValueError("it is no safetensors file")
    try:
        head = json.loads(file.read(length))
        notes = {str(name): str(text) for name, text in head.pop(_NOTES, {}).items()}
        first, size, arrays = _LENGTH.size + length, _LENGTH.size + length, {}
        for name, entry in head.items():
            kind, shape = np.dtype(_TYPES[entry["dtype"]]), tuple(map(int, entry["shape"]))
            begin_at, end_at = map(int, entry["data_offsets"])
            if begin_at < 0 or min(shape, default=0) < 0 or end_at - begin_at != math.prod(shape) * kind.itemsize:
                raise ValueError(f"the array {name!r} has an impossible size")
            arrays[name] = kind, shape, first + begin_at
            size = max(size, first + end_at)
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise ValueError(f"it is no safetensors file: {error}") from None
    if size != whole:
        raise ValueError(f"it has {whole} bytes in place of {size}")
    return Head(notes, arrays, size)


def map_tensors(file: BinaryIO, head: Head) -> tuple[dict[str, NDArray[Any]], int]:
    """Return the arrays of a file, read-only and mapped as long as one of them lives, and the CRC-32 of the file.

    The file may be replaced or removed meanwhile, but must not be cut. Raises ``OSError``.
    """
    mapped = mmap.mmap(file.fileno(), head.size, access=mmap.ACCESS_READ)
    arrays = {
        name: np.frombuffer(mapped, kind, math.prod(shape), first).reshape(shape)
        for name, (kind, shape, first) in head.arrays.items()
    }
    return arrays, zlib.crc32(mapped)
