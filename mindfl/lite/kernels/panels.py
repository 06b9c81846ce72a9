"""Matrix products whose second operand is packed into panels: for matrices in the order of a file, of any width.

A *panel* holds :data:`~mindfl.lite.kernels.primitives.PANEL` columns of a matrix, row after row, so that a product
reads memory from one end to the other however far apart the rows of the matrix lie. The order of additions is that of
:mod:`mindfl.lite.kernels.products`: ascending in ``k``, whatever the tile.
"""

from __future__ import annotations

from typing import Any

from numba import njit
from numba.extending import overload

from mindfl.lite.kernels import primitives
from mindfl.lite.kernels.primitives import PANEL, VECTOR
from mindfl.lite.kernels.products import PRODUCT_VECTORS, product_tile

_WIDE = PRODUCT_VECTORS * VECTOR
#: most rows of a tile: ten is a usual batch, and as many accumulators as 32 registers hold beside the operands
_MOST = 10 if PRODUCT_VECTORS == 2 else 6
_tile10, _tile8, _tile6, _tile4, _tile2, _tile1 = (
    product_tile(min(rows, _MOST), (VECTOR,) * PRODUCT_VECTORS) for rows in (10, 8, 6, 4, 2, 1)
)


@njit(nogil=True)
def _rows(
    arena: Any, table: Any, a: int, am: int, ak: int, b: int, bo: int, k: int, c: int, cm: int, rows: int, start: int,
    floor: float,
) -> None:  # fmt: skip
    m = 0
    while m < rows:
        rest, source, target = rows - m, a + m * am, c + m * cm
        if _MOST >= 10 and (rest == 10 or rest == 18 or rest == 20):
            _tile10(arena, table, source, am, ak, b, bo, k, target, cm, start, floor)
            m += 10
        elif _MOST >= 8 and rest >= 8:
            _tile8(arena, table, source, am, ak, b, bo, k, target, cm, start, floor)
            m += 8
        elif rest >= 6:
            _tile6(arena, table, source, am, ak, b, bo, k, target, cm, start, floor)
            m += 6
        elif rest >= 4:
            _tile4(arena, table, source, am, ak, b, bo, k, target, cm, start, floor)
            m += 4
        elif rest >= 2:
            _tile2(arena, table, source, am, ak, b, bo, k, target, cm, start, floor)
            m += 2
        else:
            _tile1(arena, table, source, am, ak, b, bo, k, target, cm, start, floor)
            m += 1


@overload(primitives.panel_product)
def _panel_product(
    arena: Any, table: Any, a: Any, am: Any, ak: Any, b: Any, bo: Any, k: Any, c: Any, cm: Any, rows: Any, start: Any,
    floor: Any,
) -> Any:  # fmt: skip
    def panel_product(
        arena: Any, table: Any, a: Any, am: Any, ak: Any, b: Any, bo: Any, k: Any, c: Any, cm: Any, rows: Any,
        start: Any, floor: Any,
    ) -> None:  # fmt: skip
        for lane in range(0, PANEL, _WIDE):
            _rows(arena, table, a, am, ak, b + lane, bo, k, c + lane, cm, rows, start, floor)

    return panel_product
