"""Depthwise windows written as LLVM IR: each channel has taps of its own, so there is no tile of several rows."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic, overload

from mindfl.lite.kernels import primitives
from mindfl.lite.kernels.emitter import I64, LANES, Emitter
from mindfl.lite.kernels.primitives import VECTOR
from mindfl.lite.kernels.products import reduction_tile

#: taps of the usual window, whose sums fit the registers together
_TAPS = 9
_nine_taps = reduction_tile(1, _TAPS)


@intrinsic
def _channels(
    typing: Any, arena: Any, table: Any, x: Any, weight: Any, tap_step: Any, taps_table: Any, taps: Any, y: Any,
    channels: Any, lanes: Any, start: Any, floor: Any,
) -> Any:  # fmt: skip
    return types.void(arena, table, *[types.int64] * 9, types.float32), _emit_channels


@overload(primitives.window_product, strict=False)
def _window_product(
    arena: Any, table: Any, x: Any, weight: Any, tap_step: Any, taps_table: Any, taps: Any, y: Any, channels: Any,
    lanes: Any, start: Any, floor: Any,
) -> Any:  # fmt: skip
    return lambda arena, table, x, weight, tap_step, taps_table, taps, y, channels, lanes, start, floor: _channels(
        arena, table, x, weight, tap_step, taps_table, taps, y, channels, lanes, start, floor
    )


def _emit_channels(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    arena, table, x, weight, tap_step, taps_table, taps, y, channels, lanes, start, floor = arguments
    emit = Emitter(context, builder, signature.args[0], arena)
    offsets = emit.data(signature.args[1], table)
    lowest = emit.splat(floor)
    biased = builder.icmp_signed(">=", start, I64(0))

    def channel(number: Any, state: list[Any]) -> list[Any]:
        shift = builder.mul(number, lanes)
        first = emit.add(weight, builder.mul(number, taps))
        bias = builder.select(biased, emit.add(start, number), first)
        begin = builder.select(biased, emit.splat(emit.scalar(bias)), ir.Constant(LANES, [0.0] * VECTOR))

        def vectors(lane: Any, count: int) -> None:
            source, target = (emit.add(emit.add(place, shift), lane) for place in (x, y))

            def tap(index: Any, sums: list[Any]) -> list[Any]:
                row = emit.add(source, emit.entry(offsets, emit.add(taps_table, index)))
                factor = emit.splat(emit.scalar(emit.add(first, builder.mul(index, tap_step))))
                return [emit.fma(factor, emit.load(emit.add(row, v * VECTOR)), sums[v]) for v in range(count)]

            for v, total in enumerate(emit.loop(taps, [begin] * count, tap)):
                below = builder.fcmp_ordered("<", total, lowest)
                emit.store(builder.select(below, lowest, total), emit.add(target, v * VECTOR))

        pairs = builder.sdiv(lanes, I64(2 * VECTOR))
        with builder.if_then(builder.icmp_signed(">", pairs, I64(0))):

            def pair(index: Any, nothing: list[Any]) -> list[Any]:
                vectors(emit.times(index, 2 * VECTOR), 2)
                return nothing

            emit.loop(pairs, [], pair)
        done = emit.times(pairs, 2 * VECTOR)
        with builder.if_then(builder.icmp_signed("<", done, lanes)):
            vectors(done, 1)
        return state

    emit.loop(channels, [], channel)
    return context.get_dummy_value()


@overload(primitives.window_reduction, strict=False)
def _window_reduction(
    arena: Any, table: Any, d: Any, dp: Any, x: Any, xp: Any, xt: Any, count: Any, out: Any, taps: Any, sums: Any,
    first: Any, last: Any,
) -> Any:  # fmt: skip
    def window_reduction(
        arena: Any, table: Any, d: Any, dp: Any, x: Any, xp: Any, xt: Any, count: Any, out: Any, taps: Any, sums: Any,
        first: Any, last: Any,
    ) -> None:  # fmt: skip
        if taps == _TAPS:
            _nine_taps(arena, table, d, 0, dp, x, xp, xt, count, out, taps, sums, first, last)
        else:
            primitives.reduction(arena, table, d, 0, dp, x, xp, xt, count, out, taps, sums, first, last, 1)

    return window_reduction
