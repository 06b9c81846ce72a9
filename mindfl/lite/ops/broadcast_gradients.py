"""Gradients of arithmetic on two arrays that were broadcast: of each, summed over the axes along which it was repeated.

Files that MindSpore converts hold these written out; this is for files of other programs. All is computed plain.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from mindfl.lite.ops.arithmetic import pairwise
from mindfl.lite.ops.functions import apply
from mindfl.lite.ops.reductions import SUM, reduce
from mindfl.lite.ops.registry import need, operator
from mindfl.lite.program import Value, alike, broadcast, padded

if TYPE_CHECKING:
    from mindfl.lite.model import Node
    from mindfl.lite.plan import Plan

#: returns the gradients of a and b, in the shape of dy
Slopes = Callable[["Plan", Value, Value, Value], tuple[Value, Value]]


def _gradient(places: tuple[int, int, int], slopes: Slopes) -> Callable[[Plan, Node], None]:
    """Return the lowering of a gradient whose inputs dy, a and b stand at these places."""

    def lower(plan: Plan, node: Node) -> None:
        dy, a, b = (plan.plain(node, place) for place in places)
        whole = broadcast(a.dims, b.dims)
        need(whole is not None and alike(whole, dy.dims), node, f"shapes {a.dims}, {b.dims} and {dy.dims}")
        dy = Value(dy.offset, whole or (), False)
        for output, operand, slope in zip(node.outputs, (a, b), slopes(plan, dy, a, b), strict=False):
            dims = padded(operand.dims, len(dy.dims))
            repeated = {axis for axis, dim in enumerate(dims) if dim != dy.dims[axis]}
            if repeated:
                reduce(plan, slope, repeated, SUM, output)
            else:
                plan.keep(output, slope)

    return lower


def _new(plan: Plan, name: str, a: Value, b: Value, dy: Value) -> Value:
    """Return what an instruction computes of two values, in the shape of dy."""
    y = plan.new_parameter(dy.dims)
    pairwise(plan, name, a, b, y, dy.dims)
    return y


def _negative(plan: Plan, x: Value) -> Value:
    y = plan.new_parameter(x.dims)
    apply(plan, "NEGATIVE", x, y)
    return y


def _of_sum(plan: Plan, dy: Value, a: Value, b: Value) -> tuple[Value, Value]:
    return dy, dy


def _of_difference(plan: Plan, dy: Value, a: Value, b: Value) -> tuple[Value, Value]:
    return dy, _negative(plan, dy)


def _of_product(plan: Plan, dy: Value, a: Value, b: Value) -> tuple[Value, Value]:
    return _new(plan, "PRODUCT", dy, b, dy), _new(plan, "PRODUCT", dy, a, dy)


def _of_quotient(plan: Plan, dy: Value, a: Value, b: Value) -> tuple[Value, Value]:
    """dy/b and -dy * a/b**2."""
    first = _new(plan, "QUOTIENT", dy, b, dy)
    second = _new(plan, "QUOTIENT", _new(plan, "PRODUCT", first, a, dy), b, dy)
    return first, _negative(plan, second)


def _of_choice(name: str) -> Slopes:
    """Return the gradients of an operator that takes ``a`` where ``name(a, b)`` holds, else b."""

    def slopes(plan: Plan, dy: Value, a: Value, b: Value) -> tuple[Value, Value]:
        pair = (b, a) if name == "LESS" else (a, b)
        first = _new(plan, "PRODUCT", dy, _new(plan, "GREATER", *pair, dy), dy)
        return first, _new(plan, "DIFFERENCE", dy, first, dy)

    return slopes


operator("7 AddGrad", inputs=3, outputs=2)(_gradient((0, 1, 2), _of_sum))
operator("153 SubGrad", inputs=3, outputs=2)(_gradient((0, 1, 2), _of_difference))
operator("100 MulGrad", inputs=3, outputs=2)(_gradient((0, 1, 2), _of_product))
operator("48 DivGrad", inputs=3, outputs=2)(_gradient((0, 1, 2), _of_quotient))
operator("91 MaximumGrad grad_x:? grad_y:?", inputs=3, outputs=2)(_gradient((2, 0, 1), _of_choice("GREATER")))
operator("97 MinimumGrad grad_x:? grad_y:?", inputs=3, outputs=2)(_gradient((2, 0, 1), _of_choice("LESS")))
