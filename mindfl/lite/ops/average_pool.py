"""Average pooling and its gradient: positions outside the image do not count."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from mindfl.lite.ops.pool import POOL_GRAD_ROW, POOL_ROW, Windows, inside, pool_windows
from mindfl.lite.ops.registry import instruction, operator

if TYPE_CHECKING:
    from mindfl.lite.model import Node
    from mindfl.lite.plan import Plan

_ZERO = np.float32(0.0)
_ONE = np.float32(1.0)
_WINDOWS = "height width out_height out_width kernel_height kernel_width row_stride column_stride top left run"


@operator(f"17 AvgPoolFusion {POOL_ROW}")
def _lower_average_pool(plan: Plan, node: Node) -> None:
    """y = mean over windows of x."""
    x = plan.batched(node, 0)
    y = plan.new_batch(plan.tensor(node.outputs[0]).dims)
    windows = pool_windows(plan, node, x.dims)
    plan.keep(node.outputs[0], y)
    plan.builder.emit("AVERAGE_POOL", x=x.offset, y=y.offset, **windows.operands)


@operator(f"18 AvgPoolGrad {POOL_GRAD_ROW}", inputs=3)
def _lower_average_pool_grad(plan: Plan, node: Node) -> None:
    """dx: dy in equal parts to the positions of each window. Neither x nor y is read."""
    dims, dy = plan.tensor(node.inputs[0]).dims, plan.batched(node, 2)
    windows = Windows.of(plan, node, dims, dy.dims)
    dx = plan.keep(node.outputs[0], plan.new_batch(dims))
    plan.builder.emit("AVERAGE_POOL_GRAD", dy=dy.offset, dx=dx.offset, **windows.operands)


@instruction("AVERAGE_POOL", f"x y {_WINDOWS}")
def average_pool_kernel(arena: Any, table: Any, i: Any) -> None:
    """y = mean over each window of the positions on the image."""
    x, y, height, width, out_height, out_width = i[1], i[2], i[3], i[4], i[5], i[6]
    kernel_height, kernel_width, row_stride, column_stride, top, left, run = (
        i[7],
        i[8],
        i[9],
        i[10],
        i[11],
        i[12],
        i[13],
    )
    for row in range(out_height):
        first_row, rows = inside(row * row_stride - top, kernel_height, height)
        for column in range(out_width):
            first_column, columns = inside(column * column_stride - left, kernel_width, width)
            start = y + (row * out_width + column) * run
            target = arena[start : start + run]
            target[:] = _ZERO
            for r in range(first_row, first_row + rows):
                for c in range(first_column, first_column + columns):
                    place = x + (r * width + c) * run
                    source = arena[place : place + run]
                    for n in range(run):
                        target[n] += source[n]
            share = _ONE / np.float32(rows * columns)
            for n in range(run):
                target[n] *= share


@instruction("AVERAGE_POOL_GRAD", f"dy dx {_WINDOWS}")
def average_pool_grad_kernel(arena: Any, table: Any, i: Any) -> None:
    """dx = sum of dy / positions over the windows that hold a position."""
    dy, dx, height, width, out_height, out_width = i[1], i[2], i[3], i[4], i[5], i[6]
    kernel_height, kernel_width, row_stride, column_stride, top, left, run = (
        i[7],
        i[8],
        i[9],
        i[10],
        i[11],
        i[12],
        i[13],
    )
    arena[dx : dx + height * width * run] = _ZERO
    for row in range(out_height):
        first_row, rows = inside(row * row_stride - top, kernel_height, height)
        for column in range(out_width):
            first_column, columns = inside(column * column_stride - left, kernel_width, width)
            start = dy + (row * out_width + column) * run
            source = arena[start : start + run]
            share = _ONE / np.float32(rows * columns)
            for r in range(first_row, first_row + rows):
                for c in range(first_column, first_column + columns):
                    place = dx + (r * width + c) * run
                    target = arena[place : place + run]
                    for n in range(run):
                        target[n] += source[n] * share
