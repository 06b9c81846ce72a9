"""Convolution and dense layers and their gradients, on the tiles of :mod:`mindfl.lite.kernels.tiles`.

Each kernel takes the arena, the int32 table, and its instruction row ``i`` (operands from ``i[1]`` on, in the order of
:data:`mindfl.lite.ops.registry.OPERANDS`).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from mindfl.lite.kernels.emitter import VECTOR
from mindfl.lite.kernels.tiles import (
    ACCUMULATE,
    PRODUCT_ROWS,
    PRODUCT_VECTORS,
    REDUCTION_ROWS,
    REDUCTION_TAPS,
    ZERO,
    product_tile,
    reduction_tile,
)

_WIDE = PRODUCT_VECTORS * VECTOR
_TAPS = REDUCTION_TAPS
_NO_FLOOR = np.float32(-np.inf)
# Typed, not literal: numba would compile a function anew for each combination of literal arguments.
_UNIT, _FRESH, _ONTO, _TAIL = np.int64(1), np.int64(ZERO), np.int64(ACCUMULATE), np.int64(VECTOR)


def _product_rows(vectors: int) -> Any:
    """Make the loop over rows for tiles of ``vectors`` vectors: as many of the largest tile as fit, then the next."""
    r0, r1, r2, r3, r4 = PRODUCT_ROWS
    tile0, tile1, tile2, tile3, tile4 = (product_tile(rows, vectors) for rows in PRODUCT_ROWS)

    @njit(nogil=True)
    def product_rows(
        arena: Any, table: Any, a: int, am: int, ak: int, b: int, bo: int, k: int, c: int, cm: int, rows: int,
        start: int, floor: float,
    ) -> None:  # fmt: skip
        m = 0
        per_row = 1 if start >= 0 else 0
        while rows - m >= r0:
            tile0(arena, table, a + m * am, am, ak, b, bo, k, c + m * cm, cm, start + m * per_row, floor)
            m += r0
        while rows - m >= r1:
            tile1(arena, table, a + m * am, am, ak, b, bo, k, c + m * cm, cm, start + m * per_row, floor)
            m += r1
        while rows - m >= r2:
            tile2(arena, table, a + m * am, am, ak, b, bo, k, c + m * cm, cm, start + m * per_row, floor)
            m += r2
        while rows - m >= r3:
            tile3(arena, table, a + m * am, am, ak, b, bo, k, c + m * cm, cm, start + m * per_row, floor)
            m += r3
        while rows - m >= r4:
            tile4(arena, table, a + m * am, am, ak, b, bo, k, c + m * cm, cm, start + m * per_row, floor)
            m += r4

    return product_rows


def _reduction_rows(taps: int) -> Any:
    """Make the loop over rows for reductions of ``taps`` taps at a time."""
    r0, r1, r2 = REDUCTION_ROWS
    tile0, tile1, tile2 = (reduction_tile(rows, taps) for rows in REDUCTION_ROWS)

    @njit(nogil=True)
    def reduction_rows(
        arena: Any, table: Any, d: int, dm: int, dp: int, x: int, xp: int, xt: int, count: int, out: int, om: int,
        sums: int, first: int, last: int, rows: int,
    ) -> None:  # fmt: skip
        m = 0
        while rows - m >= r0:
            waiting = sums + m * om * VECTOR
            tile0(arena, table, d + m * dm, dm, dp, x, xp, xt, count, out + m * om, om, waiting, first, last)
            m += r0
        while rows - m >= r1:
            waiting = sums + m * om * VECTOR
            tile1(arena, table, d + m * dm, dm, dp, x, xp, xt, count, out + m * om, om, waiting, first, last)
            m += r1
        while rows - m >= r2:
            waiting = sums + m * om * VECTOR
            tile2(arena, table, d + m * dm, dm, dp, x, xp, xt, count, out + m * om, om, waiting, first, last)
            m += r2

    return reduction_rows


_wide_rows, _slim_rows = _product_rows(PRODUCT_VECTORS), _product_rows(1)
_several_taps, _one_tap = _reduction_rows(REDUCTION_TAPS), _reduction_rows(1)


@njit(nogil=True)
def _product(
    arena: Any, table: Any, a: int, am: int, ak: int, b: int, bo: int, k: int, c: int, cm: int, rows: int, lanes: int,
    start: int, floor: float,
) -> None:  # fmt: skip
    """``C[m, lanes] = max(floor, start + sum_k A[m, k] * B[table[bo + k], lanes])``, any number of rows and lanes."""
    lane = 0
    while lanes - lane >= _WIDE:
        _wide_rows(arena, table, a, am, ak, b + lane, bo, k, c + lane, cm, rows, start, floor)
        lane += _WIDE
    while lane < lanes:
        _slim_rows(arena, table, a, am, ak, b + lane, bo, k, c + lane, cm, rows, start, floor)
        lane += VECTOR


@njit(nogil=True)
def _floor(relu: int) -> Any:
    return np.float32(0.0) if relu else _NO_FLOOR


@njit(nogil=True)
def conv(arena: Any, table: Any, i: Any) -> None:
    """y = relu?(x * weight + bias): every output position is one product over the taps of its window."""
    x, weight, y, start, relu, taps_table, taps, channels = i[1], i[2], i[3], i[4], i[5], i[6], i[7], i[8]
    height, width, row_step, column_step, lanes = i[9], i[10], i[11], i[12], i[13]
    floor = _floor(relu)
    for row in range(height):
        for column in range(width):
            window = x + row * row_step + column * column_step
            out = y + (row * width + column) * channels * lanes
            _product(
                arena, table, weight, taps, _UNIT, window, taps_table, taps, out, lanes, channels, lanes, start, floor
            )  # fmt: skip


@njit(nogil=True)
def conv_input_grad(arena: Any, table: Any, i: Any) -> None:
    """dx = scatter of weight^T dy: every output position adds to the window it was computed from, run by run."""
    dy, weight, dx, cleared, rows_table, channels_table = i[1], i[2], i[3], i[4], i[5], i[6]
    runs, run, channels, height, width = i[7], i[8], i[9], i[10], i[11]
    row_step, column_step, lanes = i[12], i[13], i[14]
    arena[dx : dx + cleared] = 0.0
    taps = runs * run
    for row in range(height):
        for column in range(width):
            window = dx + row * row_step + column * column_step
            gradient = dy + (row * width + column) * channels * lanes
            for r in range(runs):
                _product(
                    arena, table, weight + r * run, _UNIT, taps, gradient, channels_table, channels,
                    window + table[rows_table + r], lanes, run, lanes, _ONTO, _NO_FLOOR,
                )  # fmt: skip


@njit(nogil=True)
def conv_filter_grad(arena: Any, table: Any, i: Any) -> None:
    """dw[channel, tap] = sum over positions and samples of dy * x.

    A layer may be done in several parts: then the partial sums wait in ``sums``, one vector each, from the ``first``
    part to the ``last``.
    """
    dy, x, dw, sums, first, last, dy_table, x_table, taps_table = i[1], i[2], i[3], i[4], i[5], i[6], i[7], i[8], i[9]
    positions, channels, taps, lanes = i[10], i[11], i[12], i[13]
    tap = 0
    while tap < taps:
        out, waiting = dw + tap, sums + tap * VECTOR
        if taps - tap >= _TAPS:
            _several_taps(
                arena, table, dy, lanes, dy_table, x, x_table, taps_table + tap, positions, out, taps, waiting, first,
                last, channels,
            )  # fmt: skip
            tap += _TAPS
        else:
            _one_tap(
                arena, table, dy, lanes, dy_table, x, x_table, taps_table + tap, positions, out, taps, waiting, first,
                last, channels,
            )  # fmt: skip
            tap += 1


@njit(nogil=True)
def fold(arena: Any, table: Any, i: Any) -> None:
    """folded[row] = sum over channels of weight[row, channel]: exact for an input whose channels are all equal."""
    weight, folded, rows, channels = i[1], i[2], i[3], i[4]
    for row in range(rows):
        total = np.float32(0.0)
        for channel in range(channels):
            total += arena[weight + row * channels + channel]
        arena[folded + row] = total


@njit(nogil=True)
def unfold(arena: Any, table: Any, i: Any) -> None:
    """weight[row, channel] = folded[row]: equal channels have equal gradients."""
    folded, weight, rows, channels = i[1], i[2], i[3], i[4]
    for row in range(rows):
        arena[weight + row * channels : weight + (row + 1) * channels] = arena[folded + row]


@njit(nogil=True)
def dense(arena: Any, table: Any, i: Any) -> None:
    """y[row] = relu?(sum over columns of weight[row, column] * x[column] + bias[row])."""
    x, weight, y, start, relu, row_step, column_step = i[1], i[2], i[3], i[4], i[5], i[6], i[7]
    x_table, rows, columns, lanes = i[8], i[9], i[10], i[11]
    _product(
        arena, table, weight, row_step, column_step, x, x_table, columns, y, lanes, rows, lanes, start, _floor(relu)
    )  # fmt: skip


@njit(nogil=True)
def transpose(arena: Any, table: Any, i: Any) -> None:
    """y[column, row] = x[row, column], rows padded with zeros up to ``y_lanes``."""
    x, y, rows, columns, x_lanes, y_lanes = i[1], i[2], i[3], i[4], i[5], i[6]
    for column in range(columns):
        target = y + column * y_lanes
        for row in range(rows):
            arena[target + row] = arena[x + row * x_lanes + column]
        for row in range(rows, y_lanes):
            arena[target + row] = 0.0


@njit(nogil=True)
def outer(arena: Any, table: Any, i: Any) -> None:
    """y[row, column] = sum over the batch of a[row, n] * b[n, column]; the last, partial vector passes ``tail``."""
    a, b, y, tail, b_table, rows, columns, batch, a_lanes = i[1], i[2], i[3], i[4], i[5], i[6], i[7], i[8], i[9]
    whole = columns - columns % VECTOR
    _product(arena, table, a, a_lanes, _UNIT, b, b_table, batch, y, columns, rows, whole, _FRESH, _NO_FLOOR)
    rest = columns - whole
    if rest:
        _product(
            arena, table, a, a_lanes, _UNIT, b + whole, b_table, batch, tail, _TAIL, rows, _TAIL, _FRESH, _NO_FLOOR
        )  # fmt: skip
        for row in range(rows):
            for column in range(rest):
                arena[y + row * columns + whole + column] = arena[tail + row * VECTOR + column]
