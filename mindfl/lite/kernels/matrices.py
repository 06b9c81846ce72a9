"""Products of matrices in the order of a file, of any size: tiles of rows by vectors of columns.

Columns of the second matrix are packed, up to three vectors of them at a time (a *panel*), so that a tile reads memory
from one end to the other. A second matrix whose columns lie in rows of memory is transposed in registers on the way.
The last vector of a row is stored under a mask.

The order of additions is that of :mod:`mindfl.lite.kernels.products`: each result begins with its bias or zero, then
come the products with k ascending, whatever the tile.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from llvmlite import binding, ir
from numba import njit, types
from numba.extending import intrinsic, overload

from mindfl.lite.kernels import primitives
from mindfl.lite.kernels.emitter import I64, LANES, Emitter
from mindfl.lite.kernels.primitives import ACCUMULATE, PANEL_DEPTH, PANEL_VECTORS, VECTOR

_WIDE_REGISTERS = bool(binding.get_host_cpu_features().get("avx512f", False))
#: rows of a tile, and most vectors: 24 of 32 wide registers hold sums, or 12 of 16
_ROWS = (8, 4, 2, 1) if _WIDE_REGISTERS else (6, 4, 2, 1)
_VECTORS = PANEL_VECTORS if _WIDE_REGISTERS else 1
_NO_FLOOR = np.float32(-np.inf)


def _tile(rows: int, vectors: int) -> Any:
    """Make the intrinsic ``tile(arena, a, am, ak, b, k, c, cm, start, floor, last)``.

    ``C[m] = max(floor, first + sum_k A[m, k] * B[k])`` for ``rows`` rows of ``vectors`` vectors, of the last one
    ``last`` elements. ``first`` is zero, what C holds, or a row of biases, as ``start`` says.
    """

    @intrinsic
    def tile(
        typing: Any, arena: Any, a: Any, am: Any, ak: Any, b: Any, k: Any, c: Any, cm: Any, start: Any, floor: Any,
        last: Any,
    ) -> Any:  # fmt: skip
        signature = types.void(arena, *[types.int64] * 8, types.float32, types.int64)
        return signature, partial(_emit_tile, rows, vectors)

    return tile


def _emit_tile(rows: int, vectors: int, context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    arena, a, am, ak, b, k, c, cm, start, floor, last = arguments
    emit = Emitter(context, builder, signature.args[0], arena)
    mask = emit.first_lanes(last)
    outputs = [emit.add(emit.add(c, emit.times(cm, m)), v * VECTOR) for m in range(rows) for v in range(vectors)]
    a_rows = [emit.add(a, emit.times(am, m)) for m in range(rows)]

    def load(offset: Any, vector: int) -> Any:
        return emit.load(offset) if vector < vectors - 1 else emit.load_masked(offset, mask)

    def step(index: Any, sums: list[Any]) -> list[Any]:
        row = emit.add(b, emit.times(index, vectors * VECTOR))
        operands = [emit.load(emit.add(row, v * VECTOR)) for v in range(vectors)]
        shift = builder.mul(index, ak)
        results = []
        for m in range(rows):
            factor = emit.splat(emit.scalar(emit.add(a_rows[m], shift)))
            results += [emit.fma(factor, operands[v], sums[m * vectors + v]) for v in range(vectors)]
        return results

    def biases() -> list[Any]:
        return [load(emit.add(start, v * VECTOR), v) for v in range(vectors)] * rows

    def present() -> list[Any]:
        return [load(offset, number % vectors) for number, offset in enumerate(outputs)]

    zero = ir.Constant(LANES, [0.0] * VECTOR)
    is_bias, continues = builder.icmp_signed(">=", start, I64(0)), builder.icmp_signed("==", start, I64(ACCUMULATE))
    initial = emit.choose([(is_bias, biases), (continues, present)], [zero] * len(outputs))
    lowest = emit.splat(floor)
    for number, total in enumerate(emit.loop(k, initial, step)):
        value = builder.select(builder.fcmp_ordered("<", total, lowest), lowest, total)
        if number % vectors < vectors - 1:
            emit.store(value, outputs[number])
        else:
            emit.store_masked(value, outputs[number], mask)
    return context.get_dummy_value()


@intrinsic
def _copy_vector(typing: Any, arena: Any, source: Any, target: Any, count: Any) -> Any:
    """Copy ``count`` elements, and zeros up to a whole vector."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        arena, source, target, count = arguments
        emit = Emitter(context, builder, signature.args[0], arena)
        emit.store(emit.load_masked(source, emit.first_lanes(count)), target)
        return context.get_dummy_value()

    return types.void(arena, types.int64, types.int64, types.int64), generate


