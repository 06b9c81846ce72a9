"""Axes of arrays in memory: broadcast against each other, in the order in which kernels walk them, and merged."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import TYPE_CHECKING

from mindfl.lite.program import Dims, Value, padded

if TYPE_CHECKING:
    from mindfl.lite.plan import Plan

#: elements along an axis, and the distance between them in each of several arrays
Axis = tuple[int, ...]


def apart(value: Value, lanes: int) -> Dims:
    """Return the distance in memory, in floats, between elements along each axis; samples of a batch are adjacent."""
    inner = value.dims[1:] if value.batched else value.dims
    unit = lanes if value.batched else 1
    distances = tuple(unit * math.prod(inner[axis + 1 :]) for axis in range(len(inner)))
    return (1, *distances) if value.batched else distances


def spread(value: Value, rank: int, lanes: int) -> Dims:
    """Return :func:`apart` for an array that is broadcast to ``rank`` axes: 0 where it is repeated."""
    distances = (0,) * (rank - len(value.dims)) + apart(value, lanes)
    pairs = zip(padded(value.dims, rank), distances, strict=True)
    return tuple(0 if dim == 1 else distance for dim, distance in pairs)


def walked(axes: Sequence[Axis], *, batched: bool) -> list[Axis]:
    """Return axes from the outermost to the innermost in memory: a batch, the first axis, is the innermost."""
    return [*axes[1:], axes[0]] if batched and axes else [*axes]


def merged(axes: Iterable[Axis]) -> list[Axis]:
    """Return the same walk with fewer axes: those of one element left out, those that continue each other as one."""
    found: list[Axis] = []
    for dim, *steps in axes:
        if dim == 1:
            continue
        if found and all(before == dim * step for before, step in zip(found[-1][1:], steps, strict=True)):
            dim *= found.pop()[0]
        found.append((dim, *steps))
    return found


def at_least(axes: Sequence[Axis], count: int, arrays: int) -> list[Axis]:
    """Return axes with further ones of one element before them, up to ``count``."""
    return [(1,) + (0,) * arrays] * (count - len(axes)) + [*axes]


def axes_table(plan: Plan, axes: Iterable[Axis]) -> int:
    """Return the place of axes in the program's table."""
    return plan.builder.entries(chain.from_iterable(axes))


def elements(axes: Iterable[Axis]) -> int:
    """Return the number of elements along all axes."""
    return math.prod(axis[0] for axis in axes)
