"""Dropout whose mask is a function of a key, the step, the node and the element: drawn anew, and the same each time.

No generator has a state that a resumed run would have to restore, and the order in which threads work does not matter.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from mindfl.lite.ops.registry import helper, instruction, need, operator

if TYPE_CHECKING:
    from mindfl.lite.model import Node
    from mindfl.lite.plan import Plan

#: entries of the table that the session fills: the two halves of the key, and the number of steps before
DRAWS = 3
_ONE, _ZERO = np.float32(1.0), np.float32(0.0)
# The constants of SplitMix64 (Steele, Lea and Flood 2014): an odd distance of its states, and its output function.
_APART, _FIRST, _SECOND = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_S27, _S30, _S31, _S32 = np.uint64(27), np.uint64(30), np.uint64(31), np.uint64(32)


@operator("49 Dropout keep_prob:f=0.5", outputs=2)
def _dropout(plan: Plan, node: Node) -> None:
    """y = x * mask / keep_prob in training, x else; the mask is the second output."""
    x = plan.value(node.inputs[0])
    keep = node.real("keep_prob")
    need(0 < keep <= 1, node, f"keep_prob {keep}")
    if not plan.training:
        plan.keep(node.outputs[0], x)
        return
    new = plan.new_batch if x.batched else plan.new_parameter
    y, mask = new(x.dims), new(x.dims)
    plan.keep(node.outputs[0], y)
    plan.keep(node.outputs[1], mask)
    rows, lanes, row_step, lane_step = (x.size, plan.lanes, 1, x.size) if x.batched else (1, x.size, 0, 1)
    plan.builder.emit(
        "DROPOUT",
        x=x.offset,
        y=y.offset,
        mask=mask.offset,
        scale=plan.literal(1 / keep),
        kept=round(keep * 2**32),
        node=node.index,
        draws_table=plan.draws(),
        rows=rows,
        lanes=lanes,
        row_step=row_step,
        lane_step=lane_step,
    )


@operator("50 DropoutGrad keep_prob:f", inputs=2)
def _dropout_grad(plan: Plan, node: Node) -> None:
    """dx = dy * mask / keep_prob."""
    dy, keep = plan.value(node.inputs[0]), node.real("keep_prob")
    need(0 < keep <= 1, node, f"keep_prob {keep}")
    mask = plan.batched(node, 1) if dy.batched else plan.plain(node, 1)
    need(mask.size == dy.size, node, f"a mask of shape {mask.dims} for shape {dy.dims}")
    dx = plan.keep(node.outputs[0], (plan.new_batch if dy.batched else plan.new_parameter)(dy.dims))
    plan.builder.emit(
        "DROPOUT_GRAD",
        dy=dy.offset,
        mask=mask.offset,
        dx=dx.offset,
        scale=plan.literal(1 / keep),
        size=dy.size * (plan.lanes if dy.batched else 1),
    )


@helper
def mixed(state: Any) -> Any:
    """SplitMix64's output of a state."""
    z = (state ^ (state >> _S30)) * _FIRST
    z = (z ^ (z >> _S27)) * _SECOND
    return z ^ (z >> _S31)


@instruction("NEXT_STEP", "draws_table")
def next_step_kernel(arena: Any, table: Any, i: Any) -> None:
    """Count the steps since the key was set."""
    table[i[1] + 2] += 1


@instruction("DROPOUT", "x y mask scale kept node draws_table rows lanes row_step lane_step")
def dropout_kernel(arena: Any, table: Any, i: Any) -> None:
    """mask = 1 with the chance kept / 2**32, else 0; y = x * mask * scale.

    An element's number, ``row * row_step + lane * lane_step``, is that of its place in the file's order.
    """
    x, y, mask, scale, kept, node, draws = i[1], i[2], i[3], arena[i[4]], np.uint64(i[5]), np.uint64(i[6]), i[7]
    rows, lanes, row_step, lane_step = i[8], i[9], i[10], i[11]
    key = (np.uint64(np.uint32(table[draws + 1])) << _S32) | np.uint64(np.uint32(table[draws]))
    start = mixed(mixed(key + _APART) ^ ((np.uint64(np.uint32(table[draws + 2])) << _S32) | node))
    for row in range(rows):
        source, target = arena[x + row * lanes :][:lanes], arena[y + row * lanes :][:lanes]
        flags = arena[mask + row * lanes :][:lanes]
        for lane in range(lanes):
            number = np.uint64(row * row_step + lane * lane_step)
            flags[lane] = _ONE if mixed(start + number * _APART) >> _S32 < kept else _ZERO
        for lane in range(lanes):
            target[lane] = source[lane] * flags[lane] * scale


@instruction("DROPOUT_GRAD", "dy mask dx scale size")
def dropout_grad_kernel(arena: Any, table: Any, i: Any) -> None:
    """dx = dy * mask * scale."""
    dy, mask, dx, scale, size = i[1], i[2], i[3], arena[i[4]], i[5]
    slope, flags, target = arena[dy : dy + size], arena[mask : mask + size], arena[dx : dx + size]
    for n in range(size):
        target[n] = slope[n] * flags[n] * scale
