"""Functions of single elements, such as roots, exponentials and logarithms, and the gradients that files have."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from mindfl.lite.ops.arithmetic import broadcast_dims, expanded, operands, pairwise
from mindfl.lite.ops.maps import clear_lanes, floats, like, mapping, new_value, side_by_side
from mindfl.lite.ops.registry import instruction, need, operator
from mindfl.lite.ops.vector_math import error_function, exponential, logarithm
from mindfl.lite.program import Dims, Value, alike

if TYPE_CHECKING:
    from mindfl.lite.model import Node
    from mindfl.lite.plan import Plan

_F = np.float32
_ZERO, _HALF, _ONE = _F(0), _F(0.5), _F(1)


def _function(name: str) -> Callable[[Plan, Node], None]:
    """Return the lowering of an operator on one operand."""

    def lower(plan: Plan, node: Node) -> None:
        x = plan.value(node.inputs[0])
        apply(plan, name, x, like(plan, node, x))

    return lower


def apply(plan: Plan, name: str, x: Value, y: Value) -> None:
    """Emit ``y = name(x)``, an instruction on one operand."""
    plan.builder.emit(name, x=x.offset, y=y.offset, size=floats(plan, x))
    clear_lanes(plan, y)


def _gradient(name: str) -> Callable[[Plan, Node], None]:
    """Return the lowering of the gradient of an operator on one operand, in the order of the file's inputs."""

    def lower(plan: Plan, node: Node) -> None:
        a, b = side_by_side(plan, node, (0, 1))
        dx = like(plan, node, a)
        plan.builder.emit(name, a=a.offset, b=b.offset, y=dx.offset, size=floats(plan, a))
        clear_lanes(plan, dx)

    return lower


@mapping("ABS", "x y size")
def _abs(x: Any) -> Any:
    return -x if x <= _ZERO else x


@mapping("NEGATIVE", "x y size")
def _negative(x: Any) -> Any:
    return -x


@mapping("SQUARE", "x y size")
def _square(x: Any) -> Any:
    return x * x


@mapping("ROOT", "x y size")
def _root(x: Any) -> Any:
    return _F(np.sqrt(x))


@mapping("INVERSE_ROOT", "x y size")
def _inverse_root(x: Any) -> Any:
    return _ONE / _F(np.sqrt(x))


@mapping("INVERSE", "x y size")
def _inverse(x: Any) -> Any:
    return _ONE / x


@mapping("EXPONENTIAL", "x y size")
def _exponential(x: Any) -> Any:
    return exponential(x)


@mapping("LOGARITHM", "x y size")
def _logarithm(x: Any) -> Any:
    return logarithm(x)


@mapping("LOGARITHM_OF_ONE_MORE", "x y size")
def _logarithm_of_one_more(x: Any) -> Any:
    return logarithm(_ONE + x)


@mapping("ERROR_FUNCTION", "x y size")
def _error_function(x: Any) -> Any:
    return error_function(x)


@mapping("COSINE", "x y size")
def _cosine(x: Any) -> Any:
    return _F(math.cos(x))


@mapping("SINE", "x y size")
def _sine(x: Any) -> Any:
    return _F(math.sin(x))


@mapping("FLOOR", "x y size")
def _floor(x: Any) -> Any:
    return _F(np.floor(x))


@mapping("CEILING", "x y size")
def _ceiling(x: Any) -> Any:
    return _F(np.ceil(x))


@mapping("ROUNDED", "x y size")
def _rounded(x: Any) -> Any:
    return _F(np.rint(x))


@mapping("NOT", "x y size")
def _not(x: Any) -> Any:
    return _ONE if x == _ZERO else _ZERO


@mapping("IS_FINITE", "x y size")
def _is_finite(x: Any) -> Any:
    return _ONE if x - x == _ZERO else _ZERO


@mapping("WHOLE", "x y size")
def _whole(x: Any) -> Any:
    return _F(np.trunc(x))


