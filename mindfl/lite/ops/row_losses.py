"""Losses of rows of class scores, such as one for each token of a text, whose labels are values like any other.

Losses of one row per sample, with labels that are an input, are in :mod:`mindfl.lite.ops.loss`. A label beyond the
classes has no loss and no gradient.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from mindfl.lite.ops.arithmetic import larger
from mindfl.lite.ops.registry import helper, instruction, need, operator
from mindfl.lite.ops.vector_math import exponential, logarithm

if TYPE_CHECKING:
    from mindfl.lite.model import Node
    from mindfl.lite.plan import Plan
    from mindfl.lite.program import Value

_ZERO, _ONE = np.float32(0.0), np.float32(1.0)
#: reductions of the file
_SUM, _MEAN, _NONE = range(3)


def rows_of(plan: Plan, node: Node, place: int = 0) -> tuple[Value, int, int]:
    """Return an input of scores, and its rows and columns."""
    scores = plan.plain(node, place)
    need(len(scores.dims) > 0, node, "scores without a dimension")
    return scores, scores.size // scores.dims[-1], scores.dims[-1]


def class_numbers(plan: Plan, node: Node, place: int, rows: int) -> Value:
    """Return an input of one class number for each row."""
    labels = plan.plain(node, place)
    need(labels.size == rows, node, f"labels of shape {labels.dims} for {rows} rows")
    return labels


def sparse_cross_entropy(plan: Plan, node: Node) -> None:
    """The mean loss of labels that are class numbers, or its gradient."""
    scores, rows, classes = rows_of(plan, node)
    labels = class_numbers(plan, node, 1, rows)
    gradient = node.flag("is_grad")
    y = plan.keep(node.outputs[0], plan.new_parameter(scores.dims if gradient else (1,)))
    plan.builder.emit(
        "ROWS_LOSS_GRAD" if gradient else "ROWS_LOSS",
        scores=scores.offset,
        labels=labels.offset,
        y=y.offset,
        rows=rows,
        classes=classes,
    )


def cross_entropy(plan: Plan, node: Node) -> None:
    """The loss of each row with labels that are shares of the classes, and the gradient of the sum of these losses."""
    scores, rows, classes = rows_of(plan, node)
    labels = plan.plain(node, 1)
    need(labels.size == scores.size, node, f"labels of shape {labels.dims} for scores of shape {scores.dims}")
    loss, gradient = plan.new_parameter((rows,)), plan.new_parameter(scores.dims)
    for tensor, value in zip(node.outputs, (loss, gradient), strict=False):
        plan.keep(tensor, value)
    plan.builder.emit(
        "ROWS_CROSS_ENTROPY",
        scores=scores.offset,
        labels=labels.offset,
        loss=loss.offset,
        dx=gradient.offset,
        rows=rows,
        classes=classes,
    )


def one_hot(plan: Plan, node: Node) -> None:
    """Write one number at the place of each index, another one elsewhere; indices out of range have no place."""
    indices, shape = plan.plain(node, 0), plan.tensor(node.inputs[0]).dims
    depths = plan.integers(node.inputs[1])
    rank = len(shape) + 1
    axis = node.integer("axis")
    need(len(depths) == 1 and depths[0] > 0 and -rank <= axis < rank, node, f"depth {depths[:8]} at axis {axis}")
    on, off = (plan.value(tensor) for tensor in node.inputs[2:4])
    need(all(value.size == 1 and not value.batched for value in (on, off)), node, "values that are no numbers")
    dims = (*shape[: axis % rank], depths[0], *shape[axis % rank :])
    y = plan.keep(node.outputs[0], plan.new_parameter(dims))
    inner = int(np.prod(shape[axis % rank :], dtype=np.int64))
    plan.builder.emit(
        "ONE_HOT_ROWS",
        indices=indices.offset,
        y=y.offset,
        on=on.offset,
        off=off.offset,
        outer=indices.size // inner,
        depth=depths[0],
        inner=inner,
    )


@operator("207 NLLLoss reduction:b", inputs=3)
def _likelihood(plan: Plan, node: Node) -> None:
    """-score at the label, times the weight of its class; and the sum of those weights."""
    scores, rows, classes = rows_of(plan, node)
    labels, weights = class_numbers(plan, node, 1, rows), plan.fixed(node, 2)
    need(weights.size == classes, node, f"weights of shape {weights.dims} for {classes} classes")
    reduction = node.integer("reduction")
    need(reduction in (_SUM, _MEAN, _NONE), node, f"reduction {reduction}")
    loss = plan.new_parameter((rows if reduction == _NONE else 1,))
    total = plan.new_parameter((1,))
    for tensor, value in zip(node.outputs, (loss, total), strict=False):
        plan.keep(tensor, value)
    plan.builder.emit(
        "LIKELIHOOD",
        scores=scores.offset,
        labels=labels.offset,
        weights=weights.offset,
        loss=loss.offset,
        total=total.offset,
        rows=rows,
        classes=classes,
        reduction=reduction,
    )


@operator("208 NLLLossGrad reduction:b", inputs=5)
def _likelihood_grad(plan: Plan, node: Node) -> None:
    scores, rows, classes = rows_of(plan, node)
    share, labels = plan.plain(node, 1), class_numbers(plan, node, 2, rows)
    weights, total = plan.fixed(node, 3), plan.fixed(node, 4)
    reduction = node.integer("reduction")
    need(reduction in (_SUM, _MEAN, _NONE), node, f"reduction {reduction}")
    right = weights.size == classes and total.size == 1 and share.size == (rows if reduction == _NONE else 1)
    need(right, node, f"weights of shape {weights.dims}, their sum of {total.dims}, and a gradient of {share.dims}")
    dx = plan.keep(node.outputs[0], plan.new_parameter(scores.dims))
    plan.builder.emit(
        "LIKELIHOOD_GRAD",
        share=share.offset,
        labels=labels.offset,
        weights=weights.offset,
        total=total.offset,
        dx=dx.offset,
        rows=rows,
        classes=classes,
        reduction=reduction,
    )


@helper
def _label(number: Any, classes: Any) -> Any:
    """Return a class number, -1 for one out of range."""
    return np.int64(number) if number >= _ZERO and number < np.float32(classes) else np.int64(-1)


@helper
def _shares(x: Any, y: Any) -> Any:
    """Write softmax(x) to y; return the logarithm of its divisor, the highest score included."""
    highest = x[0]
    for n in range(1, x.size):
        highest = larger(highest, x[n])
    for n in range(x.size):
        y[n] = exponential(x[n] - highest)
    total = 0.0
    for n in range(x.size):
        total += y[n]
    scale = _ONE / np.float32(total)
    for n in range(x.size):
        y[n] = y[n] * scale
    return highest + logarithm(np.float32(total))


@instruction("ROWS_LOSS", "scores labels y rows classes")
def rows_loss_kernel(arena: Any, table: Any, i: Any) -> None:
    """y = the mean over the rows of -log softmax(scores)[label]."""
    rows, classes = i[4], i[5]
    total = 0.0
    for row in range(rows):
        x = arena[i[1] + row * classes : i[1] + (row + 1) * classes]
        label = _label(arena[i[2] + row], classes)
        if label >= 0:
            highest = x[0]
            for n in range(1, classes):
                highest = larger(highest, x[n])
            exponentials = 0.0
            for n in range(classes):
                exponentials += exponential(x[n] - highest)
            total += logarithm(np.float32(exponentials)) - (x[label] - highest)
    arena[i[3]] = total / rows


@instruction("ROWS_LOSS_GRAD", "scores labels y rows classes", error_model="numpy")
def rows_loss_grad_kernel(arena: Any, table: Any, i: Any) -> None:
    """y = (softmax(scores) - onehot(label))/rows."""
    rows, classes = i[4], i[5]
    part = _ONE / np.float32(rows)
    for row in range(rows):
        y = arena[i[3] + row * classes : i[3] + (row + 1) * classes]
        label = _label(arena[i[2] + row], classes)
        if label < 0:
            y[:] = _ZERO
            continue
        _shares(arena[i[1] + row * classes : i[1] + (row + 1) * classes], y)
        y[label] -= _ONE
        for n in range(classes):
            y[n] = y[n] * part


@instruction("ROWS_CROSS_ENTROPY", "scores labels loss dx rows classes", error_model="numpy")
def rows_cross_entropy_kernel(arena: Any, table: Any, i: Any) -> None:
    """loss = -sum(labels * log softmax(scores)) and dx = softmax(scores) - labels, for each row."""
    classes = i[6]
    for row in range(i[5]):
        x, labels = arena[i[1] + row * classes :][:classes], arena[i[2] + row * classes :][:classes]
        dx = arena[i[4] + row * classes :][:classes]
        divisor = _shares(x, dx)
        total = 0.0
        for n in range(classes):
            total += labels[n] * (divisor - x[n])
            dx[n] = dx[n] - labels[n]
        arena[i[3] + row] = total


@instruction("ONE_HOT_ROWS", "indices y on off outer depth inner")
def one_hot_rows_kernel(arena: Any, table: Any, i: Any) -> None:
    """y[outer, index, inner] = on, elsewhere off."""
    on, off, depth, inner = arena[i[3]], arena[i[4]], i[6], i[7]
    for block in range(i[5]):
        y = arena[i[2] + block * depth * inner : i[2] + (block + 1) * depth * inner]
        y[:] = off
        for n in range(inner):
            label = _label(arena[i[1] + block * inner + n], depth)
            if label >= 0:
                y[label * inner + n] = on


@instruction("LIKELIHOOD", "scores labels weights loss total rows classes reduction", error_model="numpy")
def likelihood_kernel(arena: Any, table: Any, i: Any) -> None:
    """loss = -weight * score at each label: their sum, that divided by the sum of weights, or each; and that sum."""
    classes, reduction = i[7], i[8]
    loss, total = 0.0, 0.0
    for row in range(i[6]):
        label = _label(arena[i[2] + row], classes)
        part = _ZERO
        if label >= 0:
            total += arena[i[3] + label]
            part = -arena[i[3] + label] * arena[i[1] + row * classes + label]
        loss += part
        if reduction == _NONE:
            arena[i[4] + row] = part
    arena[i[5]] = total
    if reduction != _NONE:
        arena[i[4]] = loss / total if reduction == _MEAN else loss


@instruction("LIKELIHOOD_GRAD", "share labels weights total dx rows classes reduction", error_model="numpy")
def likelihood_grad_kernel(arena: Any, table: Any, i: Any) -> None:
    """dx = -weight * share at each label, for a mean divided by the sum of weights; elsewhere 0."""
    rows, classes, reduction = i[6], i[7], i[8]
    arena[i[5] : i[5] + rows * classes] = _ZERO
    for row in range(rows):
        label = _label(arena[i[2] + row], classes)
        if label >= 0:
            share = arena[i[1] + row] if reduction == _NONE else arena[i[1]]
            part = -share * arena[i[3] + label]
            arena[i[5] + row * classes + label] = part / arena[i[4]] if reduction == _MEAN else part
