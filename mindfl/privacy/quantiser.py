"""Weights as int8 between their smallest and their largest value: ``QUANT`` of MindSpore Federated 0.1.0.

With lo and hi the extremes of a weight and scale = (hi - lo) / 255 + 1e-10, a value x becomes
q = round((x - lo) / scale - 128), and is read as (q + 128) * scale + lo: off by scale / 2 at most. Every operation is
rounded to float32, on both sides; with that the bytes are those of the real server, and so are the values it reads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from mindfl.privacy.faults import EncodingError, EncodingFault
from mindfl.protocol import CompressFeatureMap, FloatVector, Weights

_STEPS = np.float32(255)
_OFFSET = np.float32(128)
_LEAST_SCALE = np.float32(1e-10)


class Rounding(Enum):
    """What becomes of a value halfway between two steps; everything else is equal.

    ``HALF_AWAY``: away from zero, like the C++ server of 0.1.0. For downloads, whose bytes are then the server's.
    ``HALF_UP``: towards plus infinity, like the Java device of 0.1.0. For uploads.
    """

    HALF_AWAY = "half away from zero"
    HALF_UP = "half up"


# Halves are added in float64, where the sum is exact: in float32, 0.49999997 + 0.5 is 1.
_ROUND: Mapping[Rounding, Callable[[NDArray[np.float64]], NDArray[np.float64]]] = {
    Rounding.HALF_AWAY: lambda steps: np.copysign(np.floor(np.abs(steps) + 0.5), steps),
    Rounding.HALF_UP: lambda steps: np.floor(steps + 0.5),
}


def quantise(name: str, values: FloatVector, rounding: Rounding) -> CompressFeatureMap:
    """Return the weight ``name`` quantised. Without values, both bounds are 0.

    Raises :class:`EncodingError` where a value is not finite, or hi - lo is beyond float32.
    """
    if not values.size:
        return CompressFeatureMap(weight_fullname=name, compress_data=np.zeros(0, np.int8))
    # Adding 0 makes a plus of a minus zero, which has a form of its own on the wire.
    low, high = values.min() + np.float32(0), values.max() + np.float32(0)
    scale = _scale(name, low, high)
    steps = ((values - low) / scale - _OFFSET).astype(np.float64)
    data = _ROUND[rounding](steps).astype(np.int8)
    return CompressFeatureMap(weight_fullname=name, compress_data=data, min_val=float(low), max_val=float(high))


def dequantise(entry: CompressFeatureMap) -> FloatVector:
    """Return the values of ``entry``. Without values, its bounds do not matter.

    Raises :class:`EncodingError` where a bound is not finite, they are in the wrong order, or too far apart.
    """
    if entry.compress_data is None or not entry.compress_data.size:
        return np.zeros(0, np.float32)
    low, high = np.float32(entry.min_val), np.float32(entry.max_val)
    scale = _scale(entry.weight_fullname or "", low, high)
    # The largest value may round to just beyond float32.
    with np.errstate(over="ignore"):
        values: FloatVector = (entry.compress_data.astype(np.float32) + _OFFSET) * scale + low
    return values


def quantise_weights(weights: Weights, rounding: Rounding = Rounding.HALF_AWAY) -> tuple[CompressFeatureMap, ...]:
    """Return ``weights`` for a download, in their order. Raises :class:`EncodingError`; see :func:`quantise`."""
    return tuple(quantise(name, values, rounding) for name, values in weights.items())


def dequantise_weights(entries: Iterable[CompressFeatureMap], lengths: Mapping[str, int]) -> Weights:
    """Return the weights of a download, in its order. ``lengths``: number of values of each weight of the model.

    Raises :class:`EncodingError` where names or lengths are not the model's, or bounds cannot be.
    """
    weights = {}
    for name, entry in named(entries).items():
        values = dequantise(entry)
        if name not in lengths:
            raise EncodingError(EncodingFault.UNKNOWN_NAME, name)
        if values.size != lengths[name]:
            raise EncodingError(EncodingFault.WRONG_LENGTH, f"{name}: {values.size} instead of {lengths[name]}")
        weights[name] = values
    if missing := lengths.keys() - weights.keys():
        raise EncodingError(EncodingFault.MISSING_NAME, min(missing))
    return weights


def named(entries: Iterable[CompressFeatureMap]) -> dict[str, CompressFeatureMap]:
    """Return ``entries`` by name. Raises :class:`EncodingError` where there are none, or one name has two."""
    found: dict[str, CompressFeatureMap] = {}
    for entry in entries:
        name = entry.weight_fullname or ""
        if name in found:
            raise EncodingError(EncodingFault.REPEATED_NAME, name)
        found[name] = entry
    if not found:
        raise EncodingError(EncodingFault.NO_ENTRIES)
    return found


def _scale(name: str, low: np.float32, high: np.float32) -> np.float32:
    with np.errstate(over="ignore", invalid="ignore"):
        width = high - low
    # A NaN among the values is also their minimum.
    if not np.isfinite(width):
        raise EncodingError(EncodingFault.NOT_FINITE, name)
    if width < 0:
        raise EncodingError(EncodingFault.BOUNDS, name)
    scale: np.float32 = width / _STEPS + _LEAST_SCALE
    return scale
