"""Depthwise convolutions and their gradients: each group reads one channel.

A window is handled channel by channel, each tap with the vectors of all samples.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from mindfl.lite.kernels.primitives import (
    ACCUMULATE,
    VECTOR,
    ZERO,
    product,
    reduction,
    window_product,
    window_reduction,
)
from mindfl.lite.ops.borders import Block, bordered_blocks, move_image
from mindfl.lite.ops.registry import instruction
from mindfl.lite.ops.vector_math import floor

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mindfl.lite.ops.windows import Geometry
    from mindfl.lite.plan import Plan

#: positions of a block of a filter's gradient: enough to carry its partial sums seldom, few enough for the cache
_POSITIONS = 32

# Typed, not literal: numba would compile a function anew for each combination of literal arguments.
_UNIT, _ONTO, _NO_FLOOR = np.int64(1), np.int64(ACCUMULATE), np.float32(-np.inf)


def emit_depthwise(
    plan: Plan, geometry: Geometry, block: Block, *, x: int, weight: int, start: int, relu: bool, tap_step: int = 1
) -> None:
    """Emit the output rows of ``block`` out of the bordered input at ``x``.

    The taps of a channel's weight are ``tap_step`` apart: -1 for a window that is turned round, ``weight`` then being
    the place of its last tap.
    """
    place, row, rows = block
    plan.builder.emit(
        "DEPTHWISE",
        x=x + geometry.pixel(row * geometry.stride[0], 0) * plan.lanes,
        weight=weight,
        y=place,
        start=start,
        relu=relu,
        tap_step=tap_step,
        **_sizes(plan, geometry, rows),
    )


def emit_depthwise_input_grad(plan: Plan, geometry: Geometry, blocks: Iterable[Block], *, weight: int, dx: int) -> None:
    """Emit the gradient of the input out of the blocks of the output's gradient."""
    if geometry.stride == (1, 1) and geometry.filters == 1:
        _emit_turned(plan, geometry, blocks, weight=weight, dx=dx)
        return
    features = geometry.height * geometry.width * geometry.channels
    target = plan.builder.allocate_batch(features) if geometry.padded else dx
    for place, row, rows in blocks:
        plan.builder.emit(
            "DEPTHWISE_INPUT_GRAD",
            dy=place,
            weight=weight,
            dx=target + geometry.pixel(row * geometry.stride[0], 0) * plan.lanes,
            cleared=features * plan.lanes if row == 0 else 0,
            filters_table=plan.builder.entries(j * plan.lanes for j in range(geometry.filters)),
            **_sizes(plan, geometry, rows),
        )
    if geometry.padded:
        corner = (-geometry.top, -geometry.left)
        move_image(plan, target, (geometry.height, geometry.width), dx, geometry.inner, corner, geometry.channels)


def _emit_turned(plan: Plan, geometry: Geometry, blocks: Iterable[Block], *, weight: int, dx: int) -> None:
    """Emit dx as a convolution of dy with the window turned round: nothing is added to memory."""
    turned = geometry.turned()
    source = bordered_blocks(plan, blocks, turned)
    last = geometry.kernel[0] * geometry.kernel[1] - 1
    emit_depthwise(
        plan, turned, (dx, 0, turned.out[0]), x=source, weight=weight + last, start=ZERO, relu=False, tap_step=-1
    )


