"""New shapes, transposes and copies: operators that compute nothing."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from mindfl.lite.ops.registry import instruction, need, operator
from mindfl.lite.ops.slices import transpose
from mindfl.lite.program import Value, batch_first, positions

if TYPE_CHECKING:
    from mindfl.lite.model import Node
    from mindfl.lite.plan import Plan

_ZERO = np.float32(0.0)


@operator("44 Depend", "56 ExpandDims", "61 Flatten axis:q=1", "62 FlattenGrad", "119 Reshape")
@operator("147 Squeeze axis:q[]", "165 Unsqueeze axis:q[]")
def same_order(plan: Plan, node: Node) -> None:
    """A new shape without reordering elements: no instruction, but for a batch that is no longer an axis."""
    x = plan.value(node.inputs[0])
    dims = plan.tensor(node.outputs[0]).dims
    need(math.prod(dims) == math.prod(x.dims), node, f"shapes {x.dims} and {dims}")
    carried = batch_first(dims, plan.batch) if x.batched else dims
    if carried is None:
        x, carried = plan.plain(node, 0), dims
    plan.keep(node.outputs[0], Value(x.offset, carried, x.batched))


@operator("162 Transpose", inputs=2)
def _transpose(plan: Plan, node: Node) -> None:
    """Axes in another order. A single number has none, whatever the order is: the converter turns gradients of scalars
    as if they were images, and MindSpore Lite's kernel copies them (transpose_fp32.cc)."""
    x = plan.value(node.inputs[0])
    order = plan.integers(node.inputs[1])
    if not plan.tensor(node.inputs[0]).dims:
        same_order(plan, node)
        return
    if not x.batched or order[:1] != (0,) or sorted(order) != list(range(len(x.dims))):
        transpose(plan, node)
        return
    dims = tuple(x.dims[axis] for axis in order)
    y = plan.keep(node.outputs[0], plan.new_batch(dims))
    apart = [math.prod(x.dims[axis + 1 :]) for axis in order[1:]]
    plan.gather(x.offset, y.offset, positions(dims[1:], apart))


@operator("14 Assign", inputs=2, outputs=0)
def _assign(plan: Plan, node: Node) -> None:
    variable, value = plan.fixed(node, 0), plan.fixed(node, 1)
    need(variable.size == value.size and node.inputs[0] in plan.graph.constants, node, "an unequal or computed target")
    plan.builder.emit("COPY", x=value.offset, y=variable.offset, size=variable.size)


@instruction("GATHER", "x y rows rows_table lanes")
def gather_kernel(arena: Any, table: Any, i: Any) -> None:
    """y[row] = x[table[row]], or zeros if the table holds -1: transposes, and padding on and off."""
    x, y, rows, rows_table, lanes = i[1], i[2], i[3], i[4], i[5]
    for row in range(rows):
        source = table[rows_table + row]
        target = arena[y + row * lanes :][:lanes]
        if source < 0:
            target[:] = _ZERO
        else:
            found = arena[x + source * lanes :][:lanes]
            for lane in range(lanes):
                target[lane] = found[lane]


@instruction("COPY", "x y size")
def copy_kernel(arena: Any, table: Any, i: Any) -> None:
    """y = x."""
    x, y, size = i[1], i[2], i[3]
    for n in range(size):
        arena[y + n] = arena[x + n]
