"""Operators that copy elements to other places: slices, joins, repetitions, padding, transposes of any axes.

They read a tensor in either layout. The result is batch-last if the batch remains the first axis, else plain. What no
instruction writes keeps its first value: zero, or a literal.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import numpy as np

from mindfl.lite.ops.registry import OWN, instruction, need, operator
from mindfl.lite.program import Dims, Value, alike, padded, steps
from mindfl.lite.strides import at_least, merged

if TYPE_CHECKING:
    from mindfl.lite.model import Node
    from mindfl.lite.plan import Plan

MASKS = "begin_mask:q end_mask:q ellipsis_mask:q new_axis_mask:q shrink_axis_mask:q"
#: rows and columns that are transposed together: one cache line each
_BLOCK = 16
_MOST_AXES = 16
_CONSTANT = 0


@dataclass(frozen=True)
class View:
    """An array in the arena: place of its first element, shape, and the step along each axis, in elements."""

    offset: int
    dims: Dims
    apart: Dims
    batched: bool = False

    @classmethod
    def of(cls, plan: Plan, value: Value, rank: int | None = None) -> View:
        """Return a value as an array of ``rank`` dimensions, leading ones of 1 added or removed."""
        inner = steps(value.dims[1:], value.dims[1:])
        own = (1, *(step * plan.lanes for step in inner)) if value.batched else steps(value.dims, value.dims)
        rank = len(own) if rank is None else rank
        missing, start = rank - len(own), max(len(own) - rank, 0)
        return cls(value.offset, padded(value.dims[start:], rank), (0,) * missing + own[start:], value.batched)

    @property
    def batch_first(self) -> bool:
        """Whether the array is batch-last in memory, and the batch its first axis."""
        return self.batched and self.dims[:1] != (1,) and self.apart[0] == 1

    def part(self, axis: int, first: int, count: int, step: int = 1) -> View:
        """Return ``count`` elements along an axis, from ``first`` on."""
        dims, apart = list(self.dims), list(self.apart)
        offset = self.offset + first * apart[axis]
        dims[axis], apart[axis] = count, apart[axis] * step
        return replace(self, offset=offset, dims=tuple(dims), apart=tuple(apart))

    def ordered(self, order: Sequence[int]) -> View:
        """Return the array with its axes in another order."""
        dims, apart = (tuple(own[axis] for axis in order) for own in (self.dims, self.apart))
        return replace(self, dims=dims, apart=apart)

    def without(self, axis: int) -> View:
        """Return the array without an axis of one element."""
        dims, apart = (own[:axis] + own[axis + 1 :] for own in (self.dims, self.apart))
        return replace(self, dims=dims, apart=apart)

    def spread(self, axis: int, times: int, step: int = 0) -> View:
        """Return the array with a new axis, along which it is repeated unless there is a step."""
        dims, apart = (*self.dims[:axis], times, *self.dims[axis:]), (*self.apart[:axis], step, *self.apart[axis:])
        return replace(self, dims=dims, apart=apart)


def view(plan: Plan, node: Node, place: int) -> View:
    """Return an input of a node in the shape of the file, in whichever layout it lies."""
    tensor = node.inputs[place]
    return View.of(plan, plan.value(tensor), len(plan.tensor(tensor).dims))


def result(plan: Plan, node: Node, dims: Dims, *, batch_last: bool, place: int = 0) -> View:
    """Return an output of a node as a new array of this shape, stored batch-last or plain."""
    value = plan.new_batch(dims) if batch_last and dims[:1] == (plan.batch,) else plan.new_parameter(dims)
    plan.keep(node.outputs[place], value)
    return View.of(plan, value)


def move(plan: Plan, source: View, target: View) -> None:
    """Emit the copy of an array to another place, of the same shape."""
    axes = at_least(merged(zip(source.dims, source.apart, target.apart, strict=True)), 1, 2)
    column = next((axis for axis in reversed(axes) if axis[2] == 1), axes[-1])
    rest = [axis for axis in axes if axis is not column]
    row = next((axis for axis in rest if column[1] != 1 and axis[1] == 1), rest[-1] if rest else (1, 0, 0))
    rest = [axis for axis in rest if axis is not row]
    plan.builder.emit(
        "MOVE",
        x=source.offset,
        y=target.offset,
        outer_table=plan.builder.entries(number for axis in rest for number in axis),
        outer=len(rest),
        rows=row[0],
        columns=column[0],
        x_row=row[1],
        x_column=column[1],
        y_row=row[2],
        y_column=column[2],
    )


def filled(plan: Plan, node: Node, dims: Dims, number: float, *, batch_last: bool) -> View:
    """Return an output of a node whose elements are ``number`` until an instruction writes them."""
    y = result(plan, node, dims, batch_last=batch_last)
    size = math.prod(dims) // (plan.batch if y.batched else 1) * (plan.lanes if y.batched else 1)
    plan.builder.keep(y.offset)
    if number:
        plan.literals[y.offset] = np.broadcast_to(np.float32(number), size)
    if OWN:  # an operator of a user may write to it
        move(plan, View(plan.literal(number), (size,), (0,)), View(y.offset, (size,), (1,)))
    return y


def _axis(node: Node, axis: int, rank: int) -> int:
    need(-rank <= axis < rank, node, f"axis {axis} of {rank} dimensions")
    return axis % rank


def transpose(plan: Plan, node: Node) -> None:
    """y = x with its axes in another order, the batch among them."""
    x, order = view(plan, node, 0), plan.integers(node.inputs[1])
    need(sorted(order) == list(range(len(x.dims))), node, f"order {order[:8]} of shape {x.dims}")
    y = x.ordered(order)
    move(plan, y, result(plan, node, y.dims, batch_last=y.batch_first))


@operator("31 Concat axis:q")
def _concat(plan: Plan, node: Node) -> None:
    parts = [view(plan, node, place) for place in range(len(node.inputs))]
    first = parts[0]
    axis = _axis(node, node.integer("axis"), len(first.dims))
    others = [[*part.dims[:axis], *part.dims[axis + 1 :]] for part in parts]
    right = all(len(part.dims) == len(first.dims) for part in parts) and all(other == others[0] for other in others)
    need(right, node, f"parts of shapes {first.dims} and {parts[-1].dims}")
    sizes = [part.dims[axis] for part in parts]
    dims = (*first.dims[:axis], sum(sizes), *first.dims[axis + 1 :])
    y = result(plan, node, dims, batch_last=axis > 0 and all(part.batch_first for part in parts))
    for part, start in zip(parts, accumulate(sizes, initial=0), strict=False):
        move(plan, part, y.part(axis, start, part.dims[axis]))


@operator("145 Split output_num:q size_splits:q[] axis:q")
def _split(plan: Plan, node: Node) -> None:
    x, count = view(plan, node, 0), len(node.outputs)
    axis = _axis(node, node.integer("axis"), len(x.dims))
    whole = x.dims[axis]
    sizes = list(node.integers("size_splits") or [whole // count] * count)
    if sizes.count(-1) == 1:
        sizes[sizes.index(-1)] = whole - sum(sizes) - 1
    need(len(sizes) == count and min(sizes) > 0 and sum(sizes) == whole, node, f"parts {sizes[:8]} of shape {x.dims}")
    for place, (size, start) in enumerate(zip(sizes, accumulate(sizes, initial=0), strict=False)):
        part = x.part(axis, start, size)
        move(plan, part, result(plan, node, part.dims, batch_last=axis > 0 and x.batch_first, place=place))


@operator("150 Stack axis:q")
def _stack(plan: Plan, node: Node) -> None:
    parts = [view(plan, node, place) for place in range(len(node.inputs))]
    first = parts[0].dims
    need(all(part.dims == first for part in parts), node, f"parts of shapes {first} and {parts[-1].dims}")
    axis = _axis(node, node.integer("axis"), len(first) + 1)
    dims = (*first[:axis], len(parts), *first[axis:])
    y = result(plan, node, dims, batch_last=axis > 0 and all(part.batch_first for part in parts))
    for place, part in enumerate(parts):
        move(plan, part, y.part(axis, place, 1).without(axis))


@operator("166 Unstack axis:q")
def _unstack(plan: Plan, node: Node) -> None:
    x = view(plan, node, 0)
    axis = _axis(node, node.integer("axis"), len(x.dims))
    need(x.dims[axis] == len(node.outputs), node, f"{len(node.outputs)} outputs of shape {x.dims}")
    for place in range(len(node.outputs)):
        part = x.part(axis, place, 1).without(axis)
        move(plan, part, result(plan, node, part.dims, batch_last=axis > 0 and x.batch_first, place=place))


@operator(f"151 StridedSlice {MASKS}", inputs=4)
def _strided_slice(plan: Plan, node: Node) -> None:
    need(len(node.inputs) == 4, node, f"{len(node.inputs)} inputs")
    x = view(plan, node, 0)
    part, dims = _sliced(plan, node, x, 1)
    move(plan, part, _shaped_as(part, result(plan, node, dims, batch_last=_same_batch(x, part))))


@operator(f"179 StridedSliceGrad {MASKS}", inputs=5)
def _strided_slice_grad(plan: Plan, node: Node) -> None:
    """dx = dy where the slice was taken, else 0."""
    dy, whole = view(plan, node, 0), plan.tensor(node.outputs[0]).dims
    need(plan.integers(node.inputs[1]) == whole, node, "another shape than that of its result")
    zero = View(0, whole, (0,) * len(whole))
    part, dims = _sliced(plan, node, zero, 2)
    need(alike(dy.dims, dims), node, f"a gradient of shape {dy.dims} for a slice of shape {dims}")
    batch_last = dy.batch_first and part.dims[:1] == whole[:1]
    dx = filled(plan, node, whole, 0.0, batch_last=batch_last)
    target, _ = _sliced(plan, node, dx, 2)
    move(plan, _shaped_as(target, dy), target)


def _same_batch(x: View, part: View) -> bool:
    return x.batch_first and part.batch_first and part.dims[0] == x.dims[0]


def _shaped_as(part: View, other: View) -> View:
    """Return ``other``, which may lack axes of one element or have more of them, with the axes of ``part``."""
    left = [step for dim, step in zip(other.dims, other.apart, strict=True) if dim != 1]
    apart = tuple(left.pop(0) if dim != 1 else 0 for dim in part.dims)
    return replace(other, dims=part.dims, apart=apart)


def _sliced(plan: Plan, node: Node, x: View, place: int) -> tuple[View, Dims]:
    """Return the part of an array that begin, end and strides (inputs from ``place`` on) name, and its final shape.

    The part has the array's axes; in the shape axes are dropped and added as the masks say.
    """
    begins, ends, strides = (plan.integers(node.inputs[place + number]) for number in range(3))
    count = len(begins)
    need(len(ends) == len(strides) == count, node, f"{count} begins, {len(ends)} ends and {len(strides)} strides")
    begin_mask, end_mask, ellipsis, new, shrink = (node.integer(name.split(":")[0]) for name in MASKS.split())
    need(count <= _MOST_AXES and ellipsis.bit_count() <= 1, node, f"{count} slices, or several ellipses")
    taken = sum(not (ellipsis | new) >> number & 1 for number in range(count))
    need(taken <= len(x.dims), node, f"{taken} slices of shape {x.dims}")
    dims: list[int] = []
    axis = 0
    for number, (begin, end, stride) in enumerate(zip(begins, ends, strides, strict=True)):
        bit = 1 << number
        if ellipsis & bit:
            skipped = len(x.dims) - taken
            dims += x.dims[axis : axis + skipped]
            axis += skipped
        elif new & bit:
            dims.append(1)
        else:
            size = x.dims[axis]
            if shrink & bit:
                need(-size <= begin < size, node, f"element {begin} of {size}")
                x = x.part(axis, begin % size, 1)
            else:
                need(stride != 0, node, "a stride of 0")
                chosen = slice(None if begin_mask & bit else begin, None if end_mask & bit else end, stride)
                found = range(*chosen.indices(size))
                need(len(found) > 0, node, f"an empty slice {begin}:{end}:{stride} of {size}")
                x = x.part(axis, found.start, len(found), stride)
                dims.append(len(found))
            axis += 1
    return x, (*dims, *x.dims[axis:])


@operator("135 SliceFusion axes:q[]", inputs=3)
def _slice(plan: Plan, node: Node) -> None:
    x, begins, sizes = view(plan, node, 0), plan.integers(node.inputs[1]), plan.integers(node.inputs[2])
    axes = node.integers("axes") or tuple(range(len(begins)))
    need(len(axes) == len(begins) == len(sizes), node, f"{len(axes)} axes, {len(begins)} begins, {len(sizes)} sizes")
    part = x
    for each, begin, size in zip(axes, begins, sizes, strict=True):
        axis = _axis(node, each, len(x.dims))
        count = x.dims[axis] - begin if size == -1 else size
        right = begin >= 0 and 0 < count <= x.dims[axis] - begin
        need(right, node, f"a slice of {size} from {begin} on of {x.dims[axis]}")
        part = part.part(axis, begin, count)
    move(plan, part, result(plan, node, part.dims, batch_last=_same_batch(x, part)))


@operator("160 TileFusion dims:q[]")
def _tile(plan: Plan, node: Node) -> None:
    """Repeat a tensor along its axes."""
    x = view(plan, node, 0)
    times = plan.integers(node.inputs[1]) if len(node.inputs) > 1 else node.integers("dims")
    rank = max(len(times), len(x.dims))
    own, times = View.of(plan, plan.value(node.inputs[0]), rank), padded(times, rank)
    need(min(times, default=1) >= 1 and rank <= _MOST_AXES, node, f"{times[:8]} times")
    dims = tuple(dim * count for dim, count in zip(own.dims, times, strict=True))
    y = result(plan, node, dims, batch_last=own.batch_first and times[0] == 1)
    for axis in reversed(range(rank)):
        dim, count, step = own.dims[axis], times[axis], y.apart[axis]
        own = own.spread(axis, count)
        y = y.part(axis, 0, dim).spread(axis, count, dim * step)
    move(plan, own, y)


@operator("27 BroadcastTo shape:q[]")
def _broadcast_to(plan: Plan, node: Node) -> None:
    dims = plan.tensor(node.outputs[0]).dims
    value = plan.value(node.inputs[0])
    need(len(value.dims) <= len(dims), node, f"shapes {value.dims} and {dims}")
    x = View.of(plan, value, len(dims))
    need(all(a in (1, b) for a, b in zip(x.dims, dims, strict=True)), node, f"shapes {x.dims} and {dims}")
    apart = tuple(step if dim != 1 else 0 for dim, step in zip(x.dims, x.apart, strict=True))
    move(plan, replace(x, dims=dims, apart=apart), result(plan, node, dims, batch_last=x.batch_first))


@operator("107 PadFusion paddings:* padding_mode:b constant_value:f", inputs=2)
def _pad(plan: Plan, node: Node) -> None:
    need(node.integer("padding_mode") == _CONSTANT, node, "a padding that mirrors")
    x, pads = view(plan, node, 0), plan.integers(node.inputs[1])
    need(len(pads) == 2 * len(x.dims) and min(pads, default=0) >= 0, node, f"padding {pads[:8]} of shape {x.dims}")
    before, after = pads[::2], pads[1::2]
    dims = tuple(map(sum, zip(x.dims, before, after, strict=True)))
    same_batch = x.batch_first and dims[:1] == x.dims[:1]
    y = filled(plan, node, dims, node.real("constant_value"), batch_last=same_batch)
    for axis, first in enumerate(before):
        y = y.part(axis, first, x.dims[axis])
    move(plan, x, y)


@operator("66 Fill", inputs=2)
def _fill(plan: Plan, node: Node) -> None:
    number = plan.value(node.inputs[0])
    need(number.size == 1 and not number.batched, node, f"a value of shape {number.dims}")
    dims = plan.tensor(node.outputs[0]).dims
    move(plan, View(number.offset, dims, (0,) * len(dims)), result(plan, node, dims, batch_last=False))


@operator("130 Shape")
def _shape(plan: Plan, node: Node) -> None:
    dims = plan.tensor(node.inputs[0]).dims
    y = plan.keep(node.outputs[0], plan.new_parameter((len(dims),)))
    plan.literals[y.offset] = np.array(dims, np.float32)


@instruction("MOVE", "x y outer_table outer rows columns x_row x_column y_row y_column")
def move_kernel(arena: Any, table: Any, i: Any) -> None:
    """y = x for arrays of any steps: rows and columns here, the ``outer`` axes as (elements, x step, y step)."""
    outer_table, outer, rows, columns = i[3], i[4], i[5], i[6]
    x_row, x_column, y_row, y_column = i[7], i[8], i[9], i[10]
    count = 1
    for axis in range(outer):
        count *= table[outer_table + 3 * axis]
    for number in range(count):
        x, y, rest = i[1], i[2], number
        for back in range(outer):
            axis = outer_table + 3 * (outer - 1 - back)
            digit = rest % table[axis]
            rest //= table[axis]
            x += digit * table[axis + 1]
            y += digit * table[axis + 2]
        if x_column == 1 and y_column == 1:
            for row in range(rows):
                source, target = arena[x + row * x_row :][:columns], arena[y + row * y_row :][:columns]
                for column in range(columns):
                    target[column] = source[column]
            continue
        for first in range(0, rows, _BLOCK):
            for start in range(0, columns, _BLOCK):
                for column in range(start, min(start + _BLOCK, columns)):
                    for row in range(first, min(first + _BLOCK, rows)):
                        arena[y + row * y_row + column * y_column] = arena[x + row * x_row + column * x_column]
