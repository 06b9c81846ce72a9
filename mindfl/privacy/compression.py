"""Compressed weights of MindSpore Federated 0.1.0: ``QUANT`` for downloads, ``DIFF_SPARSE_QUANT`` for uploads.

**QUANT**: weights as int8 between their smallest and their largest value. With lo and hi the extremes of a weight and
scale = (hi - lo) / 255 + 1e-10, a value x becomes q = round((x - lo) / scale - 128), and is read as
(q + 128) * scale + lo: off by scale / 2 at most. Every operation is rounded to float32, on both sides; with that the
bytes are those of the real server, and so are the values it reads.

**DIFF_SPARSE_QUANT**: a device sends data_size * w_trained - data_size * w_received for the values that a pseudorandom
mask keeps, each weight quantised for itself. The mask follows from the number of values, the sparse rate and the
iteration, so the server knows which values they are; it takes the others as unchanged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from mindfl.privacy.faults import EncodingError, EncodingFault
from mindfl.protocol import CompressFeatureMap, FloatVector, Weights

_STEPS = np.float32(255)
_OFFSET = np.float32(128)
_LEAST_SCALE = np.float32(1e-10)


class Rounding(Enum):
    """Rounding of a value halfway between two steps.

    ``HALF_AWAY``: away from zero, like the C++ server of 0.1.0. For downloads, whose bytes then equal that server's.
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

    Raises :class:`EncodingError` if a value is not finite, or hi - lo is beyond float32.
    """
    if not values.size:
        return CompressFeatureMap(weight_fullname=name, compress_data=np.zeros(0, np.int8))
    # Adding 0 turns minus zero into zero, which is left out on the wire.
    low, high = values.min() + np.float32(0), values.max() + np.float32(0)
    scale = _scale(name, low, high)
    steps = ((values - low) / scale - _OFFSET).astype(np.float64)
    data = _ROUND[rounding](steps).astype(np.int8)
    return CompressFeatureMap(weight_fullname=name, compress_data=data, min_val=float(low), max_val=float(high))


def dequantise(entry: CompressFeatureMap) -> FloatVector:
    """Return the values of ``entry``. Without values, its bounds do not matter.

    Raises :class:`EncodingError` if a bound is not finite, they are in the wrong order, or too far apart.
    """
    if entry.compress_data is None or not entry.compress_data.size:
        return np.zeros(0, np.float32)
    low, high = np.float32(entry.min_val), np.float32(entry.max_val)
    scale = _scale(entry.weight_fullname or "", low, high)
    # The largest value may round to just beyond float32.
    with np.errstate(over="ignore"):
        values: FloatVector = (entry.compress_data.astype(np.float32) + _OFFSET) * scale + low
    return values


def quantise_weights(weights: Weights) -> tuple[CompressFeatureMap, ...]:
    """Return ``weights`` for a download, in their order. Raises :class:`EncodingError`; see :func:`quantise`."""
    return tuple(quantise(name, values, Rounding.HALF_AWAY) for name, values in weights.items())


def dequantise_weights(entries: Iterable[CompressFeatureMap], lengths: Mapping[str, int]) -> Weights:
    """Return the weights of a download, in its order. ``lengths``: number of values of each weight of the model.

    Raises :class:`EncodingError` if names or lengths are not the model's, or bounds cannot be.
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
    """Return ``entries`` by name. Raises :class:`EncodingError` if there are none, or one name has two."""
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


Mask = NDArray[np.bool_]

_MODULUS = 2**31 - 1
_MULTIPLIER = 48271
_MASKS_KEPT = 4


@dataclass(frozen=True, slots=True, eq=False)
class SparseUpdate:
    """An upload: the fields ``compress_feature_map``, ``name_vec`` and ``upload_sparse_rate`` of RequestUpdateModel."""

    entries: tuple[CompressFeatureMap, ...]
    names: tuple[str, ...]
    rate: float


def encode_update(trained: Weights, received: Weights, *, data_size: int, rate: float, iteration: int) -> SparseUpdate:
    """Return the upload of ``trained``, which began as ``received``; both hold the same weights.

    Weights are laid end to end in the order of ``received``: that of the startFLJob answer, which also told ``rate``
    and ``iteration``. Raises :class:`EncodingError` if that rate is unusable or a difference not finite.
    """
    if not 0 <= rate <= 1:
        raise EncodingError(EncodingFault.RATE, f"{rate:g}")
    size = np.float32(data_size)
    masks = _split_mask({name: values.size for name, values in received.items()}, rate, iteration)
    entries = []
    for name, mask in masks.items():
        with np.errstate(over="ignore", invalid="ignore"):
            kept = size * trained[name][mask] - size * received[name][mask]
        entries.append(quantise(name, kept, Rounding.HALF_UP))
    return SparseUpdate(tuple(entries), tuple(received), float(np.float32(rate)))


