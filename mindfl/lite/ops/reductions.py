"""Sums, means, extremes and products over any axes of an array, the batch among them or not.

Two kernels: REDUCE_ROWS where the innermost axis in memory stays (rows are added to rows), REDUCE_RUNS where it is
reduced (each run of adjacent elements becomes one number). Sums have 64 terms at most before they are added to others,
so that errors do not grow with the number of terms. The other axes lie in the table, the innermost last: those that
stay as (elements, distance), behind them those that are reduced.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from mindfl.lite.ops.arithmetic import pairwise
from mindfl.lite.ops.functions import apply, number_of
from mindfl.lite.ops.maps import clear_lanes, new_value
from mindfl.lite.ops.registry import helper, instruction, need, operator
from mindfl.lite.program import Value
from mindfl.lite.strides import Axis, apart, axes_table, elements, merged, walked

if TYPE_CHECKING:
    from mindfl.lite.model import Node
    from mindfl.lite.plan import Plan

_ZERO, _ONE = np.float32(0.0), np.float32(1.0)
#: modes as in the file, and those that an instruction computes
MEAN, MAXIMUM, MINIMUM, PRODUCT, SUM, SUM_OF_SQUARES, SUM_OF_SIZES, ALL, NORM = range(9)
#: terms of a sum before it is added to the sum of others, and sums beside each other in a run
_TERMS, _SUMS = 64, 16


@operator("118 ReduceFusion keep_dims:? mode:b reduce_to_end:? coeff:f")
def _reduction(plan: Plan, node: Node) -> None:
    mode = node.integer("mode")
    need(mode in range(9), node, f"reduction mode {mode}")
    x, dims = plan.value(node.inputs[0]), plan.tensor(node.inputs[0]).dims
    rank = len(dims)
    given = plan.integers(node.inputs[1]) if len(node.inputs) > 1 else ()
    need(all(-rank <= axis < rank for axis in given), node, f"axes {given[:8]} of shape {dims}")
    chosen = {axis % rank for axis in given} if given else set(range(rank))
    if node.flag("reduce_to_end"):
        chosen = set(range(min(chosen, default=0), rank))
    missing = rank - len(x.dims)  # dimensions of 1 before a batch that lies batch-last
    axes = {axis - missing for axis in chosen if axis >= missing}
    y = reduce(plan, x, axes, mode, node.outputs[0])
    if node.flag("reduce_to_end") and abs(node.real("coeff")) > 1e-5:
        pairwise(plan, "PRODUCT", y, number_of(plan, node.real("coeff")), y)


@operator("11 ArgMaxFusion axis:q top_k:q=1 keep_dims:? out_max_value:?")
@operator("12 ArgMinFusion axis:q top_k:q keep_dims:? out_max_value:?")
def _index(plan: Plan, node: Node) -> None:
    """The first place of the largest or smallest element along an axis."""
    dims = plan.tensor(node.inputs[0]).dims
    axis = node.integer("axis")
    need(-len(dims) <= axis < len(dims), node, f"axis {axis} of shape {dims}")
    need(node.integer("top_k") in (0, 1) and not node.flag("out_max_value"), node, "several places, or the values")
    x, axis = plan.plain(node, 0), axis % len(dims)
    y = plan.keep(node.outputs[0], plan.new_parameter((*dims[:axis], 1, *dims[axis + 1 :])))
    plan.builder.emit(
        "INDEX",
        x=x.offset,
        y=y.offset,
        outer=math.prod(dims[:axis]),
        count=dims[axis],
        inner=math.prod(dims[axis + 1 :]),
        smallest=node.op == "ArgMinFusion",
    )


def reduce(plan: Plan, x: Value, axes: set[int], mode: int, output: int | None = None) -> Value:
    """Emit the reduction of ``x`` over ``axes``, which stay with one element, as the value of tensor ``output``."""
    dims = tuple(1 if axis in axes else dim for axis, dim in enumerate(x.dims))
    y = new_value(plan, dims, batched=x.batched and 0 not in axes)
    kept = y if output is None else plan.keep(output, y)
    stays, reduced = _split(plan, x, axes, whole=y.batched)
    rows = bool(stays) and stays[-1][1] == 1 and (not reduced or reduced[-1][1] != 1)
    inner = stays.pop() if rows else reduced.pop() if reduced and reduced[-1][1] == 1 else (1, 1)
    plan.builder.emit(
        "REDUCE_ROWS" if rows else "REDUCE_RUNS",
        mode=mode,
        x=x.offset,
        y=y.offset,
        sums=plan.once(("sums", inner[0]), lambda: plan.builder.allocate(inner[0])) if rows else _run_sums(plan),
        axes_table=axes_table(plan, [*stays, *reduced]),
        rank=len(stays),
        count=elements(stays),
        depth=len(reduced),
        terms=elements(reduced),
        size=inner[0],
    )
    if mode == NORM:
        apply(plan, "ROOT", y, y)
    clear_lanes(plan, y)
    return kept


def _run_sums(plan: Plan) -> int:
    return plan.once(("run sums",), lambda: plan.builder.allocate(_SUMS))


def _split(plan: Plan, x: Value, axes: set[int], *, whole: bool) -> tuple[list[Axis], list[Axis]]:
    """Return the axes that stay and those that are reduced; lanes that stay are computed as ``whole`` vectors."""
    distances = apart(x, plan.lanes)
    dims = (plan.lanes, *x.dims[1:]) if whole else x.dims
    order = walked([(axis,) for axis in range(len(dims))], batched=x.batched)
    parts: tuple[list[Axis], list[Axis]] = ([], [])
    for (axis,) in order:
        parts[axis in axes].append((dims[axis], distances[axis]))
    return merged(parts[0]), merged(parts[1])


def mean_of_all(plan: Plan, x: Value) -> int:
    """Return the place of the mean of all elements; that of ``x`` itself if it is one number."""
    if x.size == 1 and not x.batched:
        return x.offset
    return reduce(plan, x, set(range(len(x.dims))), MEAN).offset


@helper
def _start(mode: Any, x: Any) -> Any:
    """Return the first value of a reduction: ``x``, an element, where that changes nothing."""
    if mode in (MAXIMUM, MINIMUM):
        return x
    return _ONE if mode in (PRODUCT, ALL) else _ZERO


@helper
def _place(table: Any, axes: Any, rank: Any, index: Any) -> Any:
    """Return the distance of the ``index``-th of the elements along ``rank`` axes."""
    distance, rest = 0, index
    for axis in range(rank - 1, -1, -1):
        at = axes + 2 * axis
        distance += rest % table[at] * table[at + 1]
        rest //= table[at]
    return distance


@helper
def _larger(a: Any, b: Any) -> Any:
    return a if a > b or a != a else b


@helper
def _smaller(a: Any, b: Any) -> Any:
    return a if a < b or a != a else b


@helper
def _into(mode: Any, x: Any, y: Any) -> None:
    """Take the elements of x into the values of y."""
    if mode == MAXIMUM:
        for n in range(y.size):
            y[n] = _larger(y[n], x[n])
    elif mode == MINIMUM:
        for n in range(y.size):
            y[n] = _smaller(y[n], x[n])
    elif mode == PRODUCT:
        for n in range(y.size):
            y[n] = y[n] * x[n]
    elif mode == ALL:
        for n in range(y.size):
            y[n] = y[n] if x[n] != _ZERO else _ZERO
    elif mode == SUM_OF_SIZES:
        for n in range(y.size):
            y[n] = y[n] + (x[n] if x[n] > _ZERO else -x[n])
    elif mode in (SUM_OF_SQUARES, NORM):
        for n in range(y.size):
            y[n] = y[n] + x[n] * x[n]
    else:
        for n in range(y.size):
            y[n] = y[n] + x[n]


@helper
def _together(mode: Any, a: Any, b: Any) -> Any:
    """Return the reduction of two parts."""
    if mode == MAXIMUM:
        return _larger(a, b)
    if mode == MINIMUM:
        return _smaller(a, b)
    return a * b if mode in (PRODUCT, ALL) else a + b


@helper
def _join(mode: Any, sums: Any, y: Any) -> None:
    """Take the values of ``sums`` into those of y."""
    for n in range(y.size):
        y[n] = _together(mode, y[n], sums[n])


@instruction("REDUCE_ROWS", "mode x y sums axes_table rank count depth terms size", error_model="numpy")
def reduce_rows_kernel(arena: Any, table: Any, i: Any) -> None:
    """y[out] = the reduction of rows of ``size`` elements, element by element."""
    mode, axes, rank, depth, terms, size = i[1], i[5], i[6], i[8], i[9], i[10]
    sums, inner = arena[i[4] : i[4] + size], axes + 2 * rank
    for out in range(i[7]):
        start = i[2] + _place(table, axes, rank, out)
        y = arena[i[3] + out * size : i[3] + (out + 1) * size]
        for n in range(size):
            y[n] = _start(mode, arena[start + n])
        for first in range(0, terms, _TERMS):
            for n in range(size):
                sums[n] = _start(mode, arena[start + n])
            for term in range(first, min(first + _TERMS, terms)):
                x = start + _place(table, inner, depth, term)
                _into(mode, arena[x : x + size], sums)
            _join(mode, sums, y)
        if mode == MEAN:
            for n in range(size):
                y[n] = y[n] / np.float32(terms)


@instruction("REDUCE_RUNS", "mode x y sums axes_table rank count depth terms size", error_model="numpy")
def reduce_runs_kernel(arena: Any, table: Any, i: Any) -> None:
    """y[out] = the reduction of all elements of runs of ``size``."""
    mode, axes, rank, depth, terms, size = i[1], i[5], i[6], i[8], i[9], i[10]
    inner, whole = axes + 2 * rank, size // _SUMS * _SUMS
    sums = arena[i[4] : i[4] + _SUMS]
    for out in range(i[7]):
        start = i[2] + _place(table, axes, rank, out)
        total = np.float64(_start(mode, arena[start]))
        for term in range(terms):
            x = start + _place(table, inner, depth, term)
            for first in range(0, size, _SUMS * _TERMS):
                end = min(first + _SUMS * _TERMS, whole)
                for n in range(_SUMS):
                    sums[n] = _start(mode, arena[x])
                for at in range(first, end, _SUMS):
                    _into(mode, arena[x + at : x + at + _SUMS], sums)
                last = min(first + _SUMS * _TERMS, size)
                rest = last - max(end, first)
                _into(mode, arena[x + last - rest : x + last], sums[:rest])
                half = _SUMS // 2
                while half:
                    for n in range(half):
                        sums[n] = _together(mode, sums[n], sums[n + half])
                    half //= 2
                total = _together(mode, total, sums[0])
        arena[i[3] + out] = total / np.float32(terms * size) if mode == MEAN else total


@instruction("INDEX", "x y outer count inner smallest")
def index_kernel(arena: Any, table: Any, i: Any) -> None:
    """y = the place of the first of the largest, or ``smallest``, elements along an axis."""
    count, inner, smallest = i[4], i[5], i[6]
    for block in range(i[3]):
        for n in range(inner):
            start, found = i[1] + block * count * inner + n, 0
            best = arena[start]
            for place in range(1, count):
                value = arena[start + place * inner]
                if value < best if smallest else value > best:
                    found, best = place, value
            arena[i[2] + block * inner + n] = found
