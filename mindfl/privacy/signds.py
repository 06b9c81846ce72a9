"""``SIGNDS`` of MindSpore Federated 0.1.0: a device uploads one sign and a few indices instead of weights.

The indices are drawn such that some of them are likely to be among the K dimensions that training moved furthest in the
direction of the sign; the server then moves all of them by a fixed step. All weights lie end to end, d dimensions, and
h of them are uploaded. The number v of those from the top K is drawn with probability

    P(v) ~ C(K, v) C(d - K, h - v) (e**eps if v >= t else 1),

so that no choice of indices is more than e**eps times as likely with one set of weights as with any other: one upload
is eps-differentially private. (The sign is random and does not depend on the weights.) The threshold t maximises the
expected v.
"""

from __future__ import annotations

import math
import os
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from mindfl.errors import OptionError
from mindfl.privacy.compression import lengths_of
from mindfl.privacy.faults import EncodingError, EncodingFault
from mindfl.privacy.randomness import RandomBytes, below, draw
from mindfl.protocol import DSParams, FloatVector, Weights

MAX_INDICES = 100
"""The most that the server of MindSpore Federated 0.1.0 accepts."""

_PLANS_KEPT = 8


@dataclass(frozen=True, slots=True)
class SignPlan:
    """Numbers of indices to draw: d ``dimensions``, ``top`` K, ``output`` h, ``threshold`` t.

    ``cumulative[v]`` is the probability of at most v indices from the top; ``expected`` is their expected number.
    """

    dimensions: int
    top: int
    output: int
    threshold: int
    expected: float
    cumulative: tuple[float, ...]


@dataclass(frozen=True, slots=True, eq=False)
class SignUpdate:
    """An upload: the fields ``sign`` (1 or -1) and ``index_array`` (ascending) of RequestUpdateModel."""

    sign: int
    indices: NDArray[np.int32]


@lru_cache(_PLANS_KEPT)
def sign_plan(dimensions: int, params: DSParams) -> SignPlan:
    """Return the plan for a model of so many values.

    With ``sign_dim_out`` 0, h is the largest for which at least ``sign_thr_ratio`` of the indices are expected to come
    from the top, counted up from 1. (The reference stops where its doubles overflow; here nothing does.) K is
    ``sign_k`` d rounded down, but at least 1, and h at most d. Raises :class:`OptionError` if there are no values,
    or a parameter is out of range.
    """
    _check(dimensions, params)
    top = max(int(np.float32(params.sign_k) * np.float32(dimensions)), 1)
    if params.sign_dim_out:
        return _best_threshold(dimensions, top, min(params.sign_dim_out, dimensions), params.sign_eps)
    best = _best_threshold(dimensions, top, 1, params.sign_eps)
    for output in range(2, min(MAX_INDICES, dimensions) + 1):
        plan = _best_threshold(dimensions, top, output, params.sign_eps)
        if plan.expected / output < params.sign_thr_ratio:
            break
        best = plan
    return best