def decode_update(
    entries: Iterable[CompressFeatureMap] | None,
    names: Sequence[str] | None,
    model: Weights,
    *,
    data_size: int,
    rate: float,
    upload_rate: float,
    iteration: int,
) -> Weights:
    """Return an upload as if it had come uncompressed: data_size * w, in float32, as the server of 0.1.0 computes it.

    Args:
        entries, names, upload_rate: ``compress_feature_map``, ``name_vec`` and ``upload_sparse_rate`` of the request.
        model: what the device received, the model that the iteration began with.
        data_size: the number of samples that the device registered.
        rate, iteration: the server's.

    ``names`` may be some of the model's weights only. An entry may be absent if the mask keeps nothing of a weight.
    Raises :class:`EncodingError`.
    """
    if np.float32(upload_rate) != np.float32(rate):
        raise EncodingError(EncodingFault.RATE, f"{upload_rate:.9g} instead of {rate:.9g}")
    found = named(entries or ())
    lengths = lengths_of(names, model)
    if unknown := found.keys() - lengths.keys():
        raise EncodingError(EncodingFault.UNKNOWN_NAME, min(unknown))
    masks = _split_mask(lengths, rate, iteration)
    size = np.float32(data_size)
    # Values that are not finite are refused when uploads are summed.
    with np.errstate(over="ignore", invalid="ignore"):
        return {name: _scatter(name, found.get(name), mask) + size * model[name] for name, mask in masks.items()}


def lengths_of(names: Sequence[str] | None, model: Weights) -> dict[str, int]:
    """Return the number of values of each of ``names``, in their order. Raises :class:`EncodingError`."""
    if not names:
        raise EncodingError(EncodingFault.NO_NAMES)
    lengths: dict[str, int] = {}
    for name in names:
        if name in lengths:
            raise EncodingError(EncodingFault.REPEATED_NAME, name)
        if name not in model:
            raise EncodingError(EncodingFault.UNKNOWN_NAME, name)
        lengths[name] = model[name].size
    return lengths


def keep_count(size: int, rate: float) -> int:
    """Return how many of ``size`` values an upload keeps: the product with ``rate`` in float32, rounded down."""
    return min(int(np.float32(size) * np.float32(rate)), size)


@lru_cache(_MASKS_KEPT)
def keep_mask(size: int, rate: float, iteration: int) -> Mask:
    """Return which of ``size`` values are kept, read-only.

    It is a shuffle of ones and zeros: step i exchanges values i and j = i + int(u * (size - i)), u in 0..1 from the
    generator's state.
    """
    steps = np.arange(size)
    fractions = generator_states(iteration, size) / 4294967294.0 + 0.5
    partners = (fractions * (size - steps)).astype(np.int64) + steps
    kept = bytearray(b"\1" * keep_count(size, rate)).ljust(size, b"\0")
    # A NumPy version (sort by partner, then follow each value backwards) takes as long.
    for step, partner in enumerate(partners.tolist()):
        kept[step], kept[partner] = kept[partner], kept[step]
    return np.frombuffer(bytes(kept), np.bool_)


def generator_states(seed: int, count: int) -> NDArray[np.int32]:
    """Return the first ``count`` states of the generator, of either sign.

    One step is s -> rem(wrap(s * 48271), 2**31 - 1): the product wraps to int32, and rem has the sign of its argument.
    That rem changes nothing but three values, the modulus, minus it, and -2**31; so the states are powers of 48271
    times the first one, modulo 2**32, up to such a value; then a new sequence starts.
    """
    states = np.empty(count, np.int32)
    powers = np.full(count, _MULTIPLIER, np.uint32)
    powers[:1] = 1
    np.multiply.accumulate(powers, out=powers)
    first = _remainder(_wrap(_wrap(seed + _MODULUS) * _MULTIPLIER))
    begin = 0
    while begin < count:
        part = states[begin:]
        np.multiply(powers[: part.size], np.uint32(first % 2**32), out=part.view(np.uint32))
        (changed,) = np.nonzero((part == _MODULUS) | (part == -_MODULUS) | (part == -(2**31)))
        if not changed.size:
            break
        begin += int(changed[0])
        first = _remainder(int(states[begin]))
    return states


def _split_mask(lengths: Mapping[str, int], rate: float, iteration: int) -> dict[str, Mask]:
    mask = keep_mask(sum(lengths.values()), float(np.float32(rate)), iteration)
    ends = np.cumsum(list(lengths.values()))
    return dict(zip(lengths, np.split(mask, ends[:-1]), strict=True))


def _scatter(name: str, entry: CompressFeatureMap | None, mask: Mask) -> FloatVector:
    kept = np.zeros(0, np.float32) if entry is None else dequantise(entry)
    expected = int(np.count_nonzero(mask))
    if kept.size != expected:
        raise EncodingError(EncodingFault.WRONG_LENGTH, f"{name}: {kept.size} instead of {expected}")
    differences = np.zeros(mask.size, np.float32)
    differences[mask] = kept
    return differences


def _wrap(value: int) -> int:
    return (value + 2**31) % 2**32 - 2**31


def _remainder(value: int) -> int:
    return abs(value) % _MODULUS * (1 if value >= 0 else -1)
