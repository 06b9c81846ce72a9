"""Products and reductions of any size, on the tiles of :mod:`mindfl.lite.kernels.tiles`."""

from __future__ import annotations

from typing import Any

from numba import njit
from numba.extending import overload

from mindfl.lite.kernels import primitives
from mindfl.lite.kernels.primitives import VECTOR
from mindfl.lite.kernels.tiles import (
    PRODUCT_ROWS,
    PRODUCT_VECTORS,
    REDUCTION_ROWS,
    REDUCTION_TAPS,
    product_tile,
    reduction_tile,
)

_WIDE = PRODUCT_VECTORS * VECTOR


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


@overload(primitives.product)
def _product(
    arena: Any, table: Any, a: Any, am: Any, ak: Any, b: Any, bo: Any, k: Any, c: Any, cm: Any, rows: Any, lanes: Any,
    start: Any, floor: Any,
) -> Any:  # fmt: skip
    def product(
        arena: Any, table: Any, a: Any, am: Any, ak: Any, b: Any, bo: Any, k: Any, c: Any, cm: Any, rows: Any,
        lanes: Any, start: Any, floor: Any,
    ) -> None:  # fmt: skip
        lane = 0
        while lanes - lane >= _WIDE:
            _wide_rows(arena, table, a, am, ak, b + lane, bo, k, c + lane, cm, rows, start, floor)
            lane += _WIDE
        while lane < lanes:
            _slim_rows(arena, table, a, am, ak, b + lane, bo, k, c + lane, cm, rows, start, floor)
            lane += VECTOR

    return product


@overload(primitives.reduction)
def _reduction(
    arena: Any, table: Any, d: Any, dm: Any, dp: Any, x: Any, xp: Any, xt: Any, count: Any, out: Any, taps: Any,
    sums: Any, first: Any, last: Any, rows: Any,
) -> Any:  # fmt: skip
    def reduction(
        arena: Any, table: Any, d: Any, dm: Any, dp: Any, x: Any, xp: Any, xt: Any, count: Any, out: Any, taps: Any,
        sums: Any, first: Any, last: Any, rows: Any,
    ) -> None:  # fmt: skip
        t = 0
        while t < taps:
            waiting = sums + t * VECTOR
            if taps - t >= REDUCTION_TAPS:
                _several_taps(
                    arena, table, d, dm, dp, x, xp, xt + t, count, out + t, taps, waiting, first, last, rows
                )  # fmt: skip
                t += REDUCTION_TAPS
            else:
                _one_tap(arena, table, d, dm, dp, x, xp, xt + t, count, out + t, taps, waiting, first, last, rows)
                t += 1

    return reduction
