"""Layers and activations, with their gradients, written out."""

from __future__ import annotations

import math

from mindfl.convert.written_out import NodeWriter, written_out


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


@written_out("SiLU")
def _silu(writer: NodeWriter) -> list[str]:
    return [writer.add("Mul", writer.node.input[0], writer.add("Sigmoid", writer.node.input[0]))]


@written_out("SiLUGrad")
def _silu_gradient(writer: NodeWriter) -> list[str]:
    """dy * (s + x * s * (1 - s)) with s the sigmoid of x."""
    dy, x = writer.node.input[:2]
    sigmoid = writer.add("Sigmoid", x)
    slope = writer.add("Mul", sigmoid, writer.add("Sub", writer.constant(1.0), sigmoid))
    return [writer.add("Mul", dy, writer.add("Add", sigmoid, writer.add("Mul", x, slope)))]


@written_out("SoftplusGrad")
def _softplus_gradient(writer: NodeWriter) -> list[str]:
    dy, x = writer.node.input[:2]
    return [writer.add("Mul", dy, writer.add("Sigmoid", x))]


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
    shape, by_group, per_channel = _group_shapes(writer, writer.setting(1))
    epsilon = writer.number(4)
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
    dy, x, mean, inverse, gamma = writer.node.input[:5]
    shape, by_group, per_channel = _group_shapes(writer, writer.setting(5))
    centred = writer.add("Sub", writer.reshape(x, by_group), mean)
    normal = writer.add("Mul", centred, inverse)
    gradient = writer.reshape(writer.add("Mul", dy, writer.reshape(gamma, per_channel)), by_group)
    pulled = writer.add("Mul", normal, writer.mean(writer.add("Mul", gradient, normal), (2,)))
    inner = writer.add("Sub", writer.add("Sub", gradient, writer.mean(gradient, (2,))), pulled)
    dx = writer.reshape(writer.add("Mul", inner, inverse), shape)
    others = (0, *range(2, len(shape)))
    dgamma = writer.sum(writer.add("Mul", dy, writer.reshape(normal, shape)), others, keep_dims=False)
    return [dx, dgamma, writer.sum(dy, others, keep_dims=False)]


@written_out("SplitWithSize")
def _split(writer: NodeWriter) -> list[str]:
    """A slice for each part."""
    sizes, axis = writer.setting(1), writer.setting(2)
    if not isinstance(sizes, tuple) or not isinstance(axis, int):
        raise writer.refusal("splits into sizes that are not constants")
    shape = writer.editor.shape_of(writer.node.input[0])
    parts = []
    begin = 0
    for size in sizes:
        begins, counts = [0] * len(shape), list(shape)
        begins[axis], counts[axis] = begin, size
        parts.append(
            writer.add("Slice", writer.node.input[0], writer.constant(tuple(begins)), writer.constant(tuple(counts)))
        )
        writer.editor.state_shape(writer.nodes[-1], counts)
        begin += size
    return parts


@written_out("AdaptiveAvgPool2D")
def _global_pool(writer: NodeWriter) -> list[str]:
    shape = writer.editor.shape(writer.node)
    if shape[2:] != (1, 1):
        raise writer.refusal(f"pools to {shape[2]}x{shape[3]}, only 1x1 can be converted")
    return [writer.mean(writer.node.input[0], (2, 3))]


@written_out("AdaptiveAvgPool2DGrad")
def _global_pool_gradient(writer: NodeWriter) -> list[str]:
    height, width = writer.editor.shape(writer.node)[2:]
    spread = writer.add("Tile", writer.node.input[0], writer.constant((1, 1, height, width)))
    return [writer.add("RealDiv", spread, writer.constant(float(height * width)))]
