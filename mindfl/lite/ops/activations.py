"""Activations of every kind, and their gradients. ReLU has its kernels in :mod:`mindfl.lite.ops.elements`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from mindfl.lite.ops.maps import clear_lanes, floats, like, mapping, side_by_side
from mindfl.lite.ops.registry import NO_ACTIVATION, RELU, need, operator
from mindfl.lite.ops.shape import same_order
from mindfl.lite.ops.vector_math import error_function, exponential, hyperbolic_tangent, logarithm, sigmoid

if TYPE_CHECKING:
    from mindfl.lite.model import Node
    from mindfl.lite.plan import Plan
    from mindfl.lite.program import Value

_F = np.float32
_ZERO, _HALF, _ONE, _THREE, _SIX = _F(0), _F(0.5), _F(1), _F(3), _F(6)
_SIXTH, _THIRD = _F(1 / 6), _F(1 / 3)
_ROOT_HALF, _PER_ROOT_TWO_PI = _F(0.5**0.5), _F(0.3989422804)
_GELU, _CUBE = _F(0.7978845608), _F(0.044715)
_SELU, _SELU_ALPHA = _F(1.0507009873554805), _F(1.6732632423543772)

_GELU_TYPE, _ELU_TYPE = 19, 4
#: activation -> its instruction; those of :data:`_WITH_NUMBER` take ``alpha``
_FORWARD = {
    2: "SIGMOID",
    3: "RELU6",
    _ELU_TYPE: "ELU",
    5: "LEAKY_RELU",
    9: "SOFTPLUS",
    10: "TANH",
    11: "SELU",
    12: "HARD_SWISH",
    13: "HARD_SIGMOID",
    18: "SWISH",
    _GELU_TYPE: "GELU",
}
_WITH_NUMBER = (4, 5)
_OUTPUT_FIRST = (2, 10)
#: activation -> the instruction of its gradient, of the output's gradient and of the output or input
_BACKWARD = {
    2: "SIGMOID_GRAD",
    3: "RELU6_GRAD",
    4: "ELU_GRAD",
    5: "LEAKY_RELU_GRAD",
    9: "SOFTPLUS_GRAD",
    10: "TANH_GRAD",
    12: "HARD_SWISH_GRAD",
    13: "HARD_SIGMOID_GRAD",
    18: "SWISH_GRAD",
    _GELU_TYPE: "GELU_GRAD",
}


@operator("2 Activation type:b alpha:f min_val:f max_val:f approximate:?")
def _activation(plan: Plan, node: Node) -> None:
    if node.integer("type") == NO_ACTIVATION:
        same_order(plan, node)
        return
    x = plan.value(node.inputs[0])
    _emit(plan, node, node.integer("type"), x, like(plan, node, x))


def fused_activation(plan: Plan, node: Node, y: Value) -> None:
    """Apply the activation that is an attribute of a node to its result."""
    kind = node.attributes.get("activation", NO_ACTIVATION)
    if kind != NO_ACTIVATION:
        need(kind in (RELU, 3), node, f"a fused activation {kind}")
        _emit(plan, node, int(node.integer("activation")), y, y)


def _emit(plan: Plan, node: Node, kind: int, x: Value, y: Value) -> None:
    size = floats(plan, x)
    if kind == RELU:
        plan.builder.emit("RELU", x=x.offset, y=y.offset, size=size)
        return
    need(kind in _FORWARD, node, f"activation {kind}")
    name = "GELU_BY_TANH" if kind == _GELU_TYPE and _by_tanh(plan, node.inputs[0]) else _FORWARD[kind]
    number = {"number": plan.literal(node.real("alpha"))} if kind in _WITH_NUMBER else {}
    plan.builder.emit(name, x=x.offset, y=y.offset, size=size, **number)


@operator("3 ActivationGrad type:b alpha:f", inputs=2)
def _activation_grad(plan: Plan, node: Node) -> None:
    kind = node.integer("type")
    if kind == NO_ACTIVATION:
        same_order(plan, node)
        return
    dy, v = side_by_side(plan, node, (1, 0) if _output_first(plan, node, kind) else (0, 1))
    dx = like(plan, node, dy)
    size = floats(plan, dy)
    if kind == RELU:
        plan.builder.emit("RELU_GRAD", dy=dy.offset, y=v.offset, dx=dx.offset, size=size)
        return
    need(kind in _BACKWARD, node, f"the gradient of activation {kind}")
    name = "GELU_BY_TANH_GRAD" if kind == _GELU_TYPE and _by_tanh(plan, node.inputs[1]) else _BACKWARD[kind]
    # converters state the alpha of an ELU in its forward node alone
    forward = plan.graph.producer.get(node.inputs[1])
    stated = forward if forward is not None and forward.op == "Activation" and kind == _ELU_TYPE else node
    number = {"number": plan.literal(stated.real("alpha"))} if kind in _WITH_NUMBER else {}
    plan.builder.emit(name, a=dy.offset, b=v.offset, y=dx.offset, size=size, **number)
    clear_lanes(plan, dx)


def _output_first(plan: Plan, node: Node, kind: int) -> bool:
    """Whether the inputs are (y, dy) and not (dy, y): MindSpore's order for sigmoid and tanh.

    The forward node tells it, where the file has one.
    """
    if kind not in _OUTPUT_FIRST:
        return False
    makers = [plan.graph.producer.get(tensor) for tensor in node.inputs[:2]]
    forward = [maker is not None and maker.op == "Activation" and maker.integer("type") == kind for maker in makers]
    return forward[0] or not forward[1]


def _by_tanh(plan: Plan, x: int) -> bool:
    """Whether the GELU of a tensor is the approximation by tanh.

    MindSpore's GeLU is, but the converter does not say so in the forward node: its gradient, of three inputs, tells.
    """
    readers = [node for node in plan.graph.consumers[x] if node.attributes.get("type") == _GELU_TYPE]
    gradient = any(node.op == "ActivationGrad" and len(node.inputs) > 2 for node in readers)
    return gradient or any(node.attributes.get("approximate", False) for node in readers)


@mapping("SIGMOID", "x y size")
def _sigmoid(x: Any) -> Any:
    return sigmoid(x)


@mapping("SIGMOID_GRAD", "a b y size")
def _sigmoid_grad(dy: Any, y: Any) -> Any:
    return dy * (y * (_ONE - y))


@mapping("RELU6", "x y size")
def _relu6(x: Any) -> Any:
    return _ZERO if x < _ZERO else (_SIX if x > _SIX else x)


@mapping("RELU6_GRAD", "a b y size")
def _relu6_grad(dy: Any, v: Any) -> Any:
    """Of the input or the output."""
    return dy if v > _ZERO and v < _SIX else _ZERO


@mapping("ELU", "x y size number")
def _elu(x: Any, alpha: Any) -> Any:
    return x if x > _ZERO else alpha * (exponential(x) - _ONE)


@mapping("ELU_GRAD", "a b y size number")
def _elu_grad(dy: Any, y: Any, alpha: Any) -> Any:
    """Of the output."""
    return dy if y > _ZERO else dy * (y + alpha)


@mapping("LEAKY_RELU", "x y size number")
def _leaky_relu(x: Any, alpha: Any) -> Any:
    return x if x > _ZERO else alpha * x


@mapping("LEAKY_RELU_GRAD", "a b y size number")
def _leaky_relu_grad(dy: Any, v: Any, alpha: Any) -> Any:
    """Of the input or the output."""
    return dy if v > _ZERO else alpha * dy


@mapping("SOFTPLUS", "x y size")
def _softplus(x: Any) -> Any:
    """log(1 + e**x), without overflow."""
    size = -x if x < _ZERO else x
    return (x if x > _ZERO else _ZERO) + logarithm(_ONE + exponential(-size))


@mapping("SOFTPLUS_GRAD", "a b y size")
def _softplus_grad(dy: Any, x: Any) -> Any:
    return dy * sigmoid(x)


@mapping("TANH", "x y size")
def _tanh(x: Any) -> Any:
    return hyperbolic_tangent(x)


@mapping("TANH_GRAD", "a b y size")
def _tanh_grad(dy: Any, y: Any) -> Any:
    return dy * (_ONE - y * y)


@mapping("SELU", "x y size")
def _selu(x: Any) -> Any:
    return _SELU * (x if x > _ZERO else _SELU_ALPHA * (exponential(x) - _ONE))


@mapping("HARD_SWISH", "x y size")
def _hard_swish(x: Any) -> Any:
    return x * (_relu6(x + _THREE) / _SIX)


@mapping("HARD_SWISH_GRAD", "a b y size")
def _hard_swish_grad(dy: Any, x: Any) -> Any:
    return dy * (_ONE if x >= _THREE else (_ZERO if x <= -_THREE else x * _THIRD + _HALF))


@mapping("HARD_SIGMOID", "x y size")
def _hard_sigmoid(x: Any) -> Any:
    return _relu6(x + _THREE) / _SIX


@mapping("HARD_SIGMOID_GRAD", "a b y size")
def _hard_sigmoid_grad(dy: Any, x: Any) -> Any:
    return dy * _SIXTH if x > -_THREE and x < _THREE else _ZERO


@mapping("SWISH", "x y size")
def _swish(x: Any) -> Any:
    return x * sigmoid(x)


@mapping("SWISH_GRAD", "a b y size")
def _swish_grad(dy: Any, x: Any) -> Any:
    part = sigmoid(x)
    return dy * (part + x * (part * (_ONE - part)))


@mapping("GELU", "x y size")
def _gelu(x: Any) -> Any:
    return _HALF * x * (_ONE + error_function(x * _ROOT_HALF))


@mapping("GELU_GRAD", "a b y size")
def _gelu_grad(dy: Any, x: Any) -> Any:
    density = exponential(-_HALF * x * x) * _PER_ROOT_TWO_PI
    return dy * (_HALF * (_ONE + error_function(x * _ROOT_HALF)) + x * density)


@mapping("GELU_BY_TANH", "x y size")
def _gelu_by_tanh(x: Any) -> Any:
    return _HALF * x * (_ONE + hyperbolic_tangent(_GELU * (x + _CUBE * x * x * x)))


@mapping("GELU_BY_TANH_GRAD", "a b y size")
def _gelu_by_tanh_grad(dy: Any, x: Any) -> Any:
    t = hyperbolic_tangent(_GELU * (x + _CUBE * x * x * x))
    slope = _GELU * (_ONE + _THREE * _CUBE * x * x)
    return dy * (_HALF * (_ONE + t) + _HALF * x * (_ONE - t * t) * slope)
