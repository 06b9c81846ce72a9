"""Max-pooling over one window of all channels and samples at once, written as LLVM IR.

Which position holds a maximum depends on the data, so compiled branches would be mispredicted; here everything is
compared and selected in registers.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from mindfl.lite.kernels.emitter import BYTES, FLOAT, I32, I64, LANES, NUMBERS, VECTOR, Emitter

_NO_PLACE = 255
_SMALLEST = 2.0**-149
"""The smallest positive float32: below it lies what is not positive."""


@intrinsic
def window_maximum(
    typing: Any,
    arena: Any,
    x: Any,
    row_step: Any,
    column_step: Any,
    rows: Any,
    columns: Any,
    y: Any,
    index: Any,
    shift: Any,
    masked: Any,
    run: Any,
) -> Any:
    """``arena[y + n] = max over r, c of arena[x + r*row_step + c*column_step + n]`` for n below ``run``.

    Unless ``index`` is negative, byte ``shift + n`` behind it becomes the number ``r*columns + c`` of the first
    maximum, or 255 where ``masked`` and the maximum is not positive.
    """
    signature = types.void(arena, *[types.int64] * 10)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        arena, x, row_step, column_step, rows, columns, y, index, shift, masked, run = arguments
        emit = Emitter(context, builder, signature.args[0], arena)
        lowest, smallest = ir.Constant(FLOAT, float("-inf")), ir.Constant(FLOAT, _SMALLEST)
        floor = emit.splat(builder.select(builder.icmp_signed("!=", masked, I64(0)), smallest, lowest))

        def vector(block: Any, state: list[Any]) -> list[Any]:
            n = emit.times(block, VECTOR)
            corner = emit.add(x, n)

            def row(r: Any, state: list[Any]) -> list[Any]:
                def column(c: Any, state: list[Any]) -> list[Any]:
                    highest, place, number = state
                    offset = emit.add(builder.mul(r, row_step), builder.mul(c, column_step))
                    value = emit.load(emit.add(corner, offset))
                    kept = builder.fcmp_ordered("<=", value, highest)
                    here = emit.splat(number)
                    return [
                        builder.select(kept, highest, value),
                        builder.select(kept, place, here),
                        builder.add(number, I32(1)),
                    ]

                return emit.loop(columns, state, column)

            start = [emit.load(corner), ir.Constant(NUMBERS, [0] * VECTOR), I32(0)]
            highest, place, _ = emit.loop(rows, start, row)
            emit.store(highest, emit.add(y, n))
            with builder.if_then(builder.icmp_signed(">=", index, I64(0))):
                none = ir.Constant(NUMBERS, [_NO_PLACE] * VECTOR)
                place = builder.select(builder.fcmp_ordered("<", highest, floor), none, place)
                builder.store(builder.trunc(place, BYTES), emit.bytes_at(index, emit.add(shift, n)), align=1)
            return []

        emit.loop(builder.sdiv(run, I64(VECTOR)), [], vector)
        return context.get_dummy_value()

    return signature, generate


@intrinsic
def window_gradient(
    typing: Any,
    arena: Any,
    dy: Any,
    index: Any,
    shift: Any,
    dx: Any,
    row_step: Any,
    column_step: Any,
    rows: Any,
    columns: Any,
    added: Any,
    run: Any,
) -> Any:
    """Give ``arena[dy + n]`` to the window position whose number stands at byte ``shift + n`` behind ``index``.

    The other positions get zero; with ``added`` the values are added to what is there.
    """
    signature = types.void(arena, *[types.int64] * 10)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        arena, dy, index, shift, dx, row_step, column_step, rows, columns, added, run = arguments
        emit = Emitter(context, builder, signature.args[0], arena)
        zero = ir.Constant(LANES, [0.0] * VECTOR)

        def vector(block: Any, state: list[Any]) -> list[Any]:
            n = emit.times(block, VECTOR)
            gradient = emit.load(emit.add(dy, n))
            place = builder.zext(builder.load(emit.bytes_at(index, emit.add(shift, n)), align=1), NUMBERS)
            corner = emit.add(dx, n)

            def row(r: Any, state: list[Any]) -> list[Any]:
                def column(c: Any, state: list[Any]) -> list[Any]:
                    (number,) = state
                    target = emit.add(corner, emit.add(builder.mul(r, row_step), builder.mul(c, column_step)))
                    here = builder.icmp_signed("==", place, emit.splat(number))
                    share = builder.select(here, gradient, zero)
                    with builder.if_else(builder.icmp_signed("!=", added, I64(0))) as (adding, setting):
                        with adding:
                            emit.store(builder.fadd(emit.load(target), share), target)
                        with setting:
                            emit.store(share, target)
                    return [builder.add(number, I32(1))]

                return emit.loop(columns, state, column)

            emit.loop(rows, [I32(0)], row)
            return []

        emit.loop(builder.sdiv(run, I64(VECTOR)), [], vector)
        return context.get_dummy_value()

    return signature, generate