def emit_depthwise_filter_grad(plan: Plan, geometry: Geometry, blocks: Iterable[Block], *, x: int, dw: int) -> None:
    """Emit the gradient of the weight out of the bordered input at ``x`` and the blocks of the output's gradient."""
    channels, lanes = geometry.out[2], plan.lanes
    taps = [tap * lanes for tap in geometry.taps()]
    sums = plan.builder.allocate(channels * len(taps) * VECTOR)
    entries = plan.builder.entries
    chunks = range(0, lanes, VECTOR)
    most = max(1, _POSITIONS // geometry.out[1])
    for place, first_row, all_rows in blocks:
        for row in range(first_row, first_row + all_rows, most):
            rows = min(most, first_row + all_rows - row)
            windows = geometry.windows(rows)
            plan.builder.emit(
                "DEPTHWISE_FILTER_GRAD",
                dy=place + (row - first_row) * geometry.out[1] * channels * lanes,
                x=x + geometry.pixel(row * geometry.stride[0], 0) * lanes,
                dw=dw,
                sums=sums,
                first=row == 0,
                last=row + rows == geometry.out[0],
                dy_table=entries(p * channels * lanes + chunk for p in range(len(windows)) for chunk in chunks),
                x_table=entries(window * lanes + chunk for window in windows for chunk in chunks),
                taps_table=entries(taps),
                positions=len(windows) * len(chunks),
                channels=geometry.channels,
                filters=geometry.filters,
                taps=len(taps),
                lanes=lanes,
            )


def _sizes(plan: Plan, geometry: Geometry, rows: int) -> dict[str, int]:
    taps = [tap * plan.lanes for tap in geometry.taps()]
    return {
        "taps_table": plan.builder.entries(taps),
        "taps": len(taps),
        "channels": geometry.channels,
        "filters": geometry.filters,
        "height": rows,
        "width": geometry.out[1],
        "row_step": geometry.pixel(geometry.stride[0], 0) * plan.lanes,
        "column_step": geometry.pixel(0, geometry.stride[1]) * plan.lanes,
        "lanes": plan.lanes,
    }


@instruction(
    "DEPTHWISE",
    "x weight y start relu tap_step taps_table taps channels filters height width row_step column_step lanes",
)
def depthwise_kernel(arena: Any, table: Any, i: Any) -> None:
    """y = relu?(x * weight + bias): each channel of an output position is one product over the taps of its window."""
    x, weight, y, start, relu, tap_step, taps_table, taps = i[1], i[2], i[3], i[4], i[5], i[6], i[7], i[8]
    channels, filters, height, width, row_step, column_step, lanes = i[9], i[10], i[11], i[12], i[13], i[14], i[15]
    lowest = floor(relu)
    for row in range(height):
        for column in range(width):
            window = x + row * row_step + column * column_step
            out = y + (row * width + column) * channels * filters * lanes
            if filters == 1:
                window_product(
                    arena, table, window, weight, tap_step, taps_table, taps, out, channels, lanes, start, lowest
                )  # fmt: skip
                continue
            for channel in range(channels):
                first = channel * filters
                product(
                    arena, table, weight + first * taps, taps, tap_step, window + channel * lanes, taps_table, taps,
                    out + first * lanes, lanes, filters, lanes, start + first if start >= 0 else start, lowest,
                )  # fmt: skip


@instruction(
    "DEPTHWISE_INPUT_GRAD",
    "dy weight dx cleared filters_table taps_table taps channels filters height width row_step column_step lanes",
)
def depthwise_input_grad_kernel(arena: Any, table: Any, i: Any) -> None:
    """dx = scatter of weight * dy: every output position adds to the window that it was computed from."""
    dy, weight, dx, cleared, filters_table, taps_table, taps = i[1], i[2], i[3], i[4], i[5], i[6], i[7]
    channels, filters, height, width, row_step, column_step, lanes = i[8], i[9], i[10], i[11], i[12], i[13], i[14]
    arena[dx : dx + cleared] = 0.0
    for row in range(height):
        for column in range(width):
            window = dx + row * row_step + column * column_step
            gradient = dy + (row * width + column) * channels * filters * lanes
            for channel in range(channels):
                first = channel * filters
                for tap in range(taps):
                    product(
                        arena, table, weight + first * taps + tap, _UNIT, taps, gradient + first * lanes, filters_table,
                        filters, window + table[taps_table + tap] + channel * lanes, lanes, _UNIT, lanes, _ONTO,
                        _NO_FLOOR,
                    )  # fmt: skip


@instruction(
    "DEPTHWISE_FILTER_GRAD",
    "dy x dw sums first last dy_table x_table taps_table positions channels filters taps lanes",
)
def depthwise_filter_grad_kernel(arena: Any, table: Any, i: Any) -> None:
    """dw[channel, tap] = sum over positions and samples of dy * x, in parts as CONV_FILTER_GRAD does it."""
    dy, x, dw, sums, first, last, dy_table, x_table, taps_table = i[1], i[2], i[3], i[4], i[5], i[6], i[7], i[8], i[9]
    positions, channels, filters, taps, lanes = i[10], i[11], i[12], i[13], i[14]
    for channel in range(channels):
        place = channel * filters
        if filters == 1:
            window_reduction(
                arena, table, dy + channel * lanes, dy_table, x + channel * lanes, x_table, taps_table, positions,
                dw + channel * taps, taps, sums + channel * taps * VECTOR, first, last,
            )  # fmt: skip
            continue
        reduction(
            arena, table, dy + place * lanes, lanes, dy_table, x + channel * lanes, x_table, taps_table, positions,
            dw + place * taps, taps, sums + place * taps * VECTOR, first, last, filters,
        )  # fmt: skip
