"""Blocks of 16 x 16 floats transposed in registers, lanes cleared, and memory fetched ahead, written as LLVM IR."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic, overload

from mindfl.lite.kernels import primitives
from mindfl.lite.kernels.emitter import I8, I32, I64, LANES, Emitter
from mindfl.lite.kernels.primitives import VECTOR


@intrinsic
def _turned(typing: Any, arena: Any, x: Any, x_step: Any, y: Any, y_step: Any, count: Any) -> Any:
    return types.void(arena, *[types.int64] * 5), _emit_turned


@overload(primitives.turned_block, strict=False)
def _turned_block(arena: Any, x: Any, x_step: Any, y: Any, y_step: Any, count: Any) -> Any:
    return lambda arena, x, x_step, y, y_step, count: _turned(arena, x, x_step, y, y_step, count)


def _emit_turned(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    arena, x, x_step, y, y_step, count = arguments
    emit = Emitter(context, builder, signature.args[0], arena)
    rows = [emit.load(emit.add(x, builder.mul(x_step, I64(row)))) for row in range(VECTOR)]
    for column, vector in enumerate(emit.transposed(rows)):
        with builder.if_then(builder.icmp_signed("<", I64(column), count)):
            emit.store(vector, emit.add(y, builder.mul(y_step, I64(column))))
    return context.get_dummy_value()


@intrinsic
def _clear(typing: Any, arena: Any, y: Any, rows: Any, count: Any, lanes: Any) -> Any:
    return types.void(arena, *[types.int64] * 4), _emit_clear


@overload(primitives.clear_lanes, strict=False)
def _clear_lanes(arena: Any, y: Any, rows: Any, count: Any, lanes: Any) -> Any:
    return lambda arena, y, rows, count, lanes: _clear(arena, y, rows, count, lanes)


def _emit_clear(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    arena, y, rows, count, lanes = arguments
    emit = Emitter(context, builder, signature.args[0], arena)
    zero = ir.Constant(LANES, [0.0] * VECTOR)
    whole = builder.sdiv(count, I64(VECTOR))

    def vector(number: Any, state: list[Any]) -> list[Any]:
        start = emit.times(emit.add(whole, number), VECTOR)
        kept = emit.first_lanes(builder.sub(count, start))
        cleared = builder.not_(kept)

        def row(number: Any, state: list[Any]) -> list[Any]:
            emit.store_masked(zero, emit.add(emit.add(y, start), builder.mul(number, lanes)), cleared)
            return state

        emit.loop(rows, [], row)
        return state

    emit.loop(builder.sub(builder.sdiv(lanes, I64(VECTOR)), whole), [], vector)
    return context.get_dummy_value()


@intrinsic
def _fetch(typing: Any, arena: Any, start: Any, count: Any) -> Any:
    return types.void(arena, types.int64, types.int64), _emit_fetch


@overload(primitives.fetch, strict=False)
def _fetched(arena: Any, start: Any, count: Any) -> Any:
    return lambda arena, start, count: _fetch(arena, start, count)


def _emit_fetch(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    arena, start, count = arguments
    emit = Emitter(context, builder, signature.args[0], arena)
    kind = ir.FunctionType(ir.VoidType(), [I8.as_pointer(), I32, I32, I32])
    name = "llvm.prefetch.p0"
    prefetch = builder.module.globals.get(name) or ir.Function(builder.module, kind, name)

    def line(offset: Any) -> None:
        place = builder.bitcast(builder.gep(emit.base, [emit.add(start, offset)]), I8.as_pointer())
        builder.call(prefetch, [place, I32(0), I32(2), I32(1)])

    emit.each_vector(count, line)
    return context.get_dummy_value()
