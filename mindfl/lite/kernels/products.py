"""Products and reductions of any size, on register-blocked multiply-add tiles: LLVM IR through numba intrinsics.

All tensors of a batch lie *batch-last*: element ``f`` of sample ``n`` stands at ``f * lanes + n``, where ``lanes`` is
the batch size rounded up to a multiple of :data:`VECTOR`. A vector register then holds one element of 16 samples, so
that every operator vectorises the same way whatever its kernel size, stride or channel count. Two tiles cover all
multiply-adds of a convolution or a dense layer and of their gradients:

* ``product``: ``C[m, lanes] (+)= sum_k A[m, k] * B[offset(k), lanes]``, the rows of B found through a table (an
  indirect matrix product, which makes a convolution without copying patches);
* ``reduction``: ``G[m, t] = sum_p sum_lane D[p, m, lane] * X[p, t, lane]``.

The order of additions in each result is fixed by the shapes alone (k ascending; p ascending in 16 partial sums that
are then added pairwise), so results are bitwise equal for any tile size, thread count, or processor with fused
multiply-add.
"""

from __future__ import annotations

from functools import partial
from itertools import accumulate
from typing import Any

from llvmlite import binding, ir
from numba import njit, types
from numba.extending import intrinsic, overload

from mindfl.lite.kernels import primitives
from mindfl.lite.kernels.emitter import I64, LANES, Emitter
from mindfl.lite.kernels.primitives import ACCUMULATE, HALF, VECTOR

_WIDE_REGISTERS = bool(binding.get_host_cpu_features().get("avx512f", False))
#: rows of a product tile, largest first: chosen so that accumulators and operands fit the registers
PRODUCT_ROWS = (8, 6, 4, 2, 1) if _WIDE_REGISTERS else (6, 4, 2, 1, 1)
#: vectors of a wide product tile; without 32 wide registers the wide tile is as wide as the narrow one
PRODUCT_VECTORS = 2 if _WIDE_REGISTERS else 1
REDUCTION_ROWS = (4, 2, 1) if _WIDE_REGISTERS else (2, 1, 1)
REDUCTION_TAPS = 5 if _WIDE_REGISTERS else 3


def product_tile(rows: int, widths: tuple[int, ...]) -> Any:
    """Make the intrinsic ``tile(arena, table, a, am, ak, b, bo, k, c, cm, start, floor)``.

    ``C[m] = max(floor, init + sum_k arena[a + m*am + k*ak] * arena[b + table[bo + k] ...])`` for ``rows`` rows of
    vectors of these ``widths`` at ``c + m*cm``; ``start`` is ``ZERO``, ``ACCUMULATE`` (begin with what C holds),
    or the offset of one bias per row. NaN passes through the floor.
    """

    @intrinsic
    def tile(
        typing: Any, arena: Any, table: Any, a: Any, am: Any, ak: Any, b: Any, bo: Any, k: Any, c: Any, cm: Any,
        start: Any, floor: Any,
    ) -> Any:  # fmt: skip
        return types.void(arena, table, *[types.int64] * 9, types.float32), partial(_emit_product, rows, widths)

    return tile


def _emit_product(rows: int, widths: tuple[int, ...], context: Any, builder: Any, signature: Any, given: Any) -> Any:
    arena, table, a, am, ak, b, bo, k, c, cm, start, floor = given
    emit = Emitter(context, builder, signature.args[0], arena)
    offsets = emit.data(signature.args[1], table)
    vectors = list(zip(accumulate(widths, initial=0), widths))  # noqa: B905 - the end of the last vector is left over
    outputs = [
        (emit.add(emit.add(c, emit.times(cm, m)), first), width) for m in range(rows) for first, width in vectors
    ]
    a_rows = [emit.add(a, emit.times(am, m)) for m in range(rows)]
    initial = _initial_sums(emit, start, outputs, len(widths))

    def step(index: Any, sums: list[Any]) -> list[Any]:
        row = emit.add(b, emit.entry(offsets, emit.add(bo, index)))
        operands = [emit.load(emit.add(row, first), width) for first, width in vectors]
        shift = builder.mul(index, ak)
        results = []
        for m in range(rows):
            number = emit.scalar(emit.add(a_rows[m], shift))
            for operand, total in zip(operands, sums[m * len(widths) : (m + 1) * len(widths)], strict=True):
                results.append(emit.fma(emit.splat(number, operand.type.count), operand, total))
        return results

    for value, (output, width) in zip(emit.loop(k, initial, step), outputs, strict=True):
        lowest = emit.splat(floor, width)
        below = builder.fcmp_ordered("<", value, lowest)
        emit.store(builder.select(below, lowest, value), output)
    return context.get_dummy_value()


