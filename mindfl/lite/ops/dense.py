"""Dense layers and biases, with their gradients."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from mindfl.lite.kernels.primitives import VECTOR, ZERO, product
from mindfl.lite.ops.arithmetic import pairwise
from mindfl.lite.ops.fused import cut_off
from mindfl.lite.ops.matrix import matrix_products, sum_of_rows
from mindfl.lite.ops.registry import NO_ACTIVATION, instruction, need, operator
from mindfl.lite.ops.row_major import row_product, turn
from mindfl.lite.ops.vector_math import floor
from mindfl.lite.program import Value, alike, broadcast, core, last_axis, matrix

if TYPE_CHECKING:
    from mindfl.lite.model import Node
    from mindfl.lite.plan import Plan

# Typed, not literal: numba would compile a function anew for each combination of literal arguments.
_UNIT, _FRESH, _TAIL, _NO_FLOOR = np.int64(1), np.int64(ZERO), np.int64(VECTOR), np.float32(-np.inf)

#: elements of a weight that no cache of a processor holds: it is read and written in the order of memory
_LARGE = 2**18
#: terms and rows of a product with it that are handled at once
_TERMS, _ROWS = 32, 8


@operator("89 MatMulFusion transpose_a:? transpose_b:? activation:b", inputs=2)
def _matmul(plan: Plan, node: Node) -> None:
    a, b = (_as_matrix(plan, node, place) for place in (0, 1))
    if a is None or b is None or not a.batched or _are_many(plan, node):
        matrix_products(plan, node)
    elif not b.batched and not node.flag("transpose_a"):
        _dense(plan, node, a, b)
    elif b.batched and node.flag("transpose_a") and not node.flag("transpose_b"):
        _outer(plan, node, a, b)
    else:
        matrix_products(plan, node)


def _as_matrix(plan: Plan, node: Node, place: int) -> Value | None:
    """Return an operand as a matrix, its samples as rows if it carries the batch; None if it has more axes."""
    value = plan.value(node.inputs[place])
    one_axis = len(core(value.dims[1:])) <= 1
    dims = matrix(value.dims) if not value.batched else (plan.batch, value.size) if one_axis else None
    return None if dims is None else replace(value, dims=dims)


def _are_many(plan: Plan, node: Node) -> bool:
    """Return whether an operand holds several matrices by the shapes of the file, where dimensions of 1 count."""
    a, b = (plan.tensor(index).dims for index in node.inputs[:2])
    first, second = (
        [*dims[:-2], *dims[-2:][::-1]] if node.flag(flag) else [*dims]
        for dims, flag in ((a, "transpose_a"), (b, "transpose_b"))
    )
    outer = broadcast(tuple(first[:-2]), tuple(second[:-2]))
    if outer is None or min(len(a), len(b)) < 2 or first[-1] != second[-2]:
        return False
    alone = math.prod(second[:-2]) == 1 == math.prod(a[:-2] if node.flag("transpose_a") else a[1:-1])
    described = plan.tensor(plan.graph.fusion(node).output).dims
    return not alone and alike((*outer, first[-2], second[-1]), described)


def _dense(plan: Plan, node: Node, x: Value, weight: Value) -> None:
    fusion = plan.graph.fusion(node)
    rows_first = node.flag("transpose_b")
    rows, columns = weight.dims if rows_first else weight.dims[::-1]
    need(x.dims[1] == columns, node, f"shapes {x.dims} and {weight.dims}")
    y = plan.keep(fusion.output, plan.new_batch((plan.batch, rows)))
    plan.mark_fused(node, fusion.output)
    plain = fusion.bias is None and not fusion.relu
    if plain and not rows_first and rows % VECTOR == 0 and weight.size >= _LARGE:
        _dense_by_rows(plan, x, weight, y)
        return
    plan.builder.emit(
        "DENSE",
        x=x.offset,
        weight=weight.offset,
        y=y.offset,
        start=plan.first_sum(node, fusion, rows),
        relu=fusion.relu,
        row_step=columns if rows_first else 1,
        column_step=1 if rows_first else rows,
        x_table=plan.builder.entries(column * plan.lanes for column in range(columns)),
        rows=rows,
        columns=columns,
        lanes=plan.lanes,
        filled=plan.filled,
    )
    cut_off(plan, fusion, y.offset, rows * plan.lanes)


def _dense_by_rows(plan: Plan, x: Value, weight: Value, y: Value) -> None:
    """Read the weight row by row, in the order in which it lies in memory."""
    columns, rows = weight.dims
    scratch = plan.builder.allocate(plan.batch * rows)
    lines = [column * rows for column in range(columns)]
    size = (plan.batch, rows)
    row_product(
        plan, (x.offset, 1, plan.lanes), weight.offset, lines, (scratch, rows), size, block=_TERMS, row_block=plan.batch
    )
    turn(plan, scratch, y.offset, size, rows, plan.lanes)


def _outer(plan: Plan, node: Node, a: Value, b: Value) -> None:
    need(node.integer("activation") == NO_ACTIVATION and len(node.inputs) == 2, node, "a fused bias or activation")
    rows, columns = a.dims[1], b.dims[1]
    b_lanes = -(-columns // VECTOR) * VECTOR
    builder = plan.builder

    def transposed() -> int:
        place = builder.allocate(plan.batch * b_lanes)
        builder.emit(
            "TRANSPOSE", x=b.offset, y=place, rows=columns, columns=plan.batch, x_lanes=plan.lanes, y_lanes=b_lanes
        )
        return place

    y = plan.keep(node.outputs[0], plan.new_parameter((rows, columns)))
    if rows * columns >= _LARGE:
        lines, place = [n * b_lanes for n in range(plan.batch)], plan.once(("transposed", node.inputs[1]), transposed)
        # So many rows at a time are written from end to end.
        left, right = (a.offset, plan.lanes, 1), (y.offset, columns)
        row_product(plan, left, place, lines, right, (rows, columns), block=plan.batch, row_block=_ROWS)
        return
    builder.emit(
        "OUTER",
        a=a.offset,
        b=plan.once(("transposed", node.inputs[1]), transposed),
        y=y.offset,
        tail=plan.once(("tail", rows), lambda: builder.allocate(rows * VECTOR)),
        b_table=builder.entries(n * b_lanes for n in range(plan.batch)),
        rows=rows,
        columns=columns,
        batch=plan.batch,
        a_lanes=plan.lanes,
    )


@operator("23 BiasAdd format:i", inputs=2)
def _bias_add(plan: Plan, node: Node) -> None:
    x, bias = plan.value(node.inputs[0]), plan.fixed(node, 1)
    channels = bias.size
    need(_ends_with(x, channels), node, f"a bias of {channels} for shape {x.dims}")
    if not x.batched:
        rows = (x.size // channels, channels)
        y = plan.keep(node.outputs[0], plan.new_parameter(x.dims))
        pairwise(plan, "SUM_OF", replace(x, dims=rows), replace(bias, dims=(channels,)), replace(y, dims=rows))
        return
    y = plan.keep(node.outputs[0], plan.new_batch(x.dims))
    plan.builder.emit(
        "BIAS", x=x.offset, bias=bias.offset, y=y.offset, rows=x.size, channels=channels, lanes=plan.lanes
    )


def _ends_with(x: Value, channels: int) -> bool:
    """Return whether the last axis of samples has this size, also where axes of 1 follow it."""
    return len(x.dims) > 1 and channels in (x.dims[-1], last_axis(x.dims[1:]))


@operator("26 BiasAddGrad")
def _bias_add_grad(plan: Plan, node: Node) -> None:
    dy = plan.value(node.inputs[0])
    channels = plan.tensor(node.outputs[0]).size
    need(_ends_with(dy, channels), node, f"a sum of {channels} for shape {dy.dims}")
    if not dy.batched:
        sum_of_rows(plan, node, dy, channels)
        return
    y = plan.keep(node.outputs[0], plan.new_parameter((channels,)))
    plan.builder.emit(
        "BIAS_GRAD",
        dy=dy.offset,
        y=y.offset,
        rows=dy.size,
        channels=channels,
        lanes=plan.lanes,
        batch=plan.batch,
    )


@instruction("DENSE", "x weight y start relu row_step column_step x_table rows columns lanes filled")
def dense_kernel(arena: Any, table: Any, i: Any) -> None:
    """y[row] = relu?(sum over columns of weight[row, column] * x[column] + bias[row])."""
    x, weight, y, start, relu, row_step, column_step = i[1], i[2], i[3], i[4], i[5], i[6], i[7]
    x_table, rows, columns, lanes, filled = i[8], i[9], i[10], i[11], i[12]
    product(
        arena, table, weight, row_step, column_step, x, x_table, columns, y, lanes, rows, filled, start, floor(relu)
    )  # fmt: skip


@instruction("TRANSPOSE", "x y rows columns x_lanes y_lanes")
def transpose_kernel(arena: Any, table: Any, i: Any) -> None:
    """y[column, row] = x[row, column], rows padded with zeros up to ``y_lanes``."""
    x, y, rows, columns, x_lanes, y_lanes = i[1], i[2], i[3], i[4], i[5], i[6]
    for column in range(columns):
        target = y + column * y_lanes
        for row in range(rows):
            arena[target + row] = arena[x + row * x_lanes + column]
        for row in range(rows, y_lanes):
            arena[target + row] = 0.0


@instruction("OUTER", "a b y tail b_table rows columns batch a_lanes")
def outer_kernel(arena: Any, table: Any, i: Any) -> None:
    """y[row, column] = sum over the batch of a[row, n] * b[n, column]; the last, partial vector passes ``tail``."""
    a, b, y, tail, b_table, rows, columns, batch, a_lanes = i[1], i[2], i[3], i[4], i[5], i[6], i[7], i[8], i[9]
    whole = columns - columns % VECTOR
    product(arena, table, a, a_lanes, _UNIT, b, b_table, batch, y, columns, rows, whole, _FRESH, _NO_FLOOR)
    rest = columns - whole
    if rest:
        product(
            arena, table, a, a_lanes, _UNIT, b + whole, b_table, batch, tail, _TAIL, rows, _TAIL, _FRESH, _NO_FLOOR
        )  # fmt: skip
        for row in range(rows):
            for column in range(rest):
                arena[y + row * columns + whole + column] = arena[tail + row * VECTOR + column]


@instruction("BIAS", "x bias y rows channels lanes")
def bias_kernel(arena: Any, table: Any, i: Any) -> None:
    """y = x + bias, one bias for each of the last ``channels`` rows in turn."""
    x, bias, y, rows, channels, lanes = i[1], i[2], i[3], i[4], i[5], i[6]
    for row in range(rows):
        addend = arena[bias + row % channels]
        for lane in range(lanes):
            arena[y + row * lanes + lane] = arena[x + row * lanes + lane] + addend


@instruction("BIAS_GRAD", "dy y rows channels lanes batch")
def bias_grad_kernel(arena: Any, table: Any, i: Any) -> None:
    """y[channel] = sum of dy over positions and the true samples of the batch."""
    dy, y, rows, channels, lanes, batch = i[1], i[2], i[3], i[4], i[5], i[6]
    for channel in range(channels):
        total = np.float32(0.0)
        for row in range(channel, rows, channels):
            for lane in range(batch):
                total += arena[dy + row * lanes + lane]
        arena[y + channel] = total
