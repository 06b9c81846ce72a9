"""Threads that wait for each other in compiled code, without the interpreter."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic, overload

from mindfl.lite.kernels import primitives
from mindfl.lite.kernels.emitter import I32, I64

#: looks at the counter before the processor is offered to other threads: some microseconds
_LOOKS = 2000


@intrinsic
def _count_in(typing: Any, counter: Any) -> Any:
    """Return how often this was called with the address of a counter, this call included."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        place = builder.inttoptr(arguments[0], I64.as_pointer())
        return builder.add(builder.atomic_rmw("add", place, I64(1), "acq_rel"), I64(1))

    return types.int64(types.int64), generate


@intrinsic
def _counted(typing: Any, counter: Any) -> Any:
    """Return the present value of a counter."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        place = builder.inttoptr(arguments[0], I64.as_pointer())
        return builder.load_atomic(place, "acquire", 8)

    return types.int64(types.int64), generate


@intrinsic
def _give_way(typing: Any) -> Any:
    """Let another thread have the processor."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = ir.FunctionType(I32, [])
        known = builder.module.globals.get("sched_yield")
        builder.call(known or ir.Function(builder.module, kind, "sched_yield"), [])
        return context.get_dummy_value()

    return types.void(), generate


@overload(primitives.meet)
def _meet(counter: Any, threads: Any) -> Any:
    def meet(counter: Any, threads: Any) -> None:
        before = _count_in(counter) - 1
        wanted, looks = before - before % threads + threads, 0
        while _counted(counter) < wanted:
            looks += 1
            if looks > _LOOKS:
                _give_way()

    return meet