def _initial_sums(emit: Emitter, start: Any, outputs: list[tuple[Any, int]], vectors: int) -> list[Any]:
    """Return the accumulators' first values for the three meanings of ``start``; ``vectors`` accumulators per row."""
    builder = emit.builder
    blocks = {name: builder.append_basic_block(name) for name in ("biased", "unbiased", "continued", "zeroed", "ready")}
    builder.cbranch(builder.icmp_signed(">=", start, I64(0)), blocks["biased"], blocks["unbiased"])
    builder.position_at_end(blocks["biased"])
    numbers = [emit.scalar(emit.add(start, m)) for m in range(len(outputs) // vectors)]
    biases = [emit.splat(numbers[index // vectors], width) for index, (_, width) in enumerate(outputs)]
    builder.branch(blocks["ready"])
    builder.position_at_end(blocks["unbiased"])
    builder.cbranch(builder.icmp_signed("==", start, I64(ACCUMULATE)), blocks["continued"], blocks["zeroed"])
    builder.position_at_end(blocks["continued"])
    present = [emit.load(output, width) for output, width in outputs]
    builder.branch(blocks["ready"])
    builder.position_at_end(blocks["zeroed"])
    builder.branch(blocks["ready"])
    builder.position_at_end(blocks["ready"])
    sums = []
    for bias, value in zip(biases, present, strict=True):
        phi = builder.phi(value.type)
        phi.add_incoming(bias, blocks["biased"])
        phi.add_incoming(value, blocks["continued"])
        phi.add_incoming(ir.Constant(value.type, [0.0] * value.type.count), blocks["zeroed"])
        sums.append(phi)
    return sums


def reduction_tile(rows: int, taps: int) -> Any:
    """Make the intrinsic ``tile(arena, table, d, dm, dp, x, xp, xt, count, out, om, sums, first, last)``.

    ``arena[out + m*om + t] = sum_p <arena[d + m*dm + table[dp+p]], arena[x + table[xt+t] + table[xp+p]]>`` over one
    vector each, for ``rows`` values of m and ``taps`` of t; ``count`` >= 1 positions p. Unless ``first``, the sums go
    on from the vectors at ``sums + (m*om + t) * VECTOR``; unless ``last``, they are put there and ``out`` is left
    alone.
    """

    @intrinsic
    def tile(
        typing: Any, arena: Any, table: Any, d: Any, dm: Any, dp: Any, x: Any, xp: Any, xt: Any, count: Any, out: Any,
        om: Any, sums: Any, first: Any, last: Any,
    ) -> Any:  # fmt: skip
        return types.void(arena, table, *[types.int64] * 12), partial(_emit_reduction, rows, taps)

    return tile


def _emit_reduction(rows: int, taps: int, context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    arena, table, d, dm, dp, x, xp, xt, count, out, om, sums, first, last = arguments
    emit = Emitter(context, builder, signature.args[0], arena)
    offsets = emit.data(signature.args[1], table)
    d_rows = [emit.add(d, emit.times(dm, m)) for m in range(rows)]
    x_taps = [emit.add(x, emit.entry(offsets, emit.add(xt, t))) for t in range(taps)]
    places = [emit.add(emit.times(om, m), t) for m in range(rows) for t in range(taps)]
    waiting = [emit.add(sums, emit.times(place, VECTOR)) for place in places]

    def step(index: Any, totals: list[Any]) -> list[Any]:
        d_shift = emit.entry(offsets, emit.add(dp, index))
        x_shift = emit.entry(offsets, emit.add(xp, index))
        inputs = [emit.load(emit.add(x_taps[t], x_shift)) for t in range(taps)]
        results = []
        for m in range(rows):
            gradient = emit.load(emit.add(d_rows[m], d_shift))
            results += [emit.fma(gradient, inputs[t], totals[m * taps + t]) for t in range(taps)]
        return results

    totals = emit.loop(count, _carried_sums(emit, first, waiting), step)
    with builder.if_else(builder.icmp_signed("!=", last, I64(0))) as (ends, goes_on):
        with ends:
            for place, total in zip(places, totals, strict=True):
                builder.store(emit.horizontal_sum(total), builder.gep(emit.base, [emit.add(out, place)]))
        with goes_on:
            for offset, total in zip(waiting, totals, strict=True):
                emit.store(total, offset)
    return context.get_dummy_value()


def _carried_sums(emit: Emitter, first: Any, waiting: list[Any]) -> list[Any]:
    """Return the accumulators' first values: zero in the ``first`` part, else what waits in memory."""
    builder = emit.builder
    before = builder.block
    with builder.if_then(builder.icmp_signed("==", first, I64(0))):
        present = [emit.load(offset) for offset in waiting]
        loaded = builder.block
    sums = []
    for value in present:
        phi = builder.phi(LANES)
        phi.add_incoming(ir.Constant(LANES, [0.0] * VECTOR), before)
        phi.add_incoming(value, loaded)
        sums.append(phi)
    return sums


_WIDE = PRODUCT_VECTORS * VECTOR


def _product_rows(*widths: int) -> Any:
    """Make the loop over rows for tiles of these widths: as many of the largest tile as fit, then the next."""
    r0, r1, r2, r3, r4 = PRODUCT_ROWS
    tile0, tile1, tile2, tile3, tile4 = (product_tile(rows, widths) for rows in PRODUCT_ROWS)

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


_wide_rows, _slim_rows = _product_rows(*[VECTOR] * PRODUCT_VECTORS), _product_rows(VECTOR)
# A vector of half the width takes half the time, or the same: for what is left of a batch.
_mixed_rows, _half_rows = _product_rows(VECTOR, HALF), _product_rows(HALF)
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
        while lanes - lane > HALF:
            if lanes - lane > VECTOR:
                _mixed_rows(arena, table, a, am, ak, b + lane, bo, k, c + lane, cm, rows, start, floor)
                lane += VECTOR + HALF
            else:
                _slim_rows(arena, table, a, am, ak, b + lane, bo, k, c + lane, cm, rows, start, floor)
                lane += VECTOR
        if lane < lanes:
            _half_rows(arena, table, a, am, ak, b + lane, bo, k, c + lane, cm, rows, start, floor)

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