@mapping("ABS_GRAD", "a b y size")
def _abs_grad(x: Any, dy: Any) -> Any:
    return dy if x > _ZERO else (-dy if x < _ZERO else _ZERO)


@mapping("ROOT_GRAD", "a b y size")
def _root_grad(y: Any, dy: Any) -> Any:
    return _HALF * dy / y


@mapping("INVERSE_ROOT_GRAD", "a b y size")
def _inverse_root_grad(y: Any, dy: Any) -> Any:
    return -_HALF * dy * (y * y * y)


@mapping("LOGARITHM_GRAD", "a b y size")
def _logarithm_grad(dy: Any, x: Any) -> Any:
    return dy / x


operator("1 Abs")(_function("ABS"))
operator("101 Neg", "102 NegGrad")(_function("NEGATIVE"))
operator("148 Square")(_function("SQUARE"))
operator("146 Sqrt")(_function("ROOT"))
operator("126 Rsqrt")(_function("INVERSE_ROOT"))
operator("116 Reciprocal")(_function("INVERSE"))
operator("79 Log")(_function("LOGARITHM"))
operator("212 Log1p")(_function("LOGARITHM_OF_ONE_MORE"))
operator("178 Erf")(_function("ERROR_FUNCTION"))
operator("37 Cos")(_function("COSINE"))
operator("133 Sin")(_function("SINE"))
operator("63 Floor")(_function("FLOOR"))
operator("29 Ceil")(_function("CEILING"))
operator("125 Round")(_function("ROUNDED"))
operator("82 LogicalNot")(_function("NOT"))
operator("180 IsFinite")(_function("IS_FINITE"))
operator("183 AbsGrad", inputs=2)(_gradient("ABS_GRAD"))
operator("185 SqrtGrad", inputs=2)(_gradient("ROOT_GRAD"))
operator("184 RsqrtGrad", inputs=2)(_gradient("INVERSE_ROOT_GRAD"))
operator("80 LogGrad", inputs=2)(_gradient("LOGARITHM_GRAD"))


@operator("55 ExpFusion base:f=-1 scale:f=1 shift:f")
def _power_of_a_base(plan: Plan, node: Node) -> None:
    """base**(scale * x + shift); a base of -1 stands for e."""
    x, base = plan.value(node.inputs[0]), node.real("base")
    need(base == -1 or base > 0, node, f"the base {base}")
    y = like(plan, node, x)
    factor = 1.0 if base == -1 else math.log(base)
    source = _scaled(plan, x, y, node.real("scale") * factor, node.real("shift") * factor)
    apply(plan, "EXPONENTIAL", source, y)


def _scaled(plan: Plan, x: Value, y: Value, scale: float, shift: float) -> Value:
    """Return ``scale * x + shift``, computed in the place of ``y`` unless it is x."""
    for name, number, neutral in (("PRODUCT", scale, 1.0), ("SUM_OF", shift, 0.0)):
        if number != neutral:
            pairwise(plan, name, x, number_of(plan, number), y)
            x = y
    return x


def number_of(plan: Plan, number: float) -> Value:
    """Return a number that is an attribute of an operator as a value."""
    return Value(plan.literal(number), (), False)


@operator("110 PowFusion scale:f=1 shift:f", inputs=2)
def _power(plan: Plan, node: Node) -> None:
    """(scale * x + shift)**exponent."""
    x, exponent = operands(plan, node, (0, 1))
    y = new_value(plan, broadcast_dims(node, x, exponent), batched=x.batched or exponent.batched)
    y = plan.keep(node.outputs[0], y)
    if (node.real("scale"), node.real("shift")) != (1.0, 0.0):
        x = _scaled(plan, x, new_value(plan, x.dims, batched=x.batched), node.real("scale"), node.real("shift"))
    known = plan.tensor(node.inputs[1]).number
    if known in _POWERS:
        apply(plan, _POWERS[known], x, y)
    else:
        pairwise(plan, "POWER", x, exponent, y)


#: exponents with an instruction of their own
_POWERS = {2.0: "SQUARE", 0.5: "ROOT", -1.0: "INVERSE"}


