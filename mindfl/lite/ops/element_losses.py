"""Losses of single scores: binary cross entropy of probabilities and of logits, and smooth L1, with their gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from mindfl.lite.ops.arithmetic import pairwise
from mindfl.lite.ops.functions import number_of
from mindfl.lite.ops.maps import clear_lanes, floats, like, mapping, new_value, side_by_side
from mindfl.lite.ops.reductions import MEAN, SUM, reduce
from mindfl.lite.ops.registry import need, operator
from mindfl.lite.ops.vector_math import exponential, logarithm, sigmoid

if TYPE_CHECKING:
    from mindfl.lite.model import Node
    from mindfl.lite.plan import Plan
    from mindfl.lite.program import Value

_ZERO, _HALF, _ONE = np.float32(0.0), np.float32(0.5), np.float32(1.0)
_LEAST = np.float32(1e-12)
#: reduction of the file
_MEAN_REDUCTION = 1


@mapping("LOGITS_LOSS", "a b y size")
def _logits_loss(x: Any, label: Any) -> Any:
    """-(label * log(s) + (1 - label) * log(1 - s)) with s the sigmoid of x, without overflow."""
    size = -x if x < _ZERO else x
    return (x if x > _ZERO else _ZERO) - x * label + logarithm(_ONE + exponential(-size))


@mapping("LOGITS_LOSS_GRAD", "a b y size")
def _logits_loss_grad(x: Any, label: Any) -> Any:
    return sigmoid(x) - label


@mapping("PROBABILITY_LOSS", "a b y size")
def _probability_loss(x: Any, label: Any) -> Any:
    """-(label * log(x) + (1 - label) * log(1 - x)), whose logarithms are of 1e-12 at least."""
    other = _ONE - x
    first = logarithm(_LEAST if x < _LEAST else x)
    second = logarithm(_LEAST if other < _LEAST else other)
    return -(label * first + (_ONE - label) * second)


@mapping("PROBABILITY_LOSS_GRAD", "a b y size")
def _probability_loss_grad(x: Any, label: Any) -> Any:
    spread = x * (_ONE - x)
    return (x - label) / (_LEAST if spread < _LEAST else spread)


@mapping("SMOOTH_LOSS", "a b y size number")
def _smooth_loss(x: Any, target: Any, beta: Any) -> Any:
    size = np.float32(abs(x - target))
    return _HALF * size * size / beta if size < beta else size - _HALF * beta


@mapping("SMOOTH_LOSS_GRAD", "a b y size number")
def _smooth_loss_grad(x: Any, target: Any, beta: Any) -> Any:
    gap = x - target
    return _ONE if gap > beta else (-_ONE if gap < -beta else gap / beta)


def _numbers(plan: Plan, node: Node) -> dict[str, int]:
    if "beta" not in node.attributes:
        return {}
    need(node.real("beta") > 0, node, f"a beta of {node.real('beta')}")
    return {"number": plan.literal(node.real("beta"))}


def _elements(plan: Plan, node: Node, name: str) -> Value:
    """Return what an instruction computes of each score and label, in a new place."""
    x, labels = side_by_side(plan, node, (0, 1))
    y = new_value(plan, x.dims, batched=x.batched)
    plan.builder.emit(name, a=x.offset, b=labels.offset, y=y.offset, size=floats(plan, x), **_numbers(plan, node))
    clear_lanes(plan, y)
    return y


def _weighted(plan: Plan, node: Node, y: Value, place: int) -> None:
    """Multiply by the weights of the elements, if the node has any."""
    if len(node.inputs) > place:
        weights = plan.value(node.inputs[place])
        right = not weights.batched and weights.size in (1, y.size * (plan.batch if y.batched else 1))
        need(right, node, f"weights of shape {weights.dims}")
        pairwise(plan, "PRODUCT", y, weights, y)


def _loss(name: str, weights: int) -> Callable[[Plan, Node], None]:
    """Return the lowering of a loss: of each element if the output has that shape, else their mean or sum."""

    def lower(plan: Plan, node: Node) -> None:
        y = _elements(plan, node, name)
        _weighted(plan, node, y, weights)
        if plan.tensor(node.outputs[0]).size == y.size * (plan.batch if y.batched else 1):
            plan.keep(node.outputs[0], y)
            return
        mean = node.attributes.get("reduction", _MEAN_REDUCTION) == _MEAN_REDUCTION
        reduce(plan, y, set(range(len(y.dims))), MEAN if mean else SUM, node.outputs[0])

    return lower


def _gradient(name: str, share: int, weights: int) -> Callable[[Plan, Node], None]:
    """Return the lowering of a loss's gradient; input ``share`` is the gradient of the loss, for each element or one.

    One of a mean is divided by the number of elements.
    """

    def lower(plan: Plan, node: Node) -> None:
        need(len(node.inputs) > share, node, f"{len(node.inputs)} inputs")
        slopes = _elements(plan, node, name)
        _weighted(plan, node, slopes, weights)
        dx = like(plan, node, slopes)
        count = slopes.size * (plan.batch if slopes.batched else 1)
        if plan.tensor(node.inputs[share]).size == count > 1:
            dy = side_by_side(plan, node, (0, share))[1]
        else:
            dy = plan.value(node.inputs[share])
            need(dy.size == 1 and not dy.batched, node, f"a gradient of shape {dy.dims} of the loss")
        pairwise(plan, "PRODUCT", slopes, dy, dx)
        if dy.size == 1 < count and node.attributes.get("reduction") == _MEAN_REDUCTION:
            pairwise(plan, "PRODUCT", dx, number_of(plan, 1 / count), dx)

    return lower


operator("131 SigmoidCrossEntropyWithLogits", inputs=2)(_loss("LOGITS_LOSS", 2))
operator("132 SigmoidCrossEntropyWithLogitsGrad", inputs=3)(_gradient("LOGITS_LOSS_GRAD", 2, 3))
operator("24 BinaryCrossEntropy reduction:b", inputs=2)(_loss("PROBABILITY_LOSS", 2))
operator("25 BinaryCrossEntropyGrad reduction:b=1", inputs=3)(_gradient("PROBABILITY_LOSS_GRAD", 2, 3))
operator("136 SmoothL1Loss beta:f", inputs=2)(_loss("SMOOTH_LOSS", 2))
operator("137 SmoothL1LossGrad beta:f", inputs=3)(_gradient("SMOOTH_LOSS_GRAD", 2, 3))
