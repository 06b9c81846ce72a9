"""Rows chosen by number: embeddings and their gradients.

Numbers come from data, so they are checked here: one out of range gives a row of zeros, and passes no gradient.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from mindfl.lite.ops.registry import OWN, instruction, need, operator

if TYPE_CHECKING:
    from mindfl.lite.model import Node
    from mindfl.lite.plan import Plan

_ZERO = np.float32(0.0)


@operator("69 Gather", inputs=3)
def _gather(plan: Plan, node: Node) -> None:
    """y[..., i, ...] = x[..., numbers[i], ...] along an axis."""
    x, numbers = plan.plain(node, 0), plan.plain(node, 1)
    given = plan.integers(node.inputs[2])
    need(len(given) == 1 and -len(x.dims) <= given[0] < len(x.dims), node, f"axis {given[:8]} of shape {x.dims}")
    axis = given[0] % len(x.dims)
    dims = (*x.dims[:axis], *numbers.dims, *x.dims[axis + 1 :])
    y = plan.keep(node.outputs[0], plan.new_parameter(dims))
    plan.builder.emit(
        "CHOOSE",
        x=x.offset,
        numbers=numbers.offset,
        y=y.offset,
        outer=math.prod(x.dims[:axis]),
        limit=x.dims[axis],
        count=numbers.size,
        size=math.prod(x.dims[axis + 1 :]),
    )


@operator("164 UnsortedSegmentSum", inputs=3)
def _segment_sum(plan: Plan, node: Node) -> None:
    """y[k] = sum of the rows of x whose number is k: the gradient of an embedding."""
    x, numbers = plan.plain(node, 0), plan.plain(node, 1)
    rank = len(numbers.dims)
    need(x.dims[:rank] == numbers.dims, node, f"numbers of shape {numbers.dims} for shape {x.dims}")
    given = plan.integers(node.inputs[2])
    dims = plan.tensor(node.outputs[0]).dims
    need(len(given) == 1 and dims == (given[0], *x.dims[rank:]), node, f"{given[:8]} segments for a result of {dims}")
    y = plan.keep(node.outputs[0], plan.new_parameter(dims))
    plan.builder.emit(
        "SEGMENT_SUM",
        x=x.offset,
        numbers=numbers.offset,
        y=plan.builder.keep(y.offset),
        before=plan.builder.keep(plan.builder.allocate(numbers.size)),
        limit=dims[0],
        count=numbers.size,
        size=math.prod(dims[1:]),
        cleared=bool(OWN),  # an operator of a user may write to y
    )


@instruction("CHOOSE", "x numbers y outer limit count size")
def choose_kernel(arena: Any, table: Any, i: Any) -> None:
    """y[n, k] = x[n, numbers[k]], rows of ``size``; zeros for a number that is not below ``limit``, or negative."""
    x, numbers, y, outer, limit, count, size = i[1], i[2], i[3], i[4], i[5], i[6], i[7]
    for n in range(outer):
        for k in range(count):
            number = arena[numbers + k]
            target = arena[y + (n * count + k) * size :][:size]
            if number >= 0 and number < limit:
                source = arena[x + (n * limit + int(number)) * size :][:size]
                for column in range(size):
                    target[column] = source[column]
            else:
                target[:] = _ZERO


@instruction("SEGMENT_SUM", "x numbers y before limit count size cleared")
def segment_sum_kernel(arena: Any, table: Any, i: Any) -> None:
    """y[number] = sum of the rows x[k] with that number, in the order of k; zero where there are none.

    ``before`` holds the numbers of the step before: only their rows are not zero yet, unless y has to be ``cleared``.
    """
    x, numbers, y, before, limit, count, size, cleared = i[1], i[2], i[3], i[4], i[5], i[6], i[7], i[8]
    if cleared:
        arena[y : y + limit * size] = _ZERO
    for k in range(count):
        number = arena[before + k]
        if number >= 0 and number < limit:
            arena[y + int(number) * size :][:size] = _ZERO
        arena[before + k] = arena[numbers + k]
    for k in range(count):
        number = arena[numbers + k]
        if number >= 0 and number < limit:
            target, source = arena[y + int(number) * size :][:size], arena[x + k * size :][:size]
            for column in range(size):
                target[column] += source[column]
