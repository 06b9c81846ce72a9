"""Borders of zeros around an image, and images cut out of larger ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from mindfl.lite.ops.registry import instruction

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mindfl.lite.ops.windows import Geometry
    from mindfl.lite.plan import Plan

#: a part of an image: its place, its first row and how many rows it has
Block = tuple[int, int, int]

_ZERO = np.float32(0.0)


def bordered(plan: Plan, tensor: int, x: int, geometry: Geometry) -> int:
    """Return the place of a convolution's input, which lies at ``x``, with its border.

    It is copied once for all nodes that share it.
    """
    if not geometry.padded:
        return x

    def copied() -> int:
        place = plan.builder.allocate_batch(geometry.height * geometry.width * geometry.channels)
        move_image(
            plan, x, geometry.inner, place, (geometry.height, geometry.width), geometry.corner, geometry.channels
        )
        return place

    return plan.once(("border", tensor, *geometry.corner, geometry.height, geometry.width), copied)


def bordered_blocks(plan: Plan, blocks: Iterable[Block], geometry: Geometry) -> int:
    """Return the place of a convolution's input with its border, put together from blocks of its rows."""
    (inner_height, inner_width), height, width = geometry.inner, geometry.height, geometry.width
    place = -1
    for x, row, rows in blocks:
        if rows == inner_height and not geometry.padded:
            return x
        if row == 0:
            place = plan.builder.allocate(height * width * geometry.channels * plan.lanes)
        first = max(geometry.top + row, 0) if row > 0 else 0
        end = min(geometry.top + row + rows, height) if row + rows < inner_height else height
        if first < end:
            y = place + geometry.pixel(first, 0) * plan.lanes
            corner = (geometry.top + row - first, geometry.left)
            move_image(plan, x, (rows, inner_width), y, (end - first, width), corner, geometry.channels)
    return place


def move_image(
    plan: Plan, x: int, size: tuple[int, int], y: int, out: tuple[int, int], corner: tuple[int, int], channels: int
) -> None:
    """Emit the copy of an image at ``x`` to position ``corner`` of one at ``y``, with zeros around it.

    What lies outside the image at ``y``, as with a negative corner, is cut off.
    """
    plan.builder.emit(
        "BORDER",
        x=x,
        y=y,
        inner_height=size[0],
        inner_width=size[1],
        height=out[0],
        width=out[1],
        top=corner[0],
        left=corner[1],
        run=channels * plan.lanes,
    )


@instruction("BORDER", "x y inner_height inner_width height width top left run")
def border_kernel(arena: Any, table: Any, i: Any) -> None:
    """y[row, column] = x[row - top, column - left], or zeros outside the image x; ``run`` floats a pixel."""
    x, y, inner_height, inner_width, height, width, top, left, run = (
        i[1],
        i[2],
        i[3],
        i[4],
        i[5],
        i[6],
        i[7],
        i[8],
        i[9],
    )
    first = min(max(left, 0), width)
    last = max(min(left + inner_width, width), first)
    for row in range(height):
        target = y + row * width * run
        if row < top or row >= top + inner_height or first == last:
            arena[target : target + width * run] = _ZERO
        else:
            source = x + ((row - top) * inner_width + first - left) * run
            arena[target : target + first * run] = _ZERO
            arena[target + first * run : target + last * run] = arena[source : source + (last - first) * run]
            arena[target + last * run : target + width * run] = _ZERO
