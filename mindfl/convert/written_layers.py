"""Layers and activations, with their gradients, written out."""

from __future__ import annotations

import math

import numpy as np

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


@written_out("ArgMaxWithValue")
def _greatest(writer: NodeWriter) -> list[str]:
    """Where the maximum along an axis is, and the maximum: the converter mixes the two outputs up."""
    x, shape = writer.node.input[0], list(writer.editor.shape_of(writer.node.input[0]))
    (axis,) = writer.axes(1)
    kept = bool(writer.setting(2))
    place = writer.add("Argmax", x, axis=axis % len(shape), output_type=_INT32)
    if kept:
        shape[axis] = 1
        place = writer.reshape(place, tuple(shape))
    return [place, writer.add("ReduceMax", x, writer.constant((axis % len(shape),)), keep_dims=kept)]


@written_out("EluGrad")
def _elu_gradient(writer: NodeWriter) -> list[str]:
    """dy * (min(y, 0) + 1), for the alpha of 1 that MindSpore has; the converter would write an alpha of 0."""
    dy, y = writer.node.input[:2]
    slope = writer.add("Add", writer.add("Minimum", y, writer.constant(0.0)), writer.constant(1.0))
    return [writer.add("Mul", dy, slope)]


@written_out("Mish")
def _mish(writer: NodeWriter) -> list[str]:
    """x * tanh(log(1 + e^x))."""
    x = writer.node.input[0]
    return [writer.add("Mul", x, writer.add("Tanh", writer.add("Softplus", x)))]


def _per_channel(writer: NodeWriter, weight: str, shape: tuple[int, ...]) -> str:
    """Add a weight for each channel of ``shape``, or the one that all channels share, in a shape that spreads."""
    count = math.prod(writer.editor.shape_of(weight))
    return writer.reshape(weight, (1, count, *(1 for _ in shape[2:])))


@written_out("PReLU")
def _prelu(writer: NodeWriter) -> list[str]:
    """max(x, 0) + weight * min(x, 0)."""
    x, weight = writer.node.input[:2]
    zero = writer.constant(0.0)
    negative = writer.add("Minimum", x, zero)
    scaled = writer.add("Mul", negative, _per_channel(writer, weight, writer.editor.shape_of(x)))
    return [writer.add("Add", writer.add("Maximum", x, zero), scaled)]


@written_out("PReLUGrad")
def _prelu_gradient(writer: NodeWriter) -> list[str]:
    dy, x, weight = writer.node.input[:3]
    shape = writer.editor.shape_of(x)
    zero, full = writer.constant(0.0), writer.array(np.zeros(shape, np.float32))
    above = writer.add("Greater", x, full)
    dx = writer.add("Select", above, dy, writer.add("Mul", dy, _per_channel(writer, weight, shape)))
    shared = math.prod(writer.editor.shape_of(weight)) == 1
    axes = tuple(axis for axis in range(len(shape)) if shared or axis != 1)
    total = writer.sum(writer.add("Mul", dy, writer.add("Minimum", x, zero)), axes, keep_dims=False)
    return [dx, writer.reshape(total, writer.editor.shape_of(weight))]


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


def _length(writer: NodeWriter, x: str) -> tuple[str, tuple[int, ...]]:
    """Add the length of the vectors along the axes of L2Normalize; return it and the axes."""
    axes, epsilon = (writer.editor.attribute(writer.node, name) for name in ("axis", "epsilon"))
    if isinstance(axes, int):
        axes = (axes,)
    if not isinstance(axes, tuple) or not isinstance(epsilon, float):
        raise writer.refusal("has an axis or an epsilon that is not known")
    squares = writer.sum(writer.add("Square", x), axes, keep_dims=True)
    return writer.add("Sqrt", writer.add("Maximum", squares, writer.constant(epsilon))), axes


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


@written_out("InstanceNorm", "InstanceNormGrad")
def _instance_norm(writer: NodeWriter) -> list[str]:
    raise writer.refusal(
        "is an InstanceNorm, which is not converted; nn.GroupNorm(channels, channels) normalises so too"
    )


def _paddings(writer: NodeWriter, dims: int) -> list[tuple[int, int]]:
    """Return the constant numbers of values before and after each axis."""
    stated = writer.editor.array(writer.node.input[1])
    numbers = writer.setting(1) if stated is None else tuple(int(each) for each in stated.ravel())
    if writer.editor.attribute(writer.node, "mode") != b"constant":
        raise writer.refusal("pads with other values than constants, which is not converted")
    if not isinstance(numbers, tuple) or len(numbers) % 2 or len(numbers) > 2 * dims or min(numbers, default=0) < 0:
        raise writer.refusal(f"pads by {numbers!r}, which is not converted")
    pairs = [(numbers[place], numbers[place + 1]) for place in range(0, len(numbers), 2)]  # from the last axis on
    return [(0, 0)] * (dims - len(pairs)) + pairs[::-1]


@written_out("PadV3")
def _padded(writer: NodeWriter) -> list[str]:
    """Constants concatenated on both sides of each axis."""
    y, shape = writer.node.input[0], list(writer.editor.shape_of(writer.node.input[0]))
    value = 0.0 if writer.editor.is_none(writer.node.input[2]) else writer.number(2)
    for axis, sides in enumerate(_paddings(writer, len(shape))):
        parts = [y]
        for before, count in zip((True, False), sides, strict=True):
            if count:
                border = writer.array(np.full((*shape[:axis], count, *shape[axis + 1 :]), value, np.float32))
                parts.insert(0 if before else len(parts), border)
        if len(parts) > 1:
            y = writer.add("Concat", writer.add("MakeTuple", *parts), axis=axis, inputNums=len(parts))
            shape[axis] += sum(sides)
            writer.editor.state_shape(writer.nodes[-1], shape)
    return [y]


@written_out("PadV3Grad")
def _padded_gradient(writer: NodeWriter) -> list[str]:
    shape = writer.editor.shape_of(writer.node.input[0])
    sides = _paddings(writer, len(shape))
    counts = tuple(size - sum(pair) for size, pair in zip(shape, sides, strict=True))
    begins = writer.constant(tuple(before for before, _ in sides))
    return [writer.add("Slice", writer.node.input[0], begins, writer.constant(counts))]


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
