"""Operators on single elements: activations, arithmetic with broadcasting, reductions, repetitions.

Where only a layer feeds an activation, the layer computes it too (``Graph.fusion``).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

from mindfl.errors import ModelFormatError
from mindfl.lite.ops.registry import NO_ACTIVATION, RELU, instruction, need, operator
from mindfl.lite.ops.shape import same_order
from mindfl.lite.program import Dims, Value, alike, broadcast, padded, positions, steps

if TYPE_CHECKING:
    from mindfl.lite.model import Node
    from mindfl.lite.plan import Plan

_ZERO = np.float32(0.0)


@operator("2 Activation type:b alpha:f min_val:f max_val:f approximate:?")
def _activation(plan: Plan, node: Node) -> None:
    kind = node.integer("type")
    if kind == NO_ACTIVATION:
        same_order(plan, node)
        return
    need(kind == RELU, node, f"activation {kind}")
    x = plan.batched(node, 0)
    y = plan.keep(node.outputs[0], plan.new_batch(x.dims))
    plan.builder.emit("RELU", x=x.offset, y=y.offset, size=x.size * plan.lanes)


@operator("3 ActivationGrad type:b alpha:f", inputs=2)
def _activation_grad(plan: Plan, node: Node) -> None:
    kind = node.integer("type")
    if kind == NO_ACTIVATION:
        same_order(plan, node)
        return
    need(kind == RELU, node, f"activation {kind}")
    dy, y = plan.batched(node, 0), plan.batched(node, 1)
    need(alike(dy.dims, y.dims), node, f"shapes {dy.dims} and {y.dims}")
    dx = plan.keep(node.outputs[0], plan.new_batch(dy.dims))
    plan.builder.emit("RELU_GRAD", dy=dy.offset, y=y.offset, dx=dx.offset, size=dy.size * plan.lanes)


@instruction("RELU", "x y size")
def relu_kernel(arena: Any, table: Any, i: Any) -> None:
    """y = max(x, 0), NaN kept."""
    source, target = arena[i[1] : i[1] + i[3]], arena[i[2] : i[2] + i[3]]
    for n in range(source.size):
        value = source[n]
        target[n] = _ZERO if value < _ZERO else value


@instruction("RELU_GRAD", "dy y dx size")
def relu_grad_kernel(arena: Any, table: Any, i: Any) -> None:
    """dx = dy where the forward output is positive, else 0."""
    size = i[4]
    gradient, output, target = arena[i[1] : i[1] + size], arena[i[2] : i[2] + size], arena[i[3] : i[3] + size]
    for n in range(size):
        target[n] = gradient[n] if output[n] > _ZERO else _ZERO


_ADD, _SUBTRACT, _MULTIPLY, _DIVIDE = range(4)
_MEAN, _SUM = 0, 4
#: most elements that are addressed one by one: a limit for files that would need huge tables
_MOST_ROWS = 2**22


def _arithmetic(kind: int) -> Callable[[Plan, Node], None]:
    """Return the lowering of an operator on two operands, broadcast as NumPy does."""

    def lower(plan: Plan, node: Node) -> None:
        need(node.attributes.get("activation", NO_ACTIVATION) == NO_ACTIVATION, node, "a fused activation")
        a, b = plan.value(node.inputs[0]), plan.value(node.inputs[1])
        if kind == _MULTIPLY and (_side_by_side(a, b) or 1 in (_size_if_fixed(a), _size_if_fixed(b))):
            _multiply(plan, node, a, b)
        else:
            _binary(plan, node, kind, a, b)

    return lower


operator("5 AddFusion activation:b", inputs=2)(_arithmetic(_ADD))
operator("152 SubFusion activation:b", inputs=2)(_arithmetic(_SUBTRACT))
operator("99 MulFusion activation:b", inputs=2)(_arithmetic(_MULTIPLY))
operator("47 DivFusion activation:b", "117 RealDiv", inputs=2)(_arithmetic(_DIVIDE))


def _size_if_fixed(value: Value) -> int:
    return 0 if value.batched else value.size


def _side_by_side(a: Value, b: Value) -> bool:
    return a.batched == b.batched and alike(a.dims, b.dims)


def _new(plan: Plan, like: Value) -> Value:
    return plan.new_batch(like.dims) if like.batched else plan.new_parameter(like.dims)


def _multiply(plan: Plan, node: Node, a: Value, b: Value) -> None:
    """Multiply element by element, or by one number."""
    larger = b if b.batched or b.size > a.size else a
    size = larger.size * (plan.lanes if larger.batched else 1)
    y = plan.keep(node.outputs[0], _new(plan, larger))
    a_step, b_step = (int(value.batched or value.size > 1) for value in (a, b))
    plan.builder.emit("MULTIPLY", a=a.offset, b=b.offset, y=y.offset, size=size, a_step=a_step, b_step=b_step)


def _binary(plan: Plan, node: Node, kind: int, a: Value, b: Value) -> None:
    dims = broadcast(a.dims, b.dims)
    batched = a.batched or b.batched
    aligned = all(not value.batched or len(value.dims) == max(len(a.dims), len(b.dims)) for value in (a, b))
    if dims is None or not aligned:
        need(False, node, f"operands of shapes {a.dims} and {b.dims}")
        return
    y = plan.keep(node.outputs[0], plan.new_batch(dims) if batched else plan.new_parameter(dims))
    lanes, count = (plan.lanes, plan.batch) if batched else (1, 1)
    inner = dims[1:] if batched else dims
    need(math.prod(inner) <= _MOST_ROWS, node, f"an array of {math.prod(inner)} elements")
    tables, between = zip(*(_addresses(plan, value, dims, batched) for value in (a, b)), strict=True)
    plan.builder.emit(
        "BINARY",
        kind=kind,
        a=a.offset,
        b=b.offset,
        y=y.offset,
        a_table=tables[0],
        b_table=tables[1],
        rows=math.prod(inner),
        a_lane=between[0],
        b_lane=between[1],
        lanes=lanes,
        count=count,
    )


def _addresses(plan: Plan, value: Value, target: Dims, batched: bool) -> tuple[int, int]:
    """Return the table of an operand's offsets for each row of the result, and the step between samples."""
    if value.batched:
        rows = positions(target[1:], [step * plan.lanes for step in steps(value.dims[1:], target[1:])])
        return plan.builder.entries(rows), 1
    apart = steps(value.dims, target)
    if not batched:
        return plan.builder.entries(positions(target, apart)), 0
    return plan.builder.entries(positions(target[1:], apart[1:])), apart[0]


