"""Products of row-major matrices, and matrices turned from rows to columns.

Where a batch fills vectors badly, or sums run over positions, one of the operands is turned: the vectors then hold
neighbouring channels of one sample instead of one channel of neighbouring samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mindfl.lite.kernels.primitives import ACCUMULATE, VECTOR, ZERO, fetch, product, turned_block
from mindfl.lite.ops.registry import instruction

if TYPE_CHECKING:
    from mindfl.lite.plan import Plan

# Typed, not literal: numba would compile a function anew for each combination of literal arguments.
_FRESH, _ONTO, _TAIL, _NO_FLOOR = np.int64(ZERO), np.int64(ACCUMULATE), np.int64(VECTOR), np.float32(-np.inf)


def turn(plan: Plan, x: int, y: int, size: tuple[int, int], x_step: int, y_step: int, *, whole: bool = False) -> None:
    """Emit ``y[column, row] = x[row, column]`` for ``size`` (rows, columns), with steps between the rows of each.

    ``whole``: each row of x has readable memory up to whole vectors, as a row of samples has.
    """
    plan.builder.emit(
        "TURN", x=x, y=y, rows=size[0], columns=size[1], x_step=x_step, y_step=y_step, whole=whole
    )  # fmt: skip


def row_product(
    plan: Plan,
    a: tuple[int, int, int],
    b: int,
    lines: Sequence[int],
    y: tuple[int, int],
    size: tuple[int, int],
    *,
    block: int,
    row_block: int,
) -> None:
    """Emit ``y[row, column] = sum_k a[row, k] * b[lines[k] + column]`` for ``size`` (rows, columns).

    ``a`` is a place and its steps along rows and k, ``y`` a place and its step along rows. Each line of b needs
    readable memory up to whole vectors. The sums are taken in parts of ``block`` terms, and ``row_block`` rows at a
    time, which changes no bit.
    """
    rows, columns = size
    tail = plan.once(("tail", rows), lambda: plan.builder.allocate(rows * VECTOR)) if columns % VECTOR else y[0]
    plan.builder.emit(
        "ROW_PRODUCT",
        a=a[0],
        a_row=a[1],
        a_column=a[2],
        b=b,
        b_table=plan.builder.entries(lines),
        inner=len(lines),
        block=block,
        row_block=row_block,
        y=y[0],
        y_step=y[1],
        tail=tail,
        rows=rows,
        columns=columns,
    )


@instruction("TURN", "x y rows columns x_step y_step whole")
def turn_kernel(arena: Any, table: Any, i: Any) -> None:
    """y[column, row] = x[row, column], in blocks of 16 x 16 where there are whole ones."""
    x, y, rows, columns, x_step, y_step, whole = i[1], i[2], i[3], i[4], i[5], i[6], i[7]
    row = 0
    while row < rows:
        many = min(rows - row, VECTOR)
        column = 0
        while column < columns:
            count = min(columns - column, VECTOR)
            source, target = x + row * x_step + column, y + column * y_step + row
            if many == VECTOR and (whole or count == VECTOR):
                turned_block(arena, source, x_step, target, y_step, count)
            else:
                for c in range(count):
                    for r in range(many):
                        arena[target + c * y_step + r] = arena[source + r * x_step + c]
            column += VECTOR
        row += VECTOR


@instruction("ROW_PRODUCT", "a a_row a_column b b_table inner block row_block y y_step tail rows columns")
def row_product_kernel(arena: Any, table: Any, i: Any) -> None:
    """y[row, column] = sum over k of a[row, k] * b[table[k] + column]; the last, partial vector passes ``tail``."""
    a, a_row, a_column, b, b_table, inner, block, row_block = i[1], i[2], i[3], i[4], i[5], i[6], i[7], i[8]
    y, y_step, tail, rows, columns = i[9], i[10], i[11], i[12], i[13]
    rest = columns % VECTOR
    whole = columns - rest
    for k in range(0, inner, block):
        count, start = min(block, inner - k), _FRESH if k == 0 else _ONTO
        # What comes from memory is asked for line by line, in the order in which it lies there.
        if row_block >= rows and whole:
            for line in range(k, k + count):
                fetch(arena, b + table[b_table + line], whole)
        for row in range(0, rows, row_block):
            some = min(row_block, rows - row)
            if row_block < rows and whole:
                for line in range(row, row + some):
                    fetch(arena, y + line * y_step, whole)
            left = a + row * a_row + k * a_column
            product(
                arena, table, left, a_row, a_column, b, b_table + k, count, y + row * y_step, y_step, some, whole,
                start, _NO_FLOOR,
            )  # fmt: skip
            if rest:
                product(
                    arena, table, left, a_row, a_column, b + whole, b_table + k, count, tail + row * VECTOR, _TAIL,
                    some, _TAIL, start, _NO_FLOOR,
                )  # fmt: skip
    if rest:
        for row in range(rows):
            for column in range(rest):
                arena[y + row * y_step + whole + column] = arena[tail + row * VECTOR + column]
