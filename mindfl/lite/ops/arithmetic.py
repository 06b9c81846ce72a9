"""Arithmetic, comparisons and logic on two arrays, broadcast as NumPy does it.

A kernel walks two axes itself (``n1`` rows of ``n0`` elements each) and finds the start of each such plane from the
axes outside, which lie in the table as (elements, distance in a, distance in b), the innermost last.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from mindfl.errors import ModelFormatError
from mindfl.lite.ops.activations import fused_activation
from mindfl.lite.ops.maps import clear_lanes, new_value
from mindfl.lite.ops.registry import helper, instruction, need, operator
from mindfl.lite.program import Dims, Value, broadcast
from mindfl.lite.strides import Axis, at_least, axes_table, elements, merged, spread, walked

if TYPE_CHECKING:
    from mindfl.lite.model import Node
    from mindfl.lite.plan import Plan

_ZERO, _ONE = np.float32(0.0), np.float32(1.0)


@helper
def add(a: Any, b: Any) -> Any:
    return a + b


@helper
def subtract(a: Any, b: Any) -> Any:
    return a - b


@helper
def multiply(a: Any, b: Any) -> Any:
    return a * b


@helper
def divide(a: Any, b: Any) -> Any:
    return a / b


@helper
def larger(a: Any, b: Any) -> Any:
    """NaN where either is."""
    return a if a > b or a != a else b


@helper
def smaller(a: Any, b: Any) -> Any:
    """NaN where either is."""
    return a if a < b or a != a else b


@helper
def squared_difference(a: Any, b: Any) -> Any:
    return (a - b) * (a - b)


@helper
def power(a: Any, b: Any) -> Any:
    return np.float32(np.float64(a) ** np.float64(b))


@helper
def is_equal(a: Any, b: Any) -> Any:
    return _ONE if a == b else _ZERO


@helper
def is_greater(a: Any, b: Any) -> Any:
    return _ONE if a > b else _ZERO


@helper
def is_no_less(a: Any, b: Any) -> Any:
    return _ONE if a >= b else _ZERO


@helper
def differs(a: Any, b: Any) -> Any:
    return _ONE if a != b else _ZERO


@helper
def both(a: Any, b: Any) -> Any:
    return _ONE if a != _ZERO and b != _ZERO else _ZERO


@helper
def either(a: Any, b: Any) -> Any:
    return _ONE if a != _ZERO or b != _ZERO else _ZERO


#: instruction -> what it computes of each pair of elements
PAIRS: dict[str, Callable[[Any, Any], Any]] = {
    "SUM_OF": add,
    "DIFFERENCE": subtract,
    "PRODUCT": multiply,
    "QUOTIENT": divide,
    "LARGER": larger,
    "SMALLER": smaller,
    "SQUARED_DIFFERENCE": squared_difference,
    "POWER": power,
    "EQUAL": is_equal,
    "GREATER": is_greater,
    "NO_LESS": is_no_less,
    "DIFFERENT": differs,
    "BOTH": both,
    "EITHER": either,
}


def _kernel(function: Callable[[Any, Any], Any]) -> Callable[[Any, Any, Any], None]:
    def kernel(arena: Any, table: Any, i: Any) -> None:
        axes, rank, planes = i[4], i[5], i[6]
        n1, a1, b1, y1, n0, a0, b0 = i[7], i[8], i[9], i[10], i[11], i[12], i[13]
        for plane in range(planes):
            a, b, y, rest = i[1], i[2], i[3] + plane * n1 * y1, plane
            for axis in range(rank - 1, -1, -1):
                at = axes + 3 * axis
                a += rest % table[at] * table[at + 1]
                b += rest % table[at] * table[at + 2]
                rest //= table[at]
            for _ in range(n1):
                target = arena[y : y + n0]
                if a0 == 1 and b0 == 1:
                    first, second = arena[a : a + n0], arena[b : b + n0]
                    for n in range(n0):
                        target[n] = function(first[n], second[n])
                elif a0 == 1 and b0 == 0:
                    first, number = arena[a : a + n0], arena[b]
                    for n in range(n0):
                        target[n] = function(first[n], number)
                elif a0 == 0 and b0 == 1:
                    number, second = arena[a], arena[b : b + n0]
                    for n in range(n0):
                        target[n] = function(number, second[n])
                else:
                    for n in range(n0):
                        target[n] = function(arena[a + n * a0], arena[b + n * b0])
                a += a1
                b += b1
                y += y1

    return kernel


for _name, _function in PAIRS.items():
    instruction(_name, "a b y axes_table rank planes n1 a1 b1 y1 n0 a0 b0", error_model="numpy")(_kernel(_function))


def elementwise(name: str, *, swapped: bool = False) -> Callable[[Plan, Node], None]:
    """Return the lowering of an operator on two operands: an instruction of :data:`PAIRS`, and a fused activation."""

    def lower(plan: Plan, node: Node) -> None:
        a, b = operands(plan, node, (0, 1))
        if swapped:
            a, b = b, a
        y = plan.keep(node.outputs[0], new_value(plan, broadcast_dims(node, a, b), batched=a.batched or b.batched))
        if name == "PRODUCT" and _is_scaled_parameter(a, b):
            plan.builder.emit(
                "MULTIPLY",
                a=a.offset,
                b=b.offset,
                y=y.offset,
                size=y.size,
                a_step=int(a.size > 1),
                b_step=int(b.size > 1),
            )
        else:
            pairwise(plan, name, a, b, y)
        fused_activation(plan, node, y)

    return lower


def _is_scaled_parameter(a: Value, b: Value) -> bool:
    """Whether the machine's own loop can multiply: weight decay is done so, and needs no family of kernels."""
    return not (a.batched or b.batched) and (a.dims == b.dims or 1 in (a.size, b.size))