def encode_signs(trained: Weights, received: Weights, params: DSParams, random: RandomBytes = os.urandom) -> SignUpdate:
    """Return the upload of ``trained``, which began as ``received``; indices count in the order of ``received``.

    Raises :class:`EncodingError` if the weights are not finite, :class:`OptionError` for unusable parameters.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        update = np.concatenate([trained[name] - values for name, values in received.items()])
    if not np.isfinite(update).all():
        raise EncodingError(EncodingFault.NOT_FINITE, "the trained weights")
    plan = sign_plan(update.size, params)
    sign = 1 - 2 * below(2, random)
    # Above 0, so that an impossible number of indices is never drawn.
    count = bisect_left(plan.cumulative, (below(2**53, random) + 1) * 2.0**-53)
    top = _largest(update if sign > 0 else -update, plan.top)
    chosen = top[draw(plan.top, count, random)]
    rest = np.array(draw(plan.dimensions - plan.top, plan.output - count, random), np.int64)
    # The r-th dimension outside the top is r plus the number of top ones before it.
    others = rest + np.searchsorted(top - np.arange(plan.top), rest, side="right")
    return SignUpdate(sign, np.sort(np.concatenate([chosen, others])).astype(np.int32))


def decode_signs(
    sign: int,
    indices: NDArray[np.int32] | None,
    names: Sequence[str] | None,
    model: Weights,
    *,
    data_size: int,
    global_lr: float,
) -> Weights:
    """Return an upload as if it had come as weights: data_size * w, w the received ``model`` moved at ``indices``.

    Args:
        sign, indices: ``sign`` and ``index_array`` of the request.
        names: the names in its ``feature_map``, in the order in which indices count. The values are ignored.
        model: the model that the iteration began with.
        data_size: the number of samples that the device registered.
        global_lr: the step, ``sign_global_lr``.

    In float32, as the server of 0.1.0 computes it. Raises :class:`EncodingError`. An upload with sign 0 is one of
    ordinary weights, and none for this function.
    """
    lengths = lengths_of(names, model)
    places = _checked(sign, indices, sum(lengths.values()))
    flat: FloatVector = np.concatenate([model[name] for name in lengths])
    # Values that are not finite are refused when uploads are summed.
    with np.errstate(over="ignore", invalid="ignore"):
        flat[places] += np.float32(sign) * np.float32(global_lr)
        flat *= np.float32(data_size)
    parts = np.split(flat, np.cumsum(list(lengths.values()))[:-1])
    return dict(zip(lengths, parts, strict=True))


def _check(dimensions: int, params: DSParams) -> None:
    ranges = {
        "sign_k": 0 < params.sign_k <= 0.25,
        "sign_eps": 0 < params.sign_eps <= 100,
        "sign_thr_ratio": 0.5 <= params.sign_thr_ratio <= 1,
        "sign_dim_out": 0 <= params.sign_dim_out <= 50,
    }
    for name, fits in ranges.items():
        if not fits:
            raise OptionError(f"SignDS cannot work with {name} = {getattr(params, name)}")
    if dimensions < 1:
        raise OptionError("SignDS needs a model with at least one value")


def _best_threshold(dimensions: int, top: int, output: int, epsilon: float) -> SignPlan:
    """Return the plan with the first threshold from 1 on after which the expected number does not grow."""
    rest = dimensions - top
    # Integers, then their logarithms: C(10**9, 50) and e**100 times it do not overflow.
    counts = [math.comb(top, v) * math.comb(rest, output - v) for v in range(output + 1)]
    most = max(map(_log, counts))
    shares = np.array([math.exp(_log(count) - most) for count in counts])
    best, expected = 1, -1.0
    probabilities = shares
    for threshold in range(1, output + 1):
        candidate = shares * np.where(np.arange(output + 1) >= threshold, 1.0, math.exp(-epsilon))
        candidate /= candidate.sum()
        mean = float(candidate @ np.arange(output + 1))
        if mean <= expected:
            break
        best, expected, probabilities = threshold, mean, candidate
    cumulative = np.cumsum(probabilities)
    return SignPlan(dimensions, top, output, best, expected, tuple((cumulative / cumulative[-1]).tolist()))


def _log(count: int) -> float:
    return math.log(count) if count else -math.inf


def _largest(values: FloatVector, count: int) -> NDArray[np.int64]:
    """Return the indices of the ``count`` largest, ascending; of equal values, the first ones."""
    limit = np.partition(values, values.size - count)[values.size - count]
    beyond = np.flatnonzero(values > limit)
    equal = np.flatnonzero(values == limit)[: count - beyond.size]
    return np.sort(np.concatenate([beyond, equal]))


def _checked(sign: int, indices: NDArray[np.int32] | None, dimensions: int) -> NDArray[np.int32]:
    if sign not in (1, -1):
        raise EncodingError(EncodingFault.SIGN, str(sign))
    count = 0 if indices is None else indices.size
    if indices is None or not 1 <= count <= MAX_INDICES:
        raise EncodingError(EncodingFault.INDEX_COUNT, str(count))
    if indices.min() < 0 or indices.max() >= dimensions:
        raise EncodingError(EncodingFault.INDEX_RANGE, f"{indices.min()}..{indices.max()} of {dimensions} values")
    if np.unique(indices).size < count:
        raise EncodingError(EncodingFault.REPEATED_INDEX)
    return indices
