"""All message types, arbitrary messages of them, and equality of messages that hold arrays."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from enum import IntEnum
from types import NoneType, UnionType
from typing import Any, get_args, get_origin, get_type_hints

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

import mindfl.protocol as protocol

MESSAGES: list[type[Any]] = [
    message
    for message in (getattr(protocol, name) for name in protocol.__all__)
    if dataclasses.is_dataclass(message) and message is not protocol.PlainText
]

_NUMBERS = {
    int: st.integers(-(2**31), 2**31 - 1),
    float: st.floats(width=32),
    bool: st.booleans(),
    str: st.text(max_size=20),
    bytes: st.binary(max_size=20),
}


def arrays(dtype: str | type[Any]) -> st.SearchStrategy[Any]:
    """Draw vectors of any bits."""
    size = np.dtype(dtype).itemsize
    counts = st.integers(0, 5)
    return counts.flatmap(lambda n: st.binary(min_size=n * size, max_size=n * size)).map(
        lambda raw: np.frombuffer(raw, dtype)
    )


def values(hint: Any) -> st.SearchStrategy[Any]:
    """Draw values for a field with this annotation."""
    origin, args = get_origin(hint), get_args(hint)
    if origin is UnionType:
        return st.none() | values(next(kind for kind in args if kind is not NoneType))
    if origin is NDArray:
        return arrays(args[0])
    if origin is np.ndarray:
        return arrays(get_args(args[1])[0])
    if origin is tuple:
        return st.lists(values(args[0]), max_size=3).map(tuple)
    if origin is Mapping:
        return st.dictionaries(st.text(max_size=8), arrays(np.float32), max_size=3)
    if hint in _NUMBERS:
        return _NUMBERS[hint]
    if issubclass(hint, IntEnum):
        return st.integers(-128, 127).map(hint)
    return messages(hint)


def messages(message: type[Any]) -> st.SearchStrategy[Any]:
    """Draw messages of one type."""
    hints = get_type_hints(message)
    return st.builds(message, **{field.name: values(hints[field.name]) for field in dataclasses.fields(message)})


def same(one: Any, other: Any) -> bool:
    """Tell whether two messages, or values in them, are equal to the bit, in type and in order."""
    if isinstance(one, Mapping):
        return isinstance(other, Mapping) and same(tuple(one.items()), tuple(other.items()))
    if type(one) is not type(other):
        return False
    if dataclasses.is_dataclass(one):
        return all(same(getattr(one, field.name), getattr(other, field.name)) for field in dataclasses.fields(one))
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and one.ndim == other.ndim and one.tobytes() == other.tobytes()
    if isinstance(one, tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other) or (isinstance(one, float) and math.isnan(one) and math.isnan(other))
