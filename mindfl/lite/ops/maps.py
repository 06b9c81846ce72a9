"""Kernels that compute a function of each element, and layouts for them.

A kernel belongs to the family (the module) of its function.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from mindfl.lite.ops.registry import Kernel, helper, instruction, need
from mindfl.lite.program import Dims, Value, alike

if TYPE_CHECKING:
    from mindfl.lite.model import Node
    from mindfl.lite.plan import Plan


def _of_one(function: Callable[[Any], Any]) -> Kernel:
    def kernel(arena: Any, table: Any, i: Any) -> None:
        x, y = arena[i[1] : i[1] + i[3]], arena[i[2] : i[2] + i[3]]
        for n in range(x.size):
            y[n] = function(x[n])

    return kernel


def _of_one_and_number(function: Callable[[Any, Any], Any]) -> Kernel:
    def kernel(arena: Any, table: Any, i: Any) -> None:
        x, y, number = arena[i[1] : i[1] + i[3]], arena[i[2] : i[2] + i[3]], arena[i[4]]
        for n in range(x.size):
            y[n] = function(x[n], number)

    return kernel


def _of_two(function: Callable[[Any, Any], Any]) -> Kernel:
    def kernel(arena: Any, table: Any, i: Any) -> None:
        a, b, y = arena[i[1] : i[1] + i[4]], arena[i[2] : i[2] + i[4]], arena[i[3] : i[3] + i[4]]
        for n in range(a.size):
            y[n] = function(a[n], b[n])

    return kernel


def _of_two_and_number(function: Callable[[Any, Any, Any], Any]) -> Kernel:
    def kernel(arena: Any, table: Any, i: Any) -> None:
        a, b, y = arena[i[1] : i[1] + i[4]], arena[i[2] : i[2] + i[4]], arena[i[3] : i[3] + i[4]]
        number = arena[i[5]]
        for n in range(a.size):
            y[n] = function(a[n], b[n], number)

    return kernel


_FORMS: dict[str, Callable[[Any], Kernel]] = {
    "x y size": _of_one,
    "x y size number": _of_one_and_number,
    "a b y size": _of_two,
    "a b y size number": _of_two_and_number,
}


#: operands of the instructions that :func:`mapping` registers
MAPS = frozenset(tuple(operands.split()) for operands in _FORMS)


def mapping(name: str, operands: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register an instruction that computes ``y`` by a function of each element of ``x``, or of ``a`` and ``b``.

    ``number`` is the place of a further argument.
    """

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        kernel = _FORMS[operands](helper(function))
        kernel.__module__ = function.__module__
        instruction(name, operands, error_model="numpy")(kernel)
        return function

    return register


def new_value(plan: Plan, dims: Dims, *, batched: bool) -> Value:
    """Return a new value in either layout."""
    return plan.new_batch(dims) if batched else plan.new_parameter(dims)


def floats(plan: Plan, value: Value) -> int:
    """Return how many floats a value has in memory, those of the lanes behind the batch with it."""
    return value.size * (plan.lanes if value.batched else 1)


def clear_lanes(plan: Plan, value: Value) -> None:
    """Emit zeros for the lanes behind the batch, where an operator may have put an infinity or NaN."""
    if value.batched:
        plan.clear_lanes(value)


def side_by_side(plan: Plan, node: Node, places: tuple[int, ...]) -> list[Value]:
    """Return inputs of one shape in one layout: batch-last if any lies so and the others can."""
    values = [plan.value(node.inputs[place]) for place in places]
    if any(value.batched for value in values):
        moved = [plan.batch_last(node.inputs[place]) for place in places]
        found = [value for value in moved if value is not None]
        values = found if len(found) == len(places) else [plan.plain(node, place) for place in places]
    dims = [value.dims for value in values]
    need(all(alike(each, dims[0]) for each in dims), node, f"shapes {' and '.join(map(str, dims))}")
    return values


def like(plan: Plan, node: Node, value: Value, output: int = 0) -> Value:
    """Keep a new value of the shape and layout of ``value`` as an output of a node."""
    return plan.keep(node.outputs[output], new_value(plan, value.dims, batched=value.batched))