operator("5 AddFusion activation:b", inputs=2)(elementwise("SUM_OF"))
operator("152 SubFusion activation:b", inputs=2)(elementwise("DIFFERENCE"))
operator("99 MulFusion activation:b", inputs=2)(elementwise("PRODUCT"))
operator("47 DivFusion activation:b", "117 RealDiv", inputs=2)(elementwise("QUOTIENT"))
operator("90 Maximum", inputs=2)(elementwise("LARGER"))
operator("96 Minimum", inputs=2)(elementwise("SMALLER"))
operator("149 SquaredDifference", inputs=2)(elementwise("SQUARED_DIFFERENCE"))
operator("53 Equal", inputs=2)(elementwise("EQUAL"))
operator("103 NotEqual", inputs=2)(elementwise("DIFFERENT"))
operator("71 Greater", inputs=2)(elementwise("GREATER"))
operator("72 GreaterEqual", inputs=2)(elementwise("NO_LESS"))
operator("77 Less", inputs=2)(elementwise("GREATER", swapped=True))
operator("78 LessEqual", inputs=2)(elementwise("NO_LESS", swapped=True))
operator("81 LogicalAnd", inputs=2)(elementwise("BOTH"))
operator("83 LogicalOr", inputs=2)(elementwise("EITHER"))


def operands(plan: Plan, node: Node, places: tuple[int, ...]) -> list[Value]:
    """Return inputs of a node in layouts that broadcast: batch-last where one lies so and the result carries the batch.

    A value that lies batch-last has lost dimensions of 1 before the batch, so all such must have the full rank.
    """
    values = [plan.value(node.inputs[place]) for place in places]
    if not any(value.batched for value in values):
        return values
    dims = broadcast_dims(node, *values)
    if dims[0] != plan.batch or any(value.batched and len(value.dims) < len(dims) for value in values):
        return [plan.plain(node, place) for place in places]
    return [_moved(plan, node.inputs[place], value, len(dims)) for place, value in zip(places, values, strict=True)]


def _moved(plan: Plan, tensor: int, value: Value, rank: int) -> Value:
    """Return a large plain value that carries the batch batch-last: reading it against its order is slow."""
    whole = not value.batched and len(value.dims) == rank and value.dims[0] == plan.batch > 1
    if whole and value.size > plan.batch:
        return plan.batch_last(tensor) or value
    return value


def broadcast_dims(node: Node, *values: Value) -> Dims:
    """Return the shape that values have together; refuse those that do not fit."""
    dims: Dims | None = ()
    for value in values:
        dims = broadcast(dims, value.dims) if dims is not None else None
    if dims is None:
        need(False, node, f"operands of shapes {' and '.join(str(value.dims) for value in values)}")
        return ()
    return dims


def pairwise(plan: Plan, name: str, a: Value, b: Value, y: Value, dims: Dims = ()) -> None:
    """Emit ``y = name(a, b)``, an instruction of :data:`PAIRS`, in their common shape or the larger one ``dims``."""
    dims = dims or broadcast(a.dims, b.dims) or ()
    whole = y.size * (plan.batch if y.batched else 1)
    if math.prod(dims) != whole or (y.batched and dims[:1] != (plan.batch,)):
        raise ModelFormatError(f"operands of shapes {a.dims} and {b.dims} do not give a result of shape {y.dims}")
    steps = [spread(value, len(dims), plan.lanes) for value in (a, b, Value(y.offset, dims, y.batched))]
    axes: list[Axis] = list(zip(dims, *steps, strict=True))
    if y.batched and not any(step[0] for value, step in zip((a, b), steps, strict=False) if not value.batched):
        # Whole vectors: one run where nothing is repeated.
        axes[0] = (plan.lanes, int(a.batched), int(b.batched), 1)
    *outer, first, second = at_least(merged(walked(axes, batched=y.batched)), 2, 3)
    plan.builder.emit(
        name,
        a=a.offset,
        b=b.offset,
        y=y.offset,
        axes_table=axes_table(plan, [axis[:3] for axis in outer]),
        rank=len(outer),
        planes=elements(outer),
        n1=first[0],
        a1=first[1],
        b1=first[2],
        y1=first[3],
        n0=second[0],
        a0=second[1],
        b0=second[2],
    )
    clear_lanes(plan, y)


def expanded(plan: Plan, x: Value, y: Value, dims: Dims) -> None:
    """Emit a copy of ``x`` to ``y``, repeated to the shape ``dims``."""
    one = Value(plan.literal(1.0), (), False)
    pairwise(plan, "PRODUCT", x, one, y, dims)
