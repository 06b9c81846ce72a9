"""Register-blocked multiply-add tiles, written as LLVM IR through numba intrinsics.

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

from collections.abc import Callable
from typing import Any

from llvmlite import binding, ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

VECTOR = 16
_WIDE_REGISTERS = bool(binding.get_host_cpu_features().get("avx512f", False))
#: rows of a product tile, largest first: chosen so that accumulators and operands fit the registers
PRODUCT_ROWS = (8, 6, 4, 2, 1) if _WIDE_REGISTERS else (6, 4, 2, 1, 1)
#: vectors of a wide product tile; without 32 wide registers the wide tile is as wide as the narrow one
PRODUCT_VECTORS = 2 if _WIDE_REGISTERS else 1
REDUCTION_ROWS = (4, 2, 1) if _WIDE_REGISTERS else (2, 1, 1)
REDUCTION_TAPS = 5 if _WIDE_REGISTERS else 3

ZERO, ACCUMULATE = -1, -2

_FLOAT = ir.FloatType()
_I32 = ir.IntType(32)
_I64 = ir.IntType(64)
_LANES = ir.VectorType(_FLOAT, VECTOR)


class _Emitter:
    """Small helpers over an IR builder whose addresses are element offsets into one float array."""

    def __init__(self, context: Any, builder: Any, arena_type: Any, arena: Any) -> None:
        self.builder = builder
        self.context = context
        self.base = self.data(arena_type, arena)
        module = builder.module
        name = f"llvm.fma.v{VECTOR}f32"
        self._fma = module.globals.get(name) or ir.Function(
            module, ir.FunctionType(_LANES, [_LANES, _LANES, _LANES]), name
        )

    def data(self, array_type: Any, array: Any) -> Any:
        return cgutils.create_struct_proxy(array_type)(self.context, self.builder, array).data

    def add(self, first: Any, second: Any) -> Any:
        return self.builder.add(first, second if not isinstance(second, int) else _I64(second))

    def times(self, first: Any, count: int) -> Any:
        return self.builder.mul(first, _I64(count))

    def entry(self, table: Any, index: Any) -> Any:
        return self.builder.sext(self.builder.load(self.builder.gep(table, [index])), _I64)

    def scalar(self, offset: Any) -> Any:
        return self.builder.load(self.builder.gep(self.base, [offset]))

    def pointer(self, offset: Any) -> Any:
        return self.builder.bitcast(self.builder.gep(self.base, [offset]), _LANES.as_pointer())

    def load(self, offset: Any) -> Any:
        return self.builder.load(self.pointer(offset), align=4)

    def store(self, value: Any, offset: Any) -> None:
        self.builder.store(value, self.pointer(offset), align=4)

    def splat(self, value: Any) -> Any:
        undefined = ir.Constant(_LANES, ir.Undefined)
        first = self.builder.insert_element(undefined, value, _I32(0))
        return self.builder.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(_I32, VECTOR), [0] * VECTOR))

    def fma(self, first: Any, second: Any, addend: Any) -> Any:
        return self.builder.call(self._fma, [first, second, addend])

    def horizontal_sum(self, value: Any) -> Any:
        width = VECTOR
        while width > 1:
            width //= 2
            undefined = ir.Constant(value.type, ir.Undefined)
            halves = [
                self.builder.shuffle_vector(
                    value, undefined, ir.Constant(ir.VectorType(_I32, width), list(range(start, start + width)))
                )
                for start in (0, width)
            ]
            value = self.builder.fadd(*halves)
        return self.builder.extract_element(value, _I32(0))

    def loop(self, count: Any, initial: list[Any], body: Callable[[Any, list[Any]], list[Any]]) -> list[Any]:
        """Run ``body(index, state)`` for index 0..count-1 (count >= 1) with the state kept in registers."""
        builder = self.builder
        before = builder.block
        inside = builder.append_basic_block("body")
        after = builder.append_basic_block("after")
        builder.branch(inside)
        builder.position_at_end(inside)
        index = builder.phi(_I64)
        state = [builder.phi(_LANES) for _ in initial]
        results = body(index, list(state))
        following = self.add(index, 1)
        index.add_incoming(_I64(0), before)
        index.add_incoming(following, inside)
        for phi, start, result in zip(state, initial, results, strict=True):
            phi.add_incoming(start, before)
            phi.add_incoming(result, inside)
        builder.cbranch(builder.icmp_signed("<", following, count), inside, after)
        builder.position_at_end(after)
        return results


def product_tile(rows: int, vectors: int) -> Any:
    """Make the intrinsic ``tile(arena, table, a, am, ak, b, bo, k, c, cm, start, floor)``.

    ``C[m] = max(floor, init + sum_k arena[a + m*am + k*ak] * arena[b + table[bo + k] ...])`` for ``rows`` rows of
    ``vectors`` vectors each at ``c + m*cm``; ``start`` is :data:`ZERO`, :data:`ACCUMULATE` (begin with what C holds),
    or the offset of one bias per row. NaN passes through the floor.
    """

    @intrinsic
    def tile(
        typing: Any,
        arena: Any,
        table: Any,
        a: Any,
        am: Any,
        ak: Any,
        b: Any,
        bo: Any,
        k: Any,
        c: Any,
        cm: Any,
        start: Any,
        floor: Any,
    ) -> Any:
        signature = types.void(arena, table, *[types.int64] * 9, types.float32)

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            arena, table, a, am, ak, b, bo, k, c, cm, start, floor = arguments
            emit = _Emitter(context, builder, signature.args[0], arena)
            offsets = emit.data(signature.args[1], table)
            outputs = [
                emit.add(emit.add(c, emit.times(cm, m)), v * VECTOR) for m in range(rows) for v in range(vectors)
            ]
            a_rows = [emit.add(a, emit.times(am, m)) for m in range(rows)]
            initial = _initial_sums(emit, start, outputs, rows, vectors)

            def step(index: Any, sums: list[Any]) -> list[Any]:
                row = emit.add(b, emit.entry(offsets, emit.add(bo, index)))
                operands = [emit.load(emit.add(row, v * VECTOR)) for v in range(vectors)]
                shift = builder.mul(index, ak)
                results = []
                for m in range(rows):
                    factor = emit.splat(emit.scalar(emit.add(a_rows[m], shift)))
                    results += [emit.fma(factor, operands[v], sums[m * vectors + v]) for v in range(vectors)]
                return results

            lowest = emit.splat(floor)
            for value, output in zip(emit.loop(k, initial, step), outputs, strict=True):
                below = builder.fcmp_ordered("<", value, lowest)
                emit.store(builder.select(below, lowest, value), output)
            return context.get_dummy_value()

        return signature, generate

    return tile


def _initial_sums(emit: _Emitter, start: Any, outputs: list[Any], rows: int, vectors: int) -> list[Any]:
    """Return the accumulators' first values for the three meanings of ``start``."""
    builder = emit.builder
    blocks = {name: builder.append_basic_block(name) for name in ("biased", "unbiased", "continued", "zeroed", "ready")}
    builder.cbranch(builder.icmp_signed(">=", start, _I64(0)), blocks["biased"], blocks["unbiased"])
    builder.position_at_end(blocks["biased"])
    biases = [emit.splat(emit.scalar(emit.add(start, m))) for m in range(rows)]
    builder.branch(blocks["ready"])
    builder.position_at_end(blocks["unbiased"])
    builder.cbranch(builder.icmp_signed("==", start, _I64(ACCUMULATE)), blocks["continued"], blocks["zeroed"])
    builder.position_at_end(blocks["continued"])
    present = [emit.load(output) for output in outputs]
    builder.branch(blocks["ready"])
    builder.position_at_end(blocks["zeroed"])
    builder.branch(blocks["ready"])
    builder.position_at_end(blocks["ready"])
    zero = ir.Constant(_LANES, [0.0] * VECTOR)
    sums = []
    for index in range(len(outputs)):
        phi = builder.phi(_LANES)
        phi.add_incoming(biases[index // vectors], blocks["biased"])
        phi.add_incoming(present[index], blocks["continued"])
        phi.add_incoming(zero, blocks["zeroed"])
        sums.append(phi)
    return sums


def reduction_tile(rows: int, taps: int) -> Any:
    """Make the intrinsic ``tile(arena, table, d, dm, dp, x, xp, xt, count, out, om)``.

    ``arena[out + m*om + t] = sum_p <arena[d + m*dm + table[dp+p]], arena[x + table[xt+t] + table[xp+p]]>`` over one
    vector each, for ``rows`` values of m and ``taps`` of t; ``count`` >= 1 positions p.
    """

    @intrinsic
    def tile(
        typing: Any,
        arena: Any,
        table: Any,
        d: Any,
        dm: Any,
        dp: Any,
        x: Any,
        xp: Any,
        xt: Any,
        count: Any,
        out: Any,
        om: Any,
    ) -> Any:
        signature = types.void(arena, table, *[types.int64] * 9)

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            arena, table, d, dm, dp, x, xp, xt, count, out, om = arguments
            emit = _Emitter(context, builder, signature.args[0], arena)
            offsets = emit.data(signature.args[1], table)
            d_rows = [emit.add(d, emit.times(dm, m)) for m in range(rows)]
            x_taps = [emit.add(x, emit.entry(offsets, emit.add(xt, t))) for t in range(taps)]

            def step(index: Any, sums: list[Any]) -> list[Any]:
                d_shift = emit.entry(offsets, emit.add(dp, index))
                x_shift = emit.entry(offsets, emit.add(xp, index))
                inputs = [emit.load(emit.add(x_taps[t], x_shift)) for t in range(taps)]
                results = []
                for m in range(rows):
                    gradient = emit.load(emit.add(d_rows[m], d_shift))
                    results += [emit.fma(gradient, inputs[t], sums[m * taps + t]) for t in range(taps)]
                return results

            zero = ir.Constant(_LANES, [0.0] * VECTOR)
            sums = emit.loop(count, [zero] * (rows * taps), step)
            for m in range(rows):
                row = emit.add(out, emit.times(om, m))
                for t in range(taps):
                    total = emit.horizontal_sum(sums[m * taps + t])
                    builder.store(total, builder.gep(emit.base, [emit.add(row, t)]))
            return context.get_dummy_value()

        return signature, generate

    return tile
