"""Matrix products of any rank and gradients of biases of rows, on values in the order of the file."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from mindfl.lite.kernels.primitives import ACCUMULATE, PANEL_DEPTH, PANEL_VECTORS, VECTOR, ZERO, matrix_product
from mindfl.lite.ops.fused import cut_off
from mindfl.lite.ops.registry import OWN, instruction, need
from mindfl.lite.ops.vector_math import floor
from mindfl.lite.program import Value, broadcast, steps
from mindfl.lite.strides import at_least, merged

if TYPE_CHECKING:
    from mindfl.lite.model import Node
    from mindfl.lite.model_graph import Fusion
    from mindfl.lite.plan import Plan

_ZERO = np.float32(0.0)


def matrix_products(plan: Plan, node: Node) -> None:
    """Emit y = relu?(a * b + bias) for the matrices of two arrays, whose other axes are broadcast."""
    fusion = plan.graph.fusion(node)
    a, b = plan.plain(node, 0), plan.plain(node, 1)
    turned_a, turned_b = node.flag("transpose_a"), node.flag("transpose_b")
    outer = broadcast(a.dims[:-2], b.dims[:-2])
    fits = min(len(a.dims), len(b.dims)) >= 2 and a.dims[-2 if turned_a else -1] == b.dims[-1 if turned_b else -2]
    if outer is None or not fits:
        need(False, node, f"operands of shapes {a.dims} and {b.dims}")
        return
    depth, columns = b.dims[-2:][::-1] if turned_b else b.dims[-2:]
    rows = a.dims[-1 if turned_a else -2]
    y, start = _result(plan, node, fusion, (*outer, rows, columns))
    apart = (_matrix_steps(each, len(outer)) for each in (a, b))
    axes = at_least(merged(zip(outer, *apart, strict=True)), 1, 2)
    if not turned_a and len(axes) == 1 and axes[0][1:] == (rows * depth, 0):
        axes, rows = [(1, 0, 0)], rows * axes[0][0]
    plan.builder.emit(
        "MATRIX_PRODUCT",
        a=a.offset,
        b=b.offset,
        y=y.offset,
        start=start,
        relu=fusion.relu,
        packed=plan.once(("panel",), lambda: plan.builder.allocate(PANEL_DEPTH * PANEL_VECTORS * VECTOR)),
        outer_table=plan.builder.entries(number for axis in axes for number in axis),
        outer=len(axes),
        rows=rows,
        columns=columns,
        depth=depth,
        a_row=1 if turned_a else depth,
        a_column=rows if turned_a else 1,
        transpose_b=turned_b,
    )
    cut_off(plan, fusion, y.offset, y.size)


def _result(plan: Plan, node: Node, fusion: Fusion, dims: tuple[int, ...]) -> tuple[Value, int]:
    """Return the place of a product, and what its sums begin with.

    Products that only one AddN reads, such as gradients of a weight used several times, are added up in one place.
    """
    plan.mark_fused(node, fusion.output)
    reader = plan.graph.sole_consumer(fusion.output)
    alone = fusion.bias is None and not fusion.relu and not any(own.op == "AddN" for own in OWN)
    if not alone or reader is None or reader.op != "AddN":
        return plan.keep(fusion.output, plan.new_parameter(dims)), plan.first_sum(node, fusion, dims[-1])
    key = ("products", reader.index, dims)
    start = ACCUMULATE if key in plan.derived else ZERO
    offset = plan.once(key, lambda: plan.new_parameter(dims).offset)
    if start == ACCUMULATE:
        plan.added_up.add(fusion.output)
    return plan.keep(fusion.output, Value(offset, dims, False)), start


def _matrix_steps(value: Value, rank: int) -> tuple[int, ...]:
    """Return the elements between neighbouring matrices along each of the ``rank`` axes before them."""
    own = value.dims[:-2]
    return tuple(step * math.prod(value.dims[-2:]) for step in steps(own, (1,) * rank))


def sum_of_rows(plan: Plan, node: Node, dy: Value, columns: int) -> None:
    """Emit the sum over all axes but the last, of ``columns``."""
    y = plan.keep(node.outputs[0], plan.new_parameter((columns,)))
    plan.builder.emit("ROW_SUM", dy=dy.offset, y=y.offset, rows=dy.size // columns, columns=columns)


@instruction(
    "MATRIX_PRODUCT",
    "a b y start relu packed outer_table outer rows columns depth a_row a_column transpose_b",
)
def matrix_product_kernel(arena: Any, table: Any, i: Any) -> None:
    """y = relu?(a * b + bias) for each matrix of the ``outer`` axes, given as (matrices, step of a, step of b)."""
    start, lowest, packed, outer_table, outer = i[4], floor(i[5]), i[6], i[7], i[8]
    rows, columns, depth, am, ak, transpose_b = i[9], i[10], i[11], i[12], i[13], i[14]
    bk, bn = (1, depth) if transpose_b else (columns, 1)
    count = 1
    for axis in range(outer):
        count *= table[outer_table + 3 * axis]
    for number in range(count):
        a, b, rest = i[1], i[2], number
        for back in range(outer):
            axis = outer_table + 3 * (outer - 1 - back)
            digit = rest % table[axis]
            rest //= table[axis]
            a += digit * table[axis + 1]
            b += digit * table[axis + 2]
        y = i[3] + number * rows * columns
        matrix_product(arena, a, am, ak, b, bk, bn, y, rows, columns, depth, start, lowest, packed)


@instruction("ROW_SUM", "dy y rows columns")
def row_sum_kernel(arena: Any, table: Any, i: Any) -> None:
    """y = sum of the rows of dy, in their order."""
    dy, y, rows, columns = i[1], i[2], i[3], i[4]
    target = arena[y : y + columns]
    target[:] = _ZERO
    for row in range(rows):
        source = arena[dy + row * columns :][:columns]
        for column in range(columns):
            target[column] += source[column]
