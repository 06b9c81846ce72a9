"""Cross entropy of one row of scores per sample: labels as class numbers, or one-hot."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from mindfl.lite.ops import row_losses
from mindfl.lite.ops.registry import helper, instruction, operator
from mindfl.lite.program import Value, alike, core

if TYPE_CHECKING:
    from mindfl.lite.model import Node
    from mindfl.lite.plan import Plan

_ONE = np.float32(1.0)
_ZERO = np.float32(0.0)


@operator("143 SparseSoftmaxCrossEntropyWithLogits is_grad:?", inputs=2)
def _sparse_cross_entropy(plan: Plan, node: Node) -> None:
    """The mean loss of labels that are class numbers, or its gradient."""
    logits = plan.value(node.inputs[0])
    if not _per_sample(plan, logits) or not _are_inputs(plan, node, 1):
        row_losses.sparse_cross_entropy(plan, node)
        return
    sizes = {"classes": logits.size, "batch": plan.batch, "lanes": plan.lanes}
    if node.flag("is_grad"):
        dx = plan.keep(node.outputs[0], plan.new_batch(logits.dims))
        plan.builder.emit("LOSS_GRAD", logits=logits.offset, dx=dx.offset, **sizes)
    else:
        loss = plan.keep(node.outputs[0], plan.new_parameter((1,)))
        plan.builder.emit("LOSS", logits=logits.offset, loss=loss.offset, **sizes)


@operator("139 SoftmaxCrossEntropyWithLogits", inputs=2)
def _cross_entropy(plan: Plan, node: Node) -> None:
    """The loss of each sample with one-hot labels, and the gradient of the sum of these losses."""
    logits, labels = plan.value(node.inputs[0]), plan.value(node.inputs[1])
    if not (_per_sample(plan, logits) and labels.batched and alike(logits.dims, labels.dims)):
        row_losses.cross_entropy(plan, node)
        return
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


@operator("105 OneHot axis:q", inputs=4)
def _one_hot(plan: Plan, node: Node) -> None:
    """One-hot labels out of those that are class numbers."""
    depth, numbers = plan.tensor(node.inputs[1]).number, [plan.tensor(tensor).number for tensor in node.inputs[2:4]]
    usual = depth == plan.graph.classes and numbers == [1, 0] and node.integer("axis") in (-1, 1)
    if not usual or not _are_inputs(plan, node, 0):
        row_losses.one_hot(plan, node)
        return
    y = plan.keep(node.outputs[0], plan.new_batch((plan.batch, plan.graph.classes)))
    plan.emit_one_hot(y)


def _per_sample(plan: Plan, logits: Value) -> bool:
    """Whether scores are one row per sample, as many as the model's classes."""
    return logits.batched and len(core(logits.dims[1:])) <= 1 and logits.size == plan.graph.classes


def _are_inputs(plan: Plan, node: Node, place: int) -> bool:
    """Whether labels stand at the head of the table, one class number per sample."""
    labels = plan.tensor(node.inputs[place])
    is_label = plan.graph.labels is not None and labels.index == plan.graph.labels.index
    return is_label and plan.graph.label_kind == "classes" and alike(labels.dims, (plan.batch,))


@instruction("LOSS", "logits loss classes batch lanes")
def loss_kernel(arena: Any, table: Any, i: Any) -> None:
    """Mean over the batch of -log softmax(logits)[label]; labels stand at the head of the table."""
    logits, out, classes, batch, lanes = i[1], i[2], i[3], i[4], i[5]
    total = 0.0
    for n in range(batch):
        highest = _highest(arena, logits + n, classes, lanes)
        exponentials = _ZERO
        for c in range(classes):
            exponentials += math.exp(arena[logits + c * lanes + n] - highest)
        total += math.log(exponentials) - (arena[logits + table[n] * lanes + n] - highest)
    arena[out] = total / batch


@instruction("LOSS_GRAD", "logits dx classes batch lanes")
def loss_grad_kernel(arena: Any, table: Any, i: Any) -> None:
    """dx = (softmax(logits) - onehot(label)) / batch; the lanes behind the batch get 0."""
    logits, dx, classes, batch, lanes = i[1], i[2], i[3], i[4], i[5]
    arena[dx : dx + classes * lanes] = _ZERO
    share = _ONE / np.float32(batch)
    for n in range(batch):
        highest = _highest(arena, logits + n, classes, lanes)
        exponentials = _ZERO
        for c in range(classes):
            value = math.exp(arena[logits + c * lanes + n] - highest)
            arena[dx + c * lanes + n] = value
            exponentials += value
        scale = share / exponentials
        for c in range(classes):
            arena[dx + c * lanes + n] *= scale
        arena[dx + table[n] * lanes + n] -= share


@helper
def _highest(arena: Any, start: int, count: int, step: int) -> Any:
    highest = arena[start]
    for c in range(1, count):
        value = arena[start + c * step]
        if value > highest:
            highest = value
    return highest


@instruction("ONE_HOT", "y classes batch lanes")
def one_hot_kernel(arena: Any, table: Any, i: Any) -> None:
    """y = 1 at the label of each sample, else 0; labels stand at the head of the table."""
    y, classes, batch, lanes = i[1], i[2], i[3], i[4]
    arena[y : y + classes * lanes] = _ZERO
    for n in range(batch):
        arena[y + table[n] * lanes + n] = _ONE


@instruction("CROSS_ENTROPY", "logits labels loss dx classes batch lanes")
def cross_entropy_kernel(arena: Any, table: Any, i: Any) -> None:
    """loss = -sum(labels * log softmax(logits)) and dx = softmax(logits) - labels, for each sample."""
    logits, labels, loss, dx, classes, batch, lanes = i[1], i[2], i[3], i[4], i[5], i[6], i[7]
    arena[dx : dx + classes * lanes] = _ZERO
    for n in range(batch):
        highest = arena[logits + n]
        for c in range(1, classes):
            highest = max(highest, arena[logits + c * lanes + n])
        exponentials = _ZERO
        for c in range(classes):
            value = math.exp(arena[logits + c * lanes + n] - highest)
            arena[dx + c * lanes + n] = value
            exponentials += value
        logarithm, total = math.log(exponentials), 0.0
        for c in range(classes):
            at = c * lanes + n
            total += arena[labels + at] * (logarithm - (arena[logits + at] - highest))
            arena[dx + at] = arena[dx + at] / exponentials - arena[labels + at]
        arena[loss + n] = total