@operator("118 ReduceFusion keep_dims:? mode:b reduce_to_end:? coeff:f")
def _reduction(plan: Plan, node: Node) -> None:
    """Mean or sum over some axes, the batch among them or not."""
    mode = node.integer("mode")
    need(mode in (_MEAN, _SUM), node, f"reduction mode {mode}")
    need(not node.flag("reduce_to_end"), node, "a reduction to the end")
    need(node.real("coeff") in (0.0, 1.0), node, f"a reduction with coefficient {node.real('coeff')}")
    x = plan.value(node.inputs[0])
    rank = len(x.dims)
    given = plan.integers(node.inputs[1]) if len(node.inputs) > 1 else ()
    need(all(-rank <= axis < rank for axis in given), node, f"axes {given[:8]} of shape {x.dims}")
    axes = {axis % rank for axis in given} if given else set(range(rank))
    reduce(plan, x, axes, mean=mode == _MEAN, output=node.outputs[0])


def reduce(plan: Plan, x: Value, axes: set[int], *, mean: bool, output: int | None = None) -> Value:
    """Emit the mean or sum of ``x`` over ``axes``, as the value of tensor ``output`` if given."""
    if x.size * plan.batch > _MOST_ROWS:
        raise ModelFormatError(f"an array of {x.size * plan.batch} elements is too large for this operator")
    kept = [axis for axis in range(len(x.dims)) if axis not in axes]
    batched = x.batched and 0 in kept
    dims = tuple(1 if axis in axes else dim for axis, dim in enumerate(x.dims))
    value = plan.new_batch(dims) if batched else plan.new_parameter(dims)
    y = value if output is None else plan.keep(output, value)
    apart = _apart(plan, x)
    start = 1 if batched else 0
    outs = positions(*_chosen(x.dims, apart, [axis for axis in kept if axis >= start]))
    terms = positions(*_chosen(x.dims, apart, sorted(axes)))
    plan.builder.emit(
        "REDUCE",
        x=x.offset,
        y=y.offset,
        outs_table=plan.builder.entries(outs),
        outs=len(outs),
        terms_table=plan.builder.entries(terms),
        terms=len(terms),
        lanes=plan.lanes if batched else 1,
        count=plan.batch if batched else 1,
        mean=mean,
    )
    return y


def _apart(plan: Plan, x: Value) -> Dims:
    """Return the strides of each axis in memory, in elements; the samples of a batch are adjacent."""
    if not x.batched:
        return steps(x.dims, x.dims)
    return (1, *(step * plan.lanes for step in steps(x.dims[1:], x.dims[1:])))


