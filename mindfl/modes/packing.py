"""Named arrays of any numeric type in the entries that a RequestUpdateModel has for compressed weights."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mindfl.errors import ProtocolError
from mindfl.privacy.compression import named
from mindfl.privacy.faults import EncodingError, EncodingFault
from mindfl.protocol import CompressFeatureMap, Weights

_KINDS = "biuf"
_MOST_DIMENSIONS = 8


def pack(arrays: Mapping[str, NDArray[Any]]) -> tuple[CompressFeatureMap, ...]:
    """Return an entry for each array: its bytes, little endian, under the name ``NAME TYPE SHAPE``.

    Raises :class:`ProtocolError` for arrays that are no numbers.
    """
    entries = []
    for name, array in arrays.items():
        array = np.asarray(array)
        if array.dtype.kind not in _KINDS or array.dtype.itemsize > 8 or array.ndim > _MOST_DIMENSIONS:
            raise ProtocolError(f"the array {name!r} of an upload has the type {array.dtype}, which cannot travel")
        little = array.astype(array.dtype.newbyteorder("<"), copy=False)
        title = f"{name} {little.dtype.str} {','.join(map(str, np.shape(array)))}"
        data = np.frombuffer(little.tobytes(), np.int8)
        entries.append(CompressFeatureMap(weight_fullname=title, compress_data=data))
    return tuple(entries)


def unpack(entries: Iterable[CompressFeatureMap], decode: Callable[[Mapping[str, NDArray[Any]]], Weights]) -> Weights:
    """Return what ``decode`` makes of the arrays in ``entries``.

    Raises :class:`EncodingError` for entries that :func:`pack` does not make, and for arrays that ``decode`` refuses
    with a ``ValueError`` or a ``KeyError``.
    """
    arrays = dict(_array(title, entry) for title, entry in named(entries).items())
    try:
        return decode(arrays)
    except (ValueError, LookupError) as error:
        raise EncodingError(EncodingFault.UNREADABLE, f"{type(error).__name__}: {error}") from None


def _array(title: str, entry: CompressFeatureMap) -> tuple[str, NDArray[Any]]:
    try:
        name, kind, sizes = title.rsplit(" ", 2)
        dtype = np.dtype(kind)
        shape = tuple(map(int, sizes.split(","))) if sizes else ()
        if dtype.kind not in _KINDS or dtype.itemsize > 8 or len(shape) > _MOST_DIMENSIONS or min(shape, default=0) < 0:
            raise ValueError("no array")
        data = b"" if entry.compress_data is None else entry.compress_data.tobytes()
        return name, np.frombuffer(data, dtype).reshape(shape)
    except (ValueError, TypeError, OverflowError):
        raise EncodingError(EncodingFault.UNREADABLE, title) from None
