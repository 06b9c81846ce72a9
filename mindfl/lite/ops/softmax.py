"""Softmax and its logarithm over any axis."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from mindfl.lite.ops.arithmetic import larger
from mindfl.lite.ops.maps import clear_lanes, like
from mindfl.lite.ops.registry import instruction, need, operator
from mindfl.lite.ops.vector_math import exponential, logarithm

if TYPE_CHECKING:
    from mindfl.lite.model import Node
    from mindfl.lite.plan import Plan

_ZERO, _ONE = np.float32(0.0), np.float32(1.0)


@operator("138 Softmax axis:q[]")
def _softmax(plan: Plan, node: Node) -> None:
    axes = node.integers("axis") or (-1,)
    need(len(axes) == 1, node, f"{len(axes)} axes")
    _over(plan, node, axes[0], log=False)


@operator("189 LogSoftmax axis:q")
def _log_softmax(plan: Plan, node: Node) -> None:
    _over(plan, node, node.integer("axis"), log=True)


def _over(plan: Plan, node: Node, axis: int, *, log: bool) -> None:
    dims = plan.tensor(node.inputs[0]).dims
    need(-len(dims) <= axis < len(dims), node, f"axis {axis} of shape {dims}")
    x, place = plan.value(node.inputs[0]), axis % len(dims)
    if x.batched:  # its dimensions of 1 before the batch are gone
        place -= len(dims) - len(x.dims)
    if x.batched and place < 1:
        x, place = plan.plain(node, 0), axis % len(dims)
    y = like(plan, node, x)
    inner = math.prod(x.dims[place + 1 :]) * (plan.lanes if x.batched else 1)
    plan.builder.emit(
        "SOFTMAX" if inner > 1 else "SOFTMAX_OF_RUNS",
        x=x.offset,
        y=y.offset,
        sums=plan.once(("softmax", inner), lambda: plan.builder.allocate(2 * inner)),
        outer=math.prod(x.dims[1:place] if x.batched else x.dims[:place]),
        count=x.dims[place],
        inner=inner,
        log=log,
    )
    clear_lanes(plan, y)


@instruction("SOFTMAX", "x y sums outer count inner log", error_model="numpy")
def softmax_kernel(arena: Any, table: Any, i: Any) -> None:
    """y = softmax(x), or its logarithm, over ``count`` rows of ``inner`` elements each, ``outer`` times."""
    count, inner, log = i[5], i[6], i[7]
    highest, sums = arena[i[3] : i[3] + inner], arena[i[3] + inner : i[3] + 2 * inner]
    for block in range(i[4]):
        start = block * count * inner
        for n in range(inner):
            highest[n] = arena[i[1] + start + n]
            sums[n] = _ZERO
        for row in range(1, count):
            x = arena[i[1] + start + row * inner : i[1] + start + (row + 1) * inner]
            for n in range(inner):
                highest[n] = larger(highest[n], x[n])
        for row in range(count):
            x = arena[i[1] + start + row * inner : i[1] + start + (row + 1) * inner]
            y = arena[i[2] + start + row * inner : i[2] + start + (row + 1) * inner]
            for n in range(inner):
                y[n] = exponential(x[n] - highest[n])
            for n in range(inner):
                sums[n] = sums[n] + y[n]
        for n in range(inner):
            sums[n] = logarithm(sums[n]) if log else _ONE / sums[n]
        for row in range(count):
            x = arena[i[1] + start + row * inner : i[1] + start + (row + 1) * inner]
            y = arena[i[2] + start + row * inner : i[2] + start + (row + 1) * inner]
            for n in range(inner):
                y[n] = x[n] - highest[n] - sums[n] if log else y[n] * sums[n]


@instruction("SOFTMAX_OF_RUNS", "x y sums outer count inner log", error_model="numpy")
def softmax_of_runs_kernel(arena: Any, table: Any, i: Any) -> None:
    """y = softmax(x), or its logarithm, over runs of ``count`` adjacent elements."""
    count, log = i[5], i[7]
    for run in range(i[4]):
        x = arena[i[1] + run * count : i[1] + (run + 1) * count]
        y = arena[i[2] + run * count : i[2] + (run + 1) * count]
        highest = x[0]
        for n in range(1, count):
            highest = larger(highest, x[n])
        for n in range(count):
            y[n] = exponential(x[n] - highest)
        total = 0.0
        for n in range(count):
            total += y[n]
        total = np.float32(total)
        if log:
            logarithm_of_sum = logarithm(total)
            for n in range(count):
                y[n] = x[n] - highest - logarithm_of_sum
        else:
            scale = _ONE / total
            for n in range(count):
                y[n] = y[n] * scale