@operator("109 PowerGrad power:f scale:f shift:f", inputs=2)
def _power_grad(plan: Plan, node: Node) -> None:
    """dy * power * scale * (scale * x + shift)**(power - 1)."""
    dy, x = side_by_side(plan, node, (0, 1))
    dx = like(plan, node, dy)
    power, scale = node.real("power"), node.real("scale")
    source = _scaled(plan, x, dx, scale, node.real("shift"))
    pairwise(plan, "POWER", source, number_of(plan, power - 1), dx)
    pairwise(plan, "PRODUCT", dx, number_of(plan, power * scale), dx)
    pairwise(plan, "PRODUCT", dx, dy, dx)


@operator("30 Clip max:f min:f")
def _clip(plan: Plan, node: Node) -> None:
    """Limits are attributes, or further inputs."""
    x = plan.value(node.inputs[0])
    y = like(plan, node, x)
    limits = [plan.value(tensor) for tensor in node.inputs[1:3]]
    need(all(limit.size == 1 and not limit.batched for limit in limits), node, "limits that are no numbers")
    low, high = limits if len(limits) == 2 else (number_of(plan, node.real(name)) for name in ("min", "max"))
    pairwise(plan, "LARGER", x, low, y)
    pairwise(plan, "SMALLER", y, high, y)


@operator("28 Cast")
def _cast(plan: Plan, node: Node) -> None:
    """Numbers of every type are held as float32: to a whole number the fraction is cut off, a flag becomes 0 or 1."""
    source, target = plan.tensor(node.inputs[0]).dtype, plan.tensor(node.outputs[0]).dtype
    need(target != np.float16, node, "numbers of float16")
    x = plan.value(node.inputs[0])
    if target == np.bool_ and source != np.bool_:
        zero = number_of(plan, 0.0)
        pairwise(plan, "DIFFERENT", x, zero, like(plan, node, x))
    elif source == np.float32 and target in (np.dtype(np.int32), np.dtype(np.int64)):
        apply(plan, "WHOLE", x, like(plan, node, x))
    else:
        plan.keep(node.outputs[0], x)


def _filled_like(number: float) -> Callable[[Plan, Node], None]:
    """Return the lowering of an operator that fills the shape of another tensor with a number."""

    def lower(plan: Plan, node: Node) -> None:
        y = plan.keep(node.outputs[0], plan.new_parameter(plan.tensor(node.inputs[0]).dims))
        expanded(plan, number_of(plan, number), y, y.dims)

    return lower


operator("106 OnesLike")(_filled_like(1.0))
operator("169 ZerosLike")(_filled_like(0.0))


@operator("170 Select", inputs=3)
def _select(plan: Plan, node: Node) -> None:
    """y = a where the condition holds, else b; all broadcast."""
    values = operands(plan, node, (0, 1, 2))
    dims = broadcast_dims(node, *values)
    y = plan.keep(node.outputs[0], new_value(plan, dims, batched=any(value.batched for value in values)))
    whole = [_whole_value(plan, value, dims, batched=y.batched) for value in values]
    condition, a, b = (value.offset for value in whole)
    plan.builder.emit("SELECT", condition=condition, a=a, b=b, y=y.offset, size=floats(plan, y))


def _whole_value(plan: Plan, value: Value, dims: Dims, *, batched: bool) -> Value:
    """Return a value repeated to a shape, in a layout."""
    if value.batched == batched and alike(value.dims, dims):
        return value
    y = new_value(plan, dims, batched=batched)
    expanded(plan, value, y, dims)
    return y


@instruction("SELECT", "condition a b y size")
def select_kernel(arena: Any, table: Any, i: Any) -> None:
    """y = a where the condition is not 0, else b."""
    size = i[5]
    condition, y = arena[i[1] : i[1] + size], arena[i[4] : i[4] + size]
    a, b = arena[i[2] : i[2] + size], arena[i[3] : i[3] + size]
    for n in range(size):
        y[n] = a[n] if condition[n] != _ZERO else b[n]
