"""Activations, with their gradients, written out."""

from __future__ import annotations

import math

import numpy as np

from mindfl.convert.written_out import NodeWriter, written_out


@written_out("SiLU")
def _silu(writer: NodeWriter) -> list[str]:
    return [writer.add("Mul", writer.node.input[0], writer.add("Sigmoid", writer.node.input[0]))]


@written_out("SiLUGrad")
def _silu_gradient(writer: NodeWriter) -> list[str]:
    """dy * (s + x * s * (1 - s)) with s the sigmoid of x."""
    dy, x = writer.node.input[:2]
    return [_gated_gradient(writer, dy, x)]


def _gated_gradient(writer: NodeWriter, dy: str, x: str) -> str:
    """Add dy * (s + x * s * (1 - s)) with s the sigmoid of x."""
    sigmoid = writer.add("Sigmoid", x)
    slope = writer.add("Mul", sigmoid, writer.add("Sub", writer.constant(1.0), sigmoid))
    return writer.add("Mul", dy, writer.add("Add", sigmoid, writer.add("Mul", x, slope)))


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


@written_out("CeLU")
def _celu(writer: NodeWriter) -> list[str]:
    """max(x, 0) + alpha * (exp(min(x, 0)/alpha) - 1)."""
    return [_exponential(writer, writer.number(1), 1.0)]


@written_out("SeLU")
def _selu(writer: NodeWriter) -> list[str]:
    """scale * (max(x, 0) + alpha * (exp(min(x, 0)) - 1)), with the numbers of Klambauer et al. 2017."""
    return [writer.add("Mul", _exponential(writer, 1.0, 1.6732632423543772), writer.constant(1.0507009873554805))]


def _exponential(writer: NodeWriter, width: float, alpha: float) -> str:
    """Add max(x, 0) + width * alpha * (exp(min(x, 0)/width) - 1)."""
    x, zero = writer.node.input[0], writer.constant(0.0)
    below = writer.add("RealDiv", writer.add("Minimum", x, zero), writer.constant(width))
    curve = writer.add("Sub", writer.add("Exp", below), writer.constant(1.0))
    return writer.add("Add", writer.add("Maximum", x, zero), writer.add("Mul", curve, writer.constant(width * alpha)))


def _beyond(writer: NodeWriter, x: str, limit: float, value: str) -> str:
    """Add ``value`` where |x| is above ``limit``, elsewhere 0."""
    shape = writer.editor.shape_of(x)
    above = writer.add("Greater", writer.add("Abs", x), writer.array(np.full(shape, limit, np.float32)))
    return writer.add("Select", above, value, writer.array(np.zeros(shape, np.float32)))


@written_out("HShrink")
def _hard_shrink(writer: NodeWriter) -> list[str]:
    x = writer.node.input[0]
    return [_beyond(writer, x, writer.number(1), x)]


@written_out("HShrinkGrad", "SoftShrinkGrad")
def _shrink_gradient(writer: NodeWriter) -> list[str]:
    dy, x = writer.node.input[:2]
    return [_beyond(writer, x, writer.number(2), dy)]


@written_out("SoftShrink")
def _soft_shrink(writer: NodeWriter) -> list[str]:
    """x - min(max(x, -limit), limit)."""
    x, limit = writer.node.input[0], writer.number(1)
    near = writer.add("Minimum", writer.add("Maximum", x, writer.constant(-limit)), writer.constant(limit))
    return [writer.add("Sub", x, near)]


@written_out("Softsign")
def _softsign(writer: NodeWriter) -> list[str]:
    """x/(1 + |x|)."""
    x = writer.node.input[0]
    return [writer.add("RealDiv", x, writer.add("Add", writer.add("Abs", x), writer.constant(1.0)))]


def _steep(writer: NodeWriter, x: str) -> str:
    return writer.add("Mul", x, writer.constant(1.702))


@written_out("FastGeLU")
def _fast_gelu(writer: NodeWriter) -> list[str]:
    """x * sigmoid(1.702 x)."""
    x = writer.node.input[0]
    return [writer.add("Mul", x, writer.add("Sigmoid", _steep(writer, x)))]


@written_out("FastGeLUGrad")
def _fast_gelu_gradient(writer: NodeWriter) -> list[str]:
    """dy * (s + 1.702 x * s * (1 - s)) with s the sigmoid of 1.702 x."""
    dy, x = writer.node.input[:2]
    return [_gated_gradient(writer, dy, _steep(writer, x))]
