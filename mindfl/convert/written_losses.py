"""Losses, with their gradients, written out."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from mindfl.convert.graph_editor import Value
from mindfl.convert.written_out import NodeWriter, written_out

#: how losses of single values become one: MindSpore's numbers, and the names in older operators
_REDUCTIONS: dict[object, str] = {0: "sum", 1: "mean", 2: "none", b"sum": "sum", b"mean": "mean", b"none": "none"}


def _reduction(writer: NodeWriter, setting: object) -> str:
    if setting not in _REDUCTIONS:
        raise writer.refusal(f"has the reduction {setting!r}, which is not converted")
    return _REDUCTIONS[setting]


def _reduced(writer: NodeWriter, losses: str, reduction: str) -> list[str]:
    """Add the reduction of the losses of single values, which have the shape of the first input."""
    axes = tuple(range(len(writer.editor.shape_of(writer.node.input[0]))))
    if reduction == "mean":
        return [writer.add("ReduceMean", losses, writer.constant(axes), keep_dims=False)]
    return [losses if reduction == "none" else writer.sum(losses, axes, keep_dims=False)]


def _shares(writer: NodeWriter, like: str, reduction: str) -> str:
    """Add the gradient of a reduction by the loss of each value."""
    shape = writer.editor.shape_of(like)
    return writer.array(np.full(shape, 1 / math.prod(shape) if reduction == "mean" else 1, np.float32))


def _balanced(writer: NodeWriter, operator: str, logits: str, labels: str, weights: Sequence[str], *more: str) -> str:
    """Add label * operator(logits, 1) * the weight of positives + (1 - label) * operator(logits, 0), times a weight."""
    weight, positive = weights
    if writer.editor.is_none(positive):
        losses = writer.add(operator, logits, labels, *more)
    else:
        shape = writer.editor.shape_of(logits)
        ones, zeros = (writer.array(np.full(shape, value, np.float32)) for value in (1, 0))
        share = writer.add("Mul", labels, positive)
        of_positives = writer.add("Mul", share, writer.add(operator, logits, ones, *more))
        others = writer.add("Sub", ones, labels)
        of_negatives = writer.add("Mul", others, writer.add(operator, logits, zeros, *more))
        losses = writer.add("Add", of_positives, of_negatives)
    return losses if writer.editor.is_none(weight) else writer.add("Mul", losses, weight)


@written_out("BCEWithLogitsLoss")
def _logits_loss(writer: NodeWriter) -> list[str]:
    """The binary cross entropy of logits, with weights of values and of positive labels where they are given."""
    logits, labels, *weights = writer.node.input[:4]
    losses = _balanced(writer, "SigmoidCrossEntropyWithLogits", logits, labels, weights)
    return _reduced(writer, losses, _reduction(writer, writer.setting(4)))


@written_out("BinaryCrossEntropyWithLogitsBackward")
def _logits_loss_gradient(writer: NodeWriter) -> list[str]:
    dy, logits, labels, *weights = writer.node.input[:5]
    share = _shares(writer, logits, _reduction(writer, writer.setting(5)))
    gradient = _balanced(writer, "SigmoidCrossEntropyWithLogitsGrad", logits, labels, weights, share)
    return [writer.add("Mul", gradient, dy)]


@written_out("SmoothL1Loss")
def _smooth_loss(writer: NodeWriter) -> list[str]:
    """MindSpore Lite's operator has a loss for each value."""
    losses = writer.add("SmoothL1Loss", *writer.node.input[:2], beta=writer.number(2), reduction=b"none")
    return _reduced(writer, losses, _reduction(writer, writer.setting(3)))


@written_out("SmoothL1LossGrad")
def _smooth_loss_gradient(writer: NodeWriter) -> list[str]:
    found, wanted, dy = writer.node.input[:3]
    share = _shares(writer, found, _reduction(writer, writer.setting(4)))
    settings: dict[str, Value] = {"beta": writer.number(3), "reduction": b"none"}
    return [writer.add("Mul", writer.add("SmoothL1LossGrad", found, wanted, share, **settings), dy)]


