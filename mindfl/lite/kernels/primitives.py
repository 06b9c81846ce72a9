"""Vector operations that kernels call, compiled with them.

These are declarations: :mod:`mindfl.lite.kernels.products`, :mod:`~mindfl.lite.kernels.panels`,
:mod:`~mindfl.lite.kernels.pooling`, :mod:`~mindfl.lite.kernels.moving`, :mod:`~mindfl.lite.kernels.taps` and
:mod:`~mindfl.lite.kernels.waiting` hold the code, which needs a compiler to be imported.
"""

from __future__ import annotations

from typing import Any

#: float32 lanes of a vector register
VECTOR = 16
#: lanes of half a vector: products are computed for so many samples, or a multiple
HALF = 8
#: columns of a panel of a packed matrix
PANEL = 32
#: initial values of sums: zero, or the present value
ZERO, ACCUMULATE = -1, -2
#: rows and vectors of the panels that :func:`matrix_product` packs
PANEL_DEPTH, PANEL_VECTORS = 512, 3


def product(
    arena: Any, table: Any, a: Any, am: Any, ak: Any, b: Any, bo: Any, k: Any, c: Any, cm: Any, rows: Any, lanes: Any,
    start: Any, floor: Any,
) -> None:  # fmt: skip
    """``C[m, lanes] = max(floor, start + sum_k A[m, k] * B[table[bo + k], lanes])``, any number of rows.

    The lanes are a multiple of :data:`HALF`. ``A[m, k]`` lies at ``a + m*am + k*ak`` and C's rows at ``c + m*cm``.
    ``start`` is :data:`ZERO`, :data:`ACCUMULATE`, or the place of one bias per row.
    """
    raise NotImplementedError


def matrix_product(
    arena: Any, a: Any, am: Any, ak: Any, b: Any, bk: Any, bn: Any, c: Any, rows: Any, columns: Any, depth: Any,
    start: Any, floor: Any, packed: Any,
) -> None:  # fmt: skip
    """``C[m, n] = max(floor, first[n] + sum_k A[m, k] * B[k, n])``, C in rows of ``columns``.

    ``A[m, k]`` lies at ``a + m*am + k*ak`` and ``B[k, n]`` at ``b + k*bk + n*bn``, where one of ``bk`` and ``bn`` is 1.
    ``start`` is :data:`ZERO`, :data:`ACCUMULATE`, or the place of one bias per column. ``packed`` is a place for
    :data:`PANEL_DEPTH` rows of :data:`PANEL_VECTORS` vectors.
    """
    raise NotImplementedError


def panel_product(
    arena: Any, table: Any, a: Any, am: Any, ak: Any, b: Any, bo: Any, k: Any, c: Any, cm: Any, rows: Any, start: Any,
    floor: Any,
) -> None:  # fmt: skip
    """``C[m, column] = max(floor, start + sum_k A[m, k] * B[table[bo + k] + column])`` for one panel of columns.

    Everything else is as for :func:`product`. The table holds the multiples of :data:`PANEL`.
    """
    raise NotImplementedError


def reduction(
    arena: Any, table: Any, d: Any, dm: Any, dp: Any, x: Any, xp: Any, xt: Any, count: Any, out: Any, taps: Any,
    sums: Any, first: Any, last: Any, rows: Any,
) -> None:  # fmt: skip
    """``out[m, t] = sum_p <arena[d + m*dm + table[dp + p]], arena[x + table[xt + t] + table[xp + p]]>``.

    Over one vector each, for ``rows`` values of m, ``taps`` of t, and ``count`` >= 1 of p. Between the ``first`` part
    and the ``last`` the partial sums wait in ``sums``.
    """
    raise NotImplementedError


def window_maximum(
    arena: Any, x: Any, row_step: Any, column_step: Any, rows: Any, columns: Any, y: Any, index: Any, shift: Any,
    masked: Any, run: Any,
) -> None:  # fmt: skip
    """``arena[y + n] = max over r, c of arena[x + r*row_step + c*column_step + n]`` for n below ``run``.

    Unless ``index`` is negative, byte ``shift + n`` behind it becomes the number ``r*columns + c`` of the first
    maximum, or 255 where ``masked`` and the maximum is not positive.
    """
    raise NotImplementedError


def window_gradient(
    arena: Any, dy: Any, index: Any, shift: Any, dx: Any, row_step: Any, column_step: Any, rows: Any, columns: Any,
    added: Any, run: Any,
) -> None:  # fmt: skip
    """Write ``arena[dy + n]`` to the window position whose number is at byte ``shift + n`` after ``index``.

    The other positions get zero; with ``added`` the values are added to the present ones.
    """
    raise NotImplementedError


def turned_block(arena: Any, x: Any, x_step: Any, y: Any, y_step: Any, count: Any) -> None:
    """``arena[y + c*y_step + r] = arena[x + r*x_step + c]`` for 16 rows r and ``count`` <= 16 columns c.

    All 16 columns are read.
    """
    raise NotImplementedError


def clear_lanes(arena: Any, y: Any, rows: Any, count: Any, lanes: Any) -> None:
    """``arena[y + r*lanes + n] = 0`` for ``rows`` >= 1 of r and n from ``count`` < ``lanes`` on, whole vectors."""
    raise NotImplementedError


def fetch(arena: Any, start: Any, count: Any) -> None:
    """Ask for the memory of ``count`` floats, at least a vector of them, to be brought to the second cache."""
    raise NotImplementedError


def window_product(
    arena: Any, table: Any, x: Any, weight: Any, tap_step: Any, taps_table: Any, taps: Any, y: Any, channels: Any,
    lanes: Any, start: Any, floor: Any,
) -> None:  # fmt: skip
    """``y[c, lanes] = max(floor, start[c] + sum_t weight[c*taps + t*tap_step] * x[table[taps_table + t] + c*lanes])``.

    For ``channels`` >= 1 of c and ``taps`` >= 1 of t; ``start`` is the place of one bias per channel, or :data:`ZERO`.
    """
    raise NotImplementedError


def window_reduction(
    arena: Any, table: Any, d: Any, dp: Any, x: Any, xp: Any, xt: Any, count: Any, out: Any, taps: Any, sums: Any,
    first: Any, last: Any,
) -> None:  # fmt: skip
    """As :func:`reduction` for one row, with all taps of the usual window at once."""
    raise NotImplementedError


def meet(counter: Any, threads: Any) -> None:
    """Wait until so many ``threads`` have called this, and see what they wrote before.

    ``counter`` is the address of an int64 that all of them name, 0 at first.
    """
    raise NotImplementedError
