"""The optimizer that a training model holds: it is part of the graph, so no option can change it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from mindfl.lite.model import LiteModel, Node

#: operator -> name of the optimizer, and which inputs are the gradient and the momentum (None: it has none)
_FORMS: Mapping[str, tuple[str, int, int | None]] = MappingProxyType(
    {"Adam": ("adam", 9, None), "ApplyMomentum": ("momentum", 3, 4), "SGD": ("sgd", 1, 4)}
)


@dataclass(frozen=True)
class ModelOptimizer:
    """What a model file trains with.

    ``name`` is ``momentum``, ``sgd`` or ``adam``, or several of them joined by " and ". ``momentum`` is None where the
    optimizer has none, or parameters have different ones. ``weight_decay`` is 0 without; NaN where it cannot be told.
    """

    name: str
    momentum: float | None
    weight_decay: float
    nesterov: bool


def optimizer_of(model: LiteModel) -> ModelOptimizer | None:
    """Return the optimizer of ``model``; None for a model that cannot be trained."""
    nodes = [node for node in model.optimizer_nodes if node.op in _FORMS]
    if not nodes:
        return None
    momenta = {_momentum(model, node) for node in nodes}
    decays = {_weight_decay(model, node) for node in nodes}
    return ModelOptimizer(
        name=" and ".join(sorted({_FORMS[node.op][0] for node in nodes})),
        momentum=momenta.pop() if len(momenta) == 1 else None,
        weight_decay=decays.pop() if len(decays) == 1 else float("nan"),
        nesterov=any(node.attributes.get("nesterov", False) for node in nodes),
    )


def _momentum(model: LiteModel, node: Node) -> float | None:
    place = _FORMS[node.op][2]
    value = None if place is None else _number(model, node.inputs[place])
    return None if node.op == "SGD" and value == 0 else value  # SGD without momentum


def _weight_decay(model: LiteModel, node: Node) -> float:
    """Return the factor with which the weight itself is added to its gradient."""
    if node.attributes.get("weight_decay"):
        return node.real("weight_decay")
    weight, gradient = node.inputs[0], node.inputs[_FORMS[node.op][1]]
    parts = {index for maker in model.nodes if gradient in maker.outputs for index in maker.inputs}
    for scaled in model.nodes:
        if scaled.op == "MulFusion" and weight in scaled.inputs and parts.intersection(scaled.outputs):
            factors = (_number(model, index) for index in scaled.inputs if index != weight)
            return next((factor for factor in factors if factor is not None), float("nan"))
    return 0.0


def _number(model: LiteModel, index: int) -> float | None:
    """Return the value of a constant of one element, as the shortest decimal number that means the same float32."""
    data = model.tensors[index].data
    return float(str(data.reshape(-1)[0])) if data is not None and data.size == 1 else None
