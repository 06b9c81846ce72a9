"""Activations of their own, and their gradients. Where only a layer feeds one, the layer does it (``Graph.fusion``)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from mindfl.lite.ops.registry import NO_ACTIVATION, RELU, instruction, need, operator
from mindfl.lite.ops.shape import same_order
from mindfl.lite.shapes import alike

if TYPE_CHECKING:
    from mindfl.lite.model import Node
    from mindfl.lite.plan import Plan

_ZERO = np.float32(0.0)


@operator("2 Activation type:b alpha:f min_val:f max_val:f approximate:?")
def _activation(plan: Plan, node: Node) -> None:
    kind = node.integer("type")
    if kind == NO_ACTIVATION:
        same_order(plan, node)
        return
    need(kind == RELU, node, f"activation {kind}")
    x = plan.batched(node, 0)
    y = plan.keep(node.outputs[0], plan.new_batch(x.dims))
    plan.builder.emit("RELU", x=x.offset, y=y.offset, size=x.size * plan.lanes)


@operator("3 ActivationGrad type:b alpha:f", inputs=2)
def _activation_grad(plan: Plan, node: Node) -> None:
    kind = node.integer("type")
    if kind == NO_ACTIVATION:
        same_order(plan, node)
        return
    need(kind == RELU, node, f"activation {kind}")
    dy, y = plan.batched(node, 0), plan.batched(node, 1)
    need(alike(dy.dims, y.dims), node, f"shapes {dy.dims} and {y.dims}")
    dx = plan.keep(node.outputs[0], plan.new_batch(dy.dims))
    plan.builder.emit("RELU_GRAD", dy=dy.offset, y=y.offset, dx=dx.offset, size=dy.size * plan.lanes)


@instruction("RELU", "x y size")
def relu_kernel(arena: Any, table: Any, i: Any) -> None:
    """y = max(x, 0), NaN kept."""
    source, target = arena[i[1] : i[1] + i[3]], arena[i[2] : i[2] + i[3]]
    for n in range(source.size):
        value = source[n]
        target[n] = _ZERO if value < _ZERO else value


@instruction("RELU_GRAD", "dy y dx size")
def relu_grad_kernel(arena: Any, table: Any, i: Any) -> None:
    """dx = dy where the forward output is positive, else 0."""
    size = i[4]
    gradient, output, target = arena[i[1] : i[1] + size], arena[i[2] : i[2] + size], arena[i[3] : i[3] + size]
    for n in range(size):
        target[n] = gradient[n] if output[n] > _ZERO else _ZERO