@intrinsic
def _transpose_block(
    typing: Any, arena: Any, source: Any, step: Any, rows: Any, count: Any, target: Any, width: Any
) -> Any:
    """Transpose 16 rows of 16 elements: row r at ``source + r * step``, column c to ``target + c * width``.

    Of rows from ``rows`` on, the last one is read again; elements from ``count`` on are zeros.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        arena, source, step, rows, count, target, width = arguments
        emit = Emitter(context, builder, signature.args[0], arena)
        mask, final = emit.first_lanes(count), emit.add(rows, -1)
        block = []
        for row in range(VECTOR):
            number = builder.select(builder.icmp_signed("<", final, I64(row)), final, I64(row))
            block.append(emit.load_masked(emit.add(source, builder.mul(number, step)), mask))
        for column, vector in enumerate(emit.transposed(block)):
            emit.store(vector, emit.add(target, emit.times(width, column)))
        return context.get_dummy_value()

    return types.void(arena, *[types.int64] * 6), generate


@njit(nogil=True)
def _pack(arena: Any, b: int, bk: int, bn: int, depth: int, width: int, vectors: int, packed: int) -> None:
    """Pack ``width`` columns of a matrix into rows of ``vectors`` vectors, padded with what no result needs."""
    row = vectors * VECTOR
    for v in range(vectors):
        count = min(width - v * VECTOR, VECTOR)
        if bn == 1:
            for k in range(depth):
                _copy_vector(arena, b + k * bk + v * VECTOR, packed + k * row + v * VECTOR, count)
        else:
            for k in range(0, depth, VECTOR):
                source, target = b + v * VECTOR * bn + k, packed + k * row + v * VECTOR
                _transpose_block(arena, source, bn, count, min(depth - k, VECTOR), target, row)


def _rows_of(vectors: int) -> Any:
    """Make the loop over rows for panels of ``vectors`` vectors."""
    r0, r1, r2, r3 = _ROWS
    tile0, tile1, tile2, tile3 = (_tile(rows, vectors) for rows in _ROWS)

    @njit(nogil=True)
    def all_rows(
        arena: Any, a: int, am: int, ak: int, b: int, k: int, c: int, cm: int, rows: int, start: int, floor: float,
        last: int,
    ) -> None:  # fmt: skip
        m = 0
        while rows - m >= r0:
            tile0(arena, a + m * am, am, ak, b, k, c + m * cm, cm, start, floor, last)
            m += r0
        while rows - m >= r1:
            tile1(arena, a + m * am, am, ak, b, k, c + m * cm, cm, start, floor, last)
            m += r1
        while rows - m >= r2:
            tile2(arena, a + m * am, am, ak, b, k, c + m * cm, cm, start, floor, last)
            m += r2
        while rows - m >= r3:
            tile3(arena, a + m * am, am, ak, b, k, c + m * cm, cm, start, floor, last)
            m += r3

    return all_rows


_one, _two, _three = (_rows_of(min(vectors, _VECTORS)) for vectors in (1, 2, 3))


@overload(primitives.matrix_product)
def _matrix_product(
    arena: Any, a: Any, am: Any, ak: Any, b: Any, bk: Any, bn: Any, c: Any, rows: Any, columns: Any, depth: Any,
    start: Any, floor: Any, packed: Any,
) -> Any:  # fmt: skip
    def matrix_product(
        arena: Any, a: Any, am: Any, ak: Any, b: Any, bk: Any, bn: Any, c: Any, rows: Any, columns: Any, depth: Any,
        start: Any, floor: Any, packed: Any,
    ) -> None:  # fmt: skip
        for k in range(0, depth, PANEL_DEPTH):
            part = min(depth - k, PANEL_DEPTH)
            first = start if k == 0 else ACCUMULATE
            lowest = floor if k + part == depth else _NO_FLOOR
            for n in range(0, columns, _VECTORS * VECTOR):
                width = min(columns - n, _VECTORS * VECTOR)
                vectors = (width + VECTOR - 1) // VECTOR
                last, bias = width - (vectors - 1) * VECTOR, first + n if first >= 0 else first
                _pack(arena, b + k * bk + n * bn, bk, bn, part, width, vectors, packed)
                at, y = a + k * ak, c + n
                if vectors == 1:
                    _one(arena, at, am, ak, packed, part, y, columns, rows, bias, lowest, last)
                elif vectors == 2:
                    _two(arena, at, am, ak, packed, part, y, columns, rows, bias, lowest, last)
                else:
                    _three(arena, at, am, ak, packed, part, y, columns, rows, bias, lowest, last)

    return matrix_product
