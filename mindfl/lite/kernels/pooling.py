"""Max-pooling over one window of all channels and samples at once, written as LLVM IR.

Which position holds a maximum depends on the data, so compiled branches would be mispredicted; here everything is
compared and selected in registers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from llvmlite import ir
from numba import types
from numba.extending import intrinsic, overload

from mindfl.lite.kernels import primitives
from mindfl.lite.kernels.emitter import BYTES, FLOAT, I32, I64, LANES, NUMBERS, Emitter
from mindfl.lite.kernels.primitives import VECTOR

_NO_PLACE = 255
#: the smallest positive float32: all smaller values are not positive
_SMALLEST = 2.0**-149


@intrinsic
def _maximum(
    typing: Any, arena: Any, x: Any, row_step: Any, column_step: Any, rows: Any, columns: Any, y: Any, index: Any,
    shift: Any, masked: Any, run: Any,
) -> Any:  # fmt: skip
    return types.void(arena, *[types.int64] * 10), _emit_maximum


@overload(primitives.window_maximum, strict=False)
def _window_maximum(
    arena: Any, x: Any, row_step: Any, column_step: Any, rows: Any, columns: Any, y: Any, index: Any, shift: Any,
    masked: Any, run: Any,
) -> Any:  # fmt: skip
    return lambda arena, x, row_step, column_step, rows, columns, y, index, shift, masked, run: _maximum(
        arena, x, row_step, column_step, rows, columns, y, index, shift, masked, run
    )


@intrinsic
def _gradient(
    typing: Any, arena: Any, dy: Any, index: Any, shift: Any, dx: Any, row_step: Any, column_step: Any, rows: Any,
    columns: Any, added: Any, run: Any,
) -> Any:  # fmt: skip
    return types.void(arena, *[types.int64] * 10), _emit_gradient


@overload(primitives.window_gradient, strict=False)
def _window_gradient(
    arena: Any, dy: Any, index: Any, shift: Any, dx: Any, row_step: Any, column_step: Any, rows: Any, columns: Any,
    added: Any, run: Any,
) -> Any:  # fmt: skip
    return lambda arena, dy, index, shift, dx, row_step, column_step, rows, columns, added, run: _gradient(
        arena, dy, index, shift, dx, row_step, column_step, rows, columns, added, run
    )


class _Window(NamedTuple):
    """The positions of a window: integers known when the code runs."""

    rows: Any
    columns: Any
    row_step: Any
    column_step: Any


#: (offset of a position, its number, state) -> state for the next position
_Visit = Callable[[Any, Any, list[Any]], list[Any]]


def _emit_maximum(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    arena, x, row_step, column_step, rows, columns, y, index, shift, masked, run = arguments
    emit = Emitter(context, builder, signature.args[0], arena)
    window = _Window(rows, columns, row_step, column_step)
    lowest, smallest = ir.Constant(FLOAT, float("-inf")), ir.Constant(FLOAT, _SMALLEST)
    floor = emit.splat(builder.select(builder.icmp_signed("!=", masked, I64(0)), smallest, lowest))

    def vector(n: Any) -> None:
        highest, place = _first_maximum(emit, window, emit.add(x, n))
        emit.store(highest, emit.add(y, n))
        with builder.if_then(builder.icmp_signed(">=", index, I64(0))):
            none = ir.Constant(NUMBERS, [_NO_PLACE] * VECTOR)
            place = builder.select(builder.fcmp_ordered("<", highest, floor), none, place)
            builder.store(builder.trunc(place, BYTES), emit.bytes_at(index, emit.add(shift, n)), align=1)

    emit.each_vector(run, vector)
    return context.get_dummy_value()


def _first_maximum(emit: Emitter, window: _Window, corner: Any) -> list[Any]:
    """Return the maxima over the window that begins at ``corner``, and the numbers of their first positions."""

    def visit(offset: Any, number: Any, state: list[Any]) -> list[Any]:
        highest, place = state
        value = emit.load(offset)
        kept = emit.builder.fcmp_ordered("<=", value, highest)
        here = emit.splat(number)
        return [emit.builder.select(kept, highest, value), emit.builder.select(kept, place, here)]

    return _each_position(emit, window, corner, [emit.load(corner), ir.Constant(NUMBERS, [0] * VECTOR)], visit)


def _emit_gradient(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    arena, dy, index, shift, dx, row_step, column_step, rows, columns, added, run = arguments
    emit = Emitter(context, builder, signature.args[0], arena)
    window = _Window(rows, columns, row_step, column_step)

    def vector(n: Any) -> None:
        gradient = emit.load(emit.add(dy, n))
        place = builder.zext(builder.load(emit.bytes_at(index, emit.add(shift, n)), align=1), NUMBERS)
        _distribute(emit, window, emit.add(dx, n), gradient, place, added)

    emit.each_vector(run, vector)
    return context.get_dummy_value()


def _distribute(emit: Emitter, window: _Window, corner: Any, gradient: Any, place: Any, added: Any) -> None:
    """Store, or add where ``added``, the gradient at the position with the number ``place``, zero at the others."""
    builder = emit.builder
    zero = ir.Constant(LANES, [0.0] * VECTOR)

    def visit(offset: Any, number: Any, state: list[Any]) -> list[Any]:
        here = builder.icmp_signed("==", place, emit.splat(number))
        share = builder.select(here, gradient, zero)
        with builder.if_else(builder.icmp_signed("!=", added, I64(0))) as (adding, setting):
            with adding:
                emit.store(builder.fadd(emit.load(offset), share), offset)
            with setting:
                emit.store(share, offset)
        return state

    _each_position(emit, window, corner, [], visit)


def _each_position(emit: Emitter, window: _Window, corner: Any, initial: list[Any], visit: _Visit) -> list[Any]:
    """Visit the positions of the window at ``corner`` row by row, counting them; return the state after the last."""
    builder = emit.builder

    def row(r: Any, state: list[Any]) -> list[Any]:
        def position(c: Any, state: list[Any]) -> list[Any]:
            *others, number = state
            shift = emit.add(builder.mul(r, window.row_step), builder.mul(c, window.column_step))
            return [*visit(emit.add(corner, shift), number, others), builder.add(number, I32(1))]

        return emit.loop(window.columns, state, position)

    return emit.loop(window.rows, [*initial, I32(0)], row)[:-1]