@written_out("KLDivLoss")
def _divergence(writer: NodeWriter) -> list[str]:
    """t * (log(t) - x), which is 0 where t is 0."""
    x, target = writer.node.input[:2]
    logarithm = writer.add("Log", writer.add("Maximum", target, writer.constant(float(np.finfo(np.float32).tiny))))
    losses = writer.add("Mul", target, writer.add("Sub", logarithm, x))
    return _reduced(writer, losses, _reduction(writer, writer.editor.attribute(writer.node, "reduction")))


@written_out("KLDivLossGrad")
def _divergence_gradient(writer: NodeWriter) -> list[str]:
    dy, x, target = writer.node.input[:3]
    share = _shares(writer, x, _reduction(writer, writer.editor.attribute(writer.node, "reduction")))
    return [writer.add("Neg", writer.add("Mul", writer.add("Mul", target, share), dy))]


@written_out("SoftMarginLoss")
def _margin_loss(writer: NodeWriter) -> list[str]:
    """log(1 + exp(-x * label))."""
    x, label = writer.node.input[:2]
    losses = writer.add("Softplus", writer.add("Neg", writer.add("Mul", x, label)))
    return _reduced(writer, losses, _named_reduction(writer))


@written_out("SoftMarginLossGrad")
def _margin_loss_gradient(writer: NodeWriter) -> list[str]:
    """-label * sigmoid(-x * label)."""
    x, label, dy = writer.node.input[:3]
    slope = writer.add("Mul", label, writer.add("Sigmoid", writer.add("Neg", writer.add("Mul", x, label))))
    share = _shares(writer, x, _named_reduction(writer))
    return [writer.add("Neg", writer.add("Mul", writer.add("Mul", slope, share), dy))]


def _named_reduction(writer: NodeWriter) -> str:
    """Return the reduction, which is the last input or an attribute."""
    last = writer.node.input[-1]
    if writer.editor.is_tensor(last):
        return _reduction(writer, writer.editor.attribute(writer.node, "reduction"))
    return _reduction(writer, writer.setting(len(writer.node.input) - 1))


def _one_hot(writer: NodeWriter, index: str, shape: tuple[int, ...], axis: Value) -> str:
    """Add an array of ``shape`` that is 1 at the index of each vector along ``axis``, of which there is one, else 0."""
    if not isinstance(axis, int) or not -len(shape) <= axis < len(shape):
        raise writer.refusal(f"picks values along the axis {axis!r}")
    axis %= len(shape)
    if writer.editor.shape_of(index) != (*shape[:axis], 1, *shape[axis + 1 :]):
        raise writer.refusal(f"picks more or less than one value of each vector along axis {axis}, of {shape}")
    others = [each for each in range(len(shape)) if each != axis]
    chosen = writer.reshape(index, tuple(shape[each] for each in others))
    depth = writer.array(np.array(shape[axis], np.int32))
    hot = writer.add("OneHot", chosen, depth, writer.constant(1.0), writer.constant(0.0), axis=-1)
    back = tuple([*others, axis].index(each) for each in range(len(shape)))
    return hot if axis == len(shape) - 1 else writer.add("Transpose", hot, writer.constant(back))


@written_out("InplaceScatterSrc")
def _scatter(writer: NodeWriter) -> list[str]:
    """The gradient of a maximum along an axis: what it was goes back to where it was, and 0 to the others."""
    base, _, index, source = writer.node.input[:4]
    held = writer.editor.array(base)
    if held is None or held.any():
        raise writer.refusal("scatters values into others than zeros")
    return [writer.add("Mul", _one_hot(writer, index, writer.editor.shape(writer.node), writer.setting(1)), source)]


@written_out("GatherD")
def _pick(writer: NodeWriter) -> list[str]:
    x, axis = writer.node.input[0], writer.setting(1)
    shape = writer.editor.shape_of(x)
    picked = writer.add("Mul", x, _one_hot(writer, writer.node.input[2], shape, axis))
    return [writer.sum(picked, (int(writer.number(1)) % len(shape),), keep_dims=True)]


@written_out("GatherDGradV2")
def _pick_gradient(writer: NodeWriter) -> list[str]:
    shape = writer.editor.shape_of(writer.node.input[0])
    return [writer.add("Mul", _one_hot(writer, writer.node.input[2], shape, writer.setting(1)), writer.node.input[3])]
