"""Optimizers and corrections of their gradients. Optimizers are part of the graph, so options cannot change them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from mindfl.lite.ops.registry import INSTRUCTIONS, instruction, need, operator
from mindfl.lite.program import Update, alike

if TYPE_CHECKING:
    from mindfl.lite.model import LiteModel, Node
    from mindfl.lite.plan import Plan

_ONE = np.float32(1.0)
_ZERO = np.float32(0.0)
_STEPS_BACK = 8  # more than a conversion puts between a weight and what is calculated with it

#: operator -> instruction, names of its inputs in order, operand -> attribute for the numbers it carries
_LOWERED: Mapping[str, tuple[str, tuple[str, ...], Mapping[str, str]]] = MappingProxyType(
    {
        "ApplyMomentum": ("MOMENTUM", ("weight", "state", "rate", "gradient", "momentum"), {"scale": "gradient_scale"}),
        "SGD": (
            "SGD",
            ("weight", "gradient", "rate", "state", "momentum", "stat"),
            {"dampening": "dampening", "decay": "weight_decay"},
        ),
        "Adam": (
            "ADAM",
            (
                *("weight", "mean", "variance", "beta1_power", "beta2_power"),
                *("rate", "beta1", "beta2", "epsilon", "gradient"),
            ),
            {},
        ),
        "AdamWeightDecay": (
            "ADAM_WEIGHT_DECAY",
            (
                *("weight", "mean", "variance", "rate", "beta1", "beta2", "epsilon"),
                *("decay", "gradient"),
            ),
            {},
        ),
    }
)

#: operator -> name of the optimizer, and which inputs are the gradient and the momentum (None: it has none)
_FORMS: Mapping[str, tuple[str, int, int | None]] = MappingProxyType(
    {
        "Adam": ("adam", 9, None),
        "AdamWeightDecay": ("adam_weight_decay", 8, None),
        "ApplyMomentum": ("momentum", 3, 4),
        "SGD": ("sgd", 1, 4),
    }
)


@dataclass(frozen=True)
class ModelOptimizer:
    """The optimizer in a model file.

    ``name`` is ``momentum``, ``sgd``, ``adam`` or ``adam_weight_decay``, or several of them joined by " and ".
    ``momentum`` is None if the optimizer has none, or parameters have different ones. ``weight_decay`` is 0 without
    one, and NaN if it is unknown; parameters without one, as those of BatchNorm are by MindSpore's default, do not
    count.
    ``dampening`` is that of SGD's momentum.
    """

    name: str
    momentum: float | None
    weight_decay: float
    nesterov: bool
    dampening: float = 0.0


def optimizer_of(model: LiteModel) -> ModelOptimizer | None:
    """Return the optimizer of ``model``; None for a model that cannot be trained."""
    nodes = [node for node in model.optimizer_nodes if node.op in _FORMS]
    if not nodes:
        return None
    momenta = {_momentum(model, node) for node in nodes}
    decays = {_weight_decay(model, node) for node in nodes} - {0.0}
    return ModelOptimizer(
        name=" and ".join(sorted({_FORMS[node.op][0] for node in nodes})),
        momentum=momenta.pop() if len(momenta) == 1 else None,
        weight_decay=decays.pop() if len(decays) == 1 else float("nan") if decays else 0.0,
        nesterov=any(node.attributes.get("nesterov", False) for node in nodes),
        dampening=max(node.real("dampening") if node.attributes.get("dampening") else 0.0 for node in nodes),
    )


def _momentum(model: LiteModel, node: Node) -> float | None:
    place = _FORMS[node.op][2]
    value = None if place is None else model.tensors[node.inputs[place]].number
    return None if node.op == "SGD" and value == 0 else value  # SGD without momentum


def _weight_decay(model: LiteModel, node: Node) -> float:
    """Return the factor with which a weight is added to its gradient."""
    if node.attributes.get("weight_decay"):
        return node.real("weight_decay")
    if node.op == "AdamWeightDecay":  # one of a user's own may have other inputs
        decay = model.tensors[node.inputs[7]].number if len(node.inputs) == 9 else None
        return float("nan") if decay is None else decay
    weight, gradient = node.inputs[0], node.inputs[_FORMS[node.op][1]]
    makers = {index: maker for maker in model.nodes for index in maker.outputs}
    parts = {_origin(makers, index) for index in (makers[gradient].inputs if gradient in makers else ())}
    for scaled in model.nodes:
        read = [_origin(makers, index) for index in scaled.inputs]
        if scaled.op == "MulFusion" and weight in read and parts.intersection(scaled.outputs):
            factors = (model.tensors[index].number for index in read if index != weight)
            return next((factor for factor in factors if factor is not None), float("nan"))
    return 0.0


def _origin(makers: Mapping[int, Node], index: int) -> int:
    """Return the tensor that another is by its values: turned, or negated twice, as the conversion leaves weights."""
    for _ in range(_STEPS_BACK):
        maker = makers.get(index)
        inner = makers.get(maker.inputs[0]) if maker is not None and maker.op == "Neg" and maker.inputs else None
        negated = inner is not None and inner.op == "Neg"
        source = inner if negated else maker
        if source is None or not source.inputs or not (negated or source.op == "Transpose"):
            break
        index = source.inputs[0]
    return index


def _offsets(plan: Plan, node: Node, names: tuple[str, ...], count: int) -> dict[str, int]:
    """Return the offsets of an optimizer's inputs by name, after checking that the arrays have the weight's size."""
    need(len(node.inputs) == len(names), node, f"{len(node.inputs)} inputs")
    values = {name: plan.fixed(node, place) for place, name in enumerate(names)}
    written = ("weight", "state", "stat", "mean", "variance")
    wrong = [name for name, value in values.items() if value.size != (count if name in (*written, "gradient") else 1)]
    need(not wrong, node, f"a {', '.join(wrong)} of another size than the weight")
    weight, gradient = values["weight"].dims, values["gradient"].dims
    need(alike(weight, gradient), node, f"a gradient of shape {gradient} for a weight of shape {weight}")
    constant = dict(zip(names, (tensor in plan.graph.constants for tensor in node.inputs), strict=True))
    need(all(constant[name] for name in names if name in written), node, "a computed state")
    return {name: value.offset for name, value in values.items()}


@operator("4 Adam locking:? nesterov:?", inputs=10, outputs=0, rate=5)
@operator("10 ApplyMomentum nesterov:? locking:? gradient_scale:f=1", inputs=5, outputs=0, rate=2)
@operator("220 AdamWeightDecay use_locking:?", inputs=1, outputs=0, rate=3)
@operator("129 SGD nesterov:? dampening:f weight_decay:f", inputs=6, outputs=0, rate=2)
def _optimizer(plan: Plan, node: Node) -> None:
    name, names, reals = _LOWERED[node.op]
    size = plan.fixed(node, 0).size
    offsets = _offsets(plan, node, names, size)
    for operand, attribute in reals.items():
        offsets[operand] = plan.literal(node.real(attribute))
    column = 1 + INSTRUCTIONS[name].operands.index("gradient")
    weight = plan.tensor(node.inputs[0]).name
    plan.updates.append(Update(weight, plan.builder.rows, column, offsets["gradient"], offsets["weight"], size))
    flags = {"nesterov": node.flag("nesterov")} if "nesterov" in node.attributes else {}
    plan.builder.emit(name, size=size, **flags, **offsets)


@instruction("CORRECT", "gradient weight y scale shift pull towards size")
def correct_kernel(arena: Any, table: Any, i: Any) -> None:
    """y = scale * gradient + shift + pull * (weight - towards), without terms whose array is absent."""
    pull, shift, towards, size = arena[i[6]], i[5], i[7], i[8]
    gradient, weight, target = arena[i[1] : i[1] + size], arena[i[2] : i[2] + size], arena[i[3] : i[3] + size]
    scale = arena[i[4]]
    for n in range(size):
        target[n] = scale * gradient[n]
    if shift >= 0:
        for n in range(size):
            target[n] += arena[shift + n]
    if towards >= 0:
        for n in range(size):
            target[n] += pull * (weight[n] - arena[towards + n])


@instruction("MOMENTUM", "weight state rate gradient momentum scale size nesterov")
def momentum_kernel(arena: Any, table: Any, i: Any) -> None:
    """state = momentum * state + scale * gradient; weight -= rate * state (MindSpore Lite ApplyMomentum)."""
    size, nesterov = i[7], i[8]
    weight, state, gradient = arena[i[1] : i[1] + size], arena[i[2] : i[2] + size], arena[i[4] : i[4] + size]
    rate, factor, scale = arena[i[3]], arena[i[5]], arena[i[6]]
    for n in range(size):
        slope = gradient[n] * scale
        speed = state[n] * factor + slope
        state[n] = speed
        weight[n] -= (slope + speed * factor) * rate if nesterov else speed * rate


@instruction("SGD", "weight gradient rate state momentum stat dampening decay size nesterov")
def sgd_kernel(arena: Any, table: Any, i: Any) -> None:
    """MindSpore Lite SGD: with momentum the first step, marked by ``stat`` above 0, copies the gradient."""
    size, nesterov = i[9], i[10]
    weight, gradient, state = arena[i[1] : i[1] + size], arena[i[2] : i[2] + size], arena[i[4] : i[4] + size]
    first = arena[i[6] : i[6] + size]
    rate, factor, dampening, decay = arena[i[3]], arena[i[5]], arena[i[7]], arena[i[8]]
    for n in range(size):
        slope = gradient[n] + weight[n] * decay
        if factor > _ZERO:
            speed = slope if first[n] > _ZERO else state[n] * factor + slope * (_ONE - dampening)
            state[n] = speed
            first[n] = _ZERO
            slope = slope + speed * factor if nesterov else speed
        weight[n] -= slope * rate


@instruction(
    "ADAM",
    "weight mean variance beta1_power beta2_power rate beta1 beta2 epsilon gradient size nesterov",
    error_model="numpy",
)
def adam_kernel(arena: Any, table: Any, i: Any) -> None:
    """Adam (Kingma and Ba 2015, the form of section 2's last paragraph) as MindSpore computes it."""
    size, nesterov = i[11], i[12]
    weight, mean, variance = arena[i[1] : i[1] + size], arena[i[2] : i[2] + size], arena[i[3] : i[3] + size]
    beta1, beta2, epsilon, gradient = arena[i[7]], arena[i[8]], arena[i[9]], arena[i[10] : i[10] + size]
    rate = arena[i[6]] * math.sqrt(_ONE - arena[i[5]]) / (_ONE - arena[i[4]])
    for n in range(size):
        slope = gradient[n]
        mean[n] += (slope - mean[n]) * (_ONE - beta1)
        variance[n] += (slope * slope - variance[n]) * (_ONE - beta2)
        direction = mean[n] * beta1 + (_ONE - beta1) * slope if nesterov else mean[n]
        weight[n] -= rate * direction / (math.sqrt(variance[n]) + epsilon)
