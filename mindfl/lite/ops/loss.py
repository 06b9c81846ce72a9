"""Cross entropy in instructions: labels as class numbers, or one-hot."""

from __future__ import annotations

import numpy as np

from mindfl.lite.graph import need
from mindfl.lite.model import Node
from mindfl.lite.plan import Plan
from mindfl.lite.program import Value
from mindfl.lite.shapes import alike, core


def sparse_cross_entropy(plan: Plan, node: Node) -> None:
    """The mean loss of labels that are class numbers, or its gradient."""
    logits = _logits(plan, node)
    _check_class_numbers(plan, node, 1)
    sizes = {"classes": logits.size, "batch": plan.batch, "lanes": plan.lanes}
    if node.flag("is_grad"):
        dx = plan.keep(node.outputs[0], plan.new_batch(logits.dims))
        plan.builder.emit("LOSS_GRAD", logits=logits.offset, dx=dx.offset, **sizes)
    else:
        loss = plan.keep(node.outputs[0], plan.new_parameter((1,)))
        plan.builder.emit("LOSS", logits=logits.offset, loss=loss.offset, **sizes)


def cross_entropy(plan: Plan, node: Node) -> None:
    """The loss of each sample with one-hot labels, and the gradient of the sum of these losses."""
    logits, labels = _logits(plan, node), plan.batched(node, 1)
    need(alike(logits.dims, labels.dims), node, f"labels of shape {labels.dims} for logits of shape {logits.dims}")
    loss, gradient = plan.new_batch((plan.batch, 1)), plan.new_batch(logits.dims)
    for tensor, value in zip(node.outputs, (loss, gradient), strict=False):
        plan.keep(tensor, value)
    plan.builder.emit(
        "CROSS_ENTROPY",
        logits=logits.offset,
        labels=labels.offset,
        loss=loss.offset,
        dx=gradient.offset,
        classes=logits.size,
        batch=plan.batch,
        lanes=plan.lanes,
    )


def one_hot(plan: Plan, node: Node) -> None:
    """One-hot labels out of those that are class numbers."""
    _check_class_numbers(plan, node, 0)
    need(_number(plan, node.inputs[1]) == plan.graph.classes, node, "another depth than the number of classes")
    need([_number(plan, tensor) for tensor in node.inputs[2:4]] == [1, 0], node, "values other than 1 and 0")
    need(node.integer("axis") in (-1, 1), node, f"axis {node.integer('axis')}")
    y = plan.keep(node.outputs[0], plan.new_batch((plan.batch, plan.graph.classes)))
    plan.emit_one_hot(y)


def _number(plan: Plan, tensor: int) -> float | None:
    data = plan.tensor(tensor).data
    return float(data.ravel()[0]) if data is not None and data.size == 1 else None


def _logits(plan: Plan, node: Node) -> Value:
    logits = plan.batched(node, 0)
    right = len(core(logits.dims[1:])) <= 1 and logits.size == plan.graph.classes
    need(right, node, f"logits of shape {logits.dims}")
    return logits


def _check_class_numbers(plan: Plan, node: Node, place: int) -> None:
    labels = plan.tensor(node.inputs[place])
    right = labels.index in plan.graph.model.inputs and labels.dtype == np.int32
    need(right, node, f"labels ({labels.name}) that are no int32 input")
    need(alike(labels.dims, (plan.batch,)), node, f"labels of shape {labels.dims}")
