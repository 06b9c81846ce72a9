"""Losses, with their gradients, written out."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from mindfl.convert.written_out import NodeWriter, written_out


@written_out("BCEWithLogitsLoss")
def _logits_loss(writer: NodeWriter) -> list[str]:
    """The mean of the binary cross entropy of logits, element by element."""
    _check_plain_mean(writer, writer.node.input[2:4], 4)
    losses = writer.add("SigmoidCrossEntropyWithLogits", *writer.node.input[:2])
    axes = tuple(range(len(writer.editor.shape_of(writer.node.input[0]))))
    return [writer.add("ReduceMean", losses, writer.constant(axes), keep_dims=False)]


@written_out("BinaryCrossEntropyWithLogitsBackward")
def _logits_loss_gradient(writer: NodeWriter) -> list[str]:
    _check_plain_mean(writer, writer.node.input[3:5], 5)
    dy, logits, labels = writer.node.input[:3]
    shape = writer.editor.shape_of(logits)
    share = writer.array(np.full(shape, 1 / math.prod(shape), np.float32))
    gradient = writer.add("SigmoidCrossEntropyWithLogitsGrad", logits, labels, share)
    return [writer.add("Mul", gradient, dy)]


def _check_plain_mean(writer: NodeWriter, weights: Iterable[str], place: int) -> None:
    if not all(map(writer.editor.is_none, weights)) or writer.setting(place) != 1:
        raise writer.refusal("has weights, or another reduction than the mean")


def _one_hot(writer: NodeWriter, index: str) -> str:
    """Add a row per sample that is 1 at the sample's index, for picking one value out of each row of a matrix."""
    rows, columns = (*writer.editor.shape_of(writer.node.input[0]), 0)[:2]
    axis = writer.setting(1)
    if writer.editor.shape_of(index) != (rows, 1) or axis not in (1, -1):
        raise writer.refusal("picks more than one value out of each row of a matrix")
    on, off = writer.constant(1.0), writer.constant(0.0)
    depth = writer.array(np.array(columns, np.int32))
    return writer.add("OneHot", writer.reshape(index, (rows,)), depth, on, off, axis=-1)


@written_out("GatherD")
def _pick(writer: NodeWriter) -> list[str]:
    hot = _one_hot(writer, writer.node.input[2])
    return [writer.sum(writer.add("Mul", writer.node.input[0], hot), (1,), keep_dims=True)]


@written_out("GatherDGradV2")
def _pick_gradient(writer: NodeWriter) -> list[str]:
    return [writer.add("Mul", _one_hot(writer, writer.node.input[2]), writer.node.input[3])]
