"""Softmax, normalisation and splitting, with their gradients, written out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate

from mindfl.convert.written_out import NodeWriter, written_out

_INT32 = 34  # the number of the type in MindSpore's graphs


@written_out("SoftmaxBackward")
def _softmax_gradient(writer: NodeWriter) -> list[str]:
    """y * (dy - sum(dy * y))."""
    dy, y = writer.node.input[:2]
    total = writer.sum(writer.add("Mul", dy, y), writer.axes(2), keep_dims=True)
    return [writer.add("Mul", y, writer.add("Sub", dy, total))]


@written_out("LogSoftmaxGrad")
def _log_softmax_gradient(writer: NodeWriter) -> list[str]:
    """dy - exp(y) * sum(dy)."""
    y, dy = writer.node.input[:2]
    total = writer.sum(dy, writer.axes(2), keep_dims=True)
    return [writer.add("Sub", dy, writer.add("Mul", writer.add("Exp", y), total))]


@written_out("ArgMaxWithValue", "ArgMinWithValue")
def _extreme(writer: NodeWriter) -> list[str]:
    """Where the maximum or minimum along an axis is, and that: the converter mixes the two outputs up."""
    (axis,) = writer.axes(1)
    least = writer.editor.operator(writer.node) == "ArgMinWithValue"
    return extreme(writer, axis, least=least, kept=bool(writer.setting(2)))


def extreme(writer: NodeWriter, axis: int, *, least: bool, kept: bool) -> list[str]:
    """Add the place of the maximum, or of the minimum, along an axis of the first input, and that value."""
    x, shape = writer.node.input[0], list(writer.editor.shape_of(writer.node.input[0]))
    place = writer.add("Argmax", writer.add("Neg", x) if least else x, axis=axis % len(shape), output_type=_INT32)
    if kept:
        shape[axis] = 1
        place = writer.reshape(place, tuple(shape))
    return [
        place,
        writer.add("ReduceMin" if least else "ReduceMax", x, writer.constant((axis % len(shape),)), keep_dims=kept),
    ]


def _group_shapes(writer: NodeWriter, groups: object) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """Return the shape of a GroupNorm's input, that by groups, and that of a weight per channel."""
    shape = writer.editor.shape(writer.node)
    if not isinstance(groups, int) or groups < 1 or shape[1] % groups:
        raise writer.refusal(f"divides {shape[1]} channels into {groups!r} groups")
    by_group = (shape[0], groups, math.prod(shape[1:]) // groups)
    return shape, by_group, (1, shape[1], *(1 for _ in shape[2:]))


@written_out("GroupNorm")
def _group_norm(writer: NodeWriter) -> list[str]:
    """(x - mean)/sqrt(variance + epsilon) * gamma + beta, mean and variance over a group's channels and positions."""
    x, _, gamma, beta, _ = writer.node.input
    return _normalised(writer, x, (gamma, beta), writer.setting(1), writer.number(4))


def _normalised(writer: NodeWriter, x: str, affine: tuple[str, str], groups: object, epsilon: float) -> list[str]:
    """Add the normalised input with its mean and the inverse of its deviation; ``affine``: gamma and beta."""
    gamma, beta = affine
    shape, by_group, per_channel = _group_shapes(writer, groups)
    grouped = writer.reshape(x, by_group)
    mean = writer.mean(grouped, (2,))
    centred = writer.add("Sub", grouped, mean)
    variance = writer.mean(writer.add("Square", centred), (2,))
    deviation = writer.add("Sqrt", writer.add("Add", variance, writer.constant(epsilon)))
    normal = writer.reshape(writer.add("RealDiv", centred, deviation), shape)
    scaled = writer.add("Mul", normal, writer.reshape(gamma, per_channel))
    y = writer.add("Add", scaled, writer.reshape(beta, per_channel))
    inverse = writer.add("RealDiv", writer.constant(1.0), deviation)
    return [y, mean, inverse]


@written_out("GroupNormGrad")
def _group_norm_gradient(writer: NodeWriter) -> list[str]:
    """dx = (g - mean(g) - n * mean(g * n))/deviation with g = dy * gamma and n the normalised input, means by group."""
    return _normalised_gradient(writer, writer.node.input[:5], writer.setting(5))


def _normalised_gradient(writer: NodeWriter, inputs: Sequence[str], groups: object) -> list[str]:
    dy, x, mean, inverse, gamma = inputs
    shape, by_group, per_channel = _group_shapes(writer, groups)
    centred = writer.add("Sub", writer.reshape(x, by_group), mean)
    normal = writer.add("Mul", centred, inverse)
    gradient = writer.reshape(writer.add("Mul", dy, writer.reshape(gamma, per_channel)), by_group)
    pulled = writer.add("Mul", normal, writer.mean(writer.add("Mul", gradient, normal), (2,)))
    inner = writer.add("Sub", writer.add("Sub", gradient, writer.mean(gradient, (2,))), pulled)
    dx = writer.reshape(writer.add("Mul", inner, inverse), shape)
    others = (0, *range(2, len(shape)))
    dgamma = writer.sum(writer.add("Mul", dy, writer.reshape(normal, shape)), others, keep_dims=False)
    return [dx, dgamma, writer.sum(dy, others, keep_dims=False)]


@written_out("InstanceNorm")
def _instance_norm(writer: NodeWriter) -> list[str]:
    """A GroupNorm with a group for each channel; MindSpore's running statistics of it are read by nothing."""
    x, gamma, beta = writer.node.input[:3]
    shape = writer.editor.shape(writer.node)
    epsilon = writer.editor.attribute(writer.node, "epsilon")
    if not isinstance(epsilon, float):
        raise writer.refusal("has an epsilon that is not known")
    return _normalised(writer, x, (gamma, beta), shape[1], epsilon)


@written_out("InstanceNormGrad")
def _instance_norm_gradient(writer: NodeWriter) -> list[str]:
    dy, x, gamma, mean, inverse = writer.node.input[:5]
    return _normalised_gradient(writer, (dy, x, mean, inverse, gamma), writer.editor.shape(writer.node)[1])


def _length(writer: NodeWriter, x: str) -> tuple[str, tuple[int, ...]]:
    """Add the length of the vectors along the axes of L2Normalize; return it and the axes."""
    axes, epsilon = (writer.editor.attribute(writer.node, name) for name in ("axis", "epsilon"))
    if isinstance(axes, int):
        axes = (axes,)
    if not isinstance(axes, tuple) or not isinstance(epsilon, float):
        raise writer.refusal("has an axis or an epsilon that is not known")
    squares = writer.sum(writer.add("Square", x), axes, keep_dims=True)
    return writer.add("Sqrt", writer.add("Maximum", squares, writer.constant(epsilon))), axes


@written_out("LpNorm")
def _norm(writer: NodeWriter) -> list[str]:
    """The length of vectors, or the sum of their absolute values."""
    x = writer.node.input[0]
    power, axes, kept = (writer.editor.attribute(writer.node, name) for name in ("p", "axis", "keep_dims"))
    if power not in (1, 2) or not isinstance(axes, int | tuple):
        raise writer.refusal(f"is the norm of power {power!r} along {axes!r}, which is not converted")
    axes = axes if isinstance(axes, tuple) else (axes,)
    total = writer.sum(writer.add("Abs" if power == 1 else "Square", x), axes, keep_dims=bool(kept))
    return [total if power == 1 else writer.add("Sqrt", total)]


@written_out("L2Normalize")
def _unit(writer: NodeWriter) -> list[str]:
    x = writer.node.input[0]
    return [writer.add("RealDiv", x, _length(writer, x)[0])]


@written_out("L2NormalizeGrad")
def _unit_gradient(writer: NodeWriter) -> list[str]:
    """(dy - y * sum(dy * y))/length."""
    x, y, dy = writer.node.input[:3]
    length, axes = _length(writer, x)
    along = writer.add("Mul", y, writer.sum(writer.add("Mul", dy, y), axes, keep_dims=True))
    return [writer.add("RealDiv", writer.add("Sub", dy, along), length)]


@written_out("SplitWithSize")
def _split(writer: NodeWriter) -> list[str]:
    """A slice for each part."""
    sizes, axis = writer.setting(1), writer.setting(2)
    if not isinstance(sizes, tuple) or not isinstance(axis, int):
        raise writer.refusal("splits into sizes that are not constants")
    begins = (0, *accumulate(sizes))
    return [writer.part(writer.node.input[0], axis, begin, size) for begin, size in zip(begins, sizes, strict=False)]