def _chosen(dims: Dims, apart: Dims, axes: list[int]) -> tuple[Dims, Dims]:
    return tuple(dims[axis] for axis in axes), tuple(apart[axis] for axis in axes)


def mean_of_all(plan: Plan, x: Value) -> int:
    """Return the place of the mean of all elements; that of ``x`` itself if it is one number."""
    if x.size == 1 and not x.batched:
        return x.offset
    return reduce(plan, x, set(range(len(x.dims))), mean=True).offset


@operator("160 TileFusion dims:q[]")
def _tile(plan: Plan, node: Node) -> None:
    """Repeat a tensor that does not carry the batch along its axes."""
    x = plan.fixed(node, 0)
    times = plan.integers(node.inputs[1]) if len(node.inputs) > 1 else node.integers("dims")
    rank = max(len(times), len(x.dims))
    own, times = padded(x.dims, rank), padded(times, rank)
    need(min(times, default=1) >= 1 and math.prod(own) * math.prod(times) <= _MOST_ROWS, node, f"{times[:8]} times")
    dims = tuple(dim * count for dim, count in zip(own, times, strict=True))
    y = plan.keep(node.outputs[0], plan.new_parameter(dims))
    apart = [math.prod(own[axis + 1 :]) for axis in range(rank)]
    places = product(*map(range, dims))
    rows = [sum(p % dim * step for p, dim, step in zip(place, own, apart, strict=True)) for place in places]
    plan.builder.emit(
        "REDUCE",
        x=x.offset,
        y=y.offset,
        outs_table=plan.builder.entries(rows),
        outs=len(rows),
        terms_table=plan.builder.entries([0]),
        terms=1,
        lanes=1,
        count=1,
        mean=False,
    )


@operator("8 AddN")
def _add_n(plan: Plan, node: Node) -> None:
    terms = [plan.value(tensor) for tensor in node.inputs]
    first = terms[0]
    need(all(_side_by_side(term, first) for term in terms) and len(terms) > 1, node, "terms of unequal shapes")
    y = plan.keep(node.outputs[0], _new(plan, first))
    size = first.size * (plan.lanes if first.batched else 1)
    total = first.offset
    for term in terms[1:]:
        plan.builder.emit("ADD", a=total, b=term.offset, y=y.offset, size=size)
        total = y.offset


@instruction("BINARY", "kind a b y a_table b_table rows a_lane b_lane lanes count", error_model="numpy")
def binary_kernel(arena: Any, table: Any, i: Any) -> None:
    """y = a + b, a - b, a * b or a / b (``kind`` 0 to 3), for each row and ``count`` samples.

    The tables hold the offsets of the operands of each row, the lanes the steps between samples.
    """
    kind, a, b, y, a_table, b_table, rows = i[1], i[2], i[3], i[4], i[5], i[6], i[7]
    a_lane, b_lane, lanes, count = i[8], i[9], i[10], i[11]
    for row in range(rows):
        left, right = a + table[a_table + row], b + table[b_table + row]
        for n in range(count):
            first, second = arena[left + n * a_lane], arena[right + n * b_lane]
            if kind == 0:
                value = first + second
            elif kind == 1:
                value = first - second
            elif kind == 2:
                value = first * second
            else:
                value = first / second
            arena[y + row * lanes + n] = value


@instruction("MULTIPLY", "a b y size a_step b_step")
def multiply_kernel(arena: Any, table: Any, i: Any) -> None:
    """y = a * b; a step of 0 repeats one value."""
    a, b, y, size, a_step, b_step = i[1], i[2], i[3], i[4], i[5], i[6]
    for n in range(size):
        arena[y + n] = arena[a + n * a_step] * arena[b + n * b_step]


@instruction("ADD", "a b y size")
def add_kernel(arena: Any, table: Any, i: Any) -> None:
    """y = a + b."""
    a, b, y, size = i[1], i[2], i[3], i[4]
    for n in range(size):
        arena[y + n] = arena[a + n] + arena[b + n]


@instruction("REDUCE", "x y outs_table outs terms_table terms lanes count mean")
def reduce_kernel(arena: Any, table: Any, i: Any) -> None:
    """y[out] = sum, or ``mean``, of the terms of each output, for ``count`` samples."""
    x, y, outs_table, outs, terms_table, terms = i[1], i[2], i[3], i[4], i[5], i[6]
    lanes, count, mean = i[7], i[8], i[9]
    for out in range(outs):
        start = x + table[outs_table + out]
        for n in range(count):
            total = 0.0
            for term in range(terms):
                total += arena[start + table[terms_table + term] + n]
            arena[y + out * lanes + n] = total / terms if mean else total
