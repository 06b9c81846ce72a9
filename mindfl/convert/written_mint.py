"""Operators that ``mindspore.mint`` exports and MindSpore executes on a CPU, and views, written out."""

from __future__ import annotations

import math

from mindfl.convert.graph_editor import Value
from mindfl.convert.written_axes import resized_to
from mindfl.convert.written_layers import extreme
from mindfl.convert.written_out import NodeWriter, written_out
from mindfl.convert.written_paddings import with_borders


@written_out("Dense")
def _dense(writer: NodeWriter) -> list[str]:
    """The product of all rows with the weights, and a bias where there is one."""
    x, weight, bias = writer.node.input[:3]
    shape = writer.editor.shape_of(x)
    outputs = writer.editor.shape_of(weight)
    if len(outputs) != 2 or len(shape) < 2:
        raise writer.refusal(f"multiplies arrays of the shapes {shape} and {outputs}, which is not converted")
    rows = x if len(shape) == 2 else writer.reshape(x, (math.prod(shape[:-1]), shape[-1]))
    y = writer.product(rows, weight, turned=True)
    if not writer.editor.is_none(bias):
        y = writer.add("BiasAdd", y, bias, format=b"NCHW", data_format=b"NCHW")
    return [y if len(shape) == 2 else writer.reshape(y, (*shape[:-1], outputs[0]))]


@written_out("LogSoftmaxExt")
def _log_softmax(writer: NodeWriter) -> list[str]:
    x, axis = writer.node.input[:2]
    rank = len(writer.editor.shape_of(x))
    stated: Value = (0 if rank in (0, 1, 3) else 1) if writer.editor.is_none(axis) else writer.setting(1)
    return [writer.add("LogSoftmax", x, axis=stated)]


def _halves(writer: NodeWriter, x: str, axis: int) -> tuple[str, str]:
    """Add the two halves of a value along an axis."""
    shape = writer.editor.shape_of(x)
    size = shape[axis] // 2
    first, second = (writer.part(x, axis, begin, size) for begin in (0, size))
    return first, second


@written_out("GLU")
def _gated(writer: NodeWriter) -> list[str]:
    first, second = _halves(writer, writer.node.input[0], int(writer.number(1)))
    return [writer.add("Mul", first, writer.add("Sigmoid", second))]


@written_out("GluGrad")
def _gated_gradient(writer: NodeWriter) -> list[str]:
    """dy * s for the first half, dy * first * s * (1 - s) for the second, with s the sigmoid of the second."""
    dy, x = writer.node.input[:2]
    axis = int(writer.number(2)) % len(writer.editor.shape_of(x))
    first, second = _halves(writer, x, axis)
    gate = writer.add("Sigmoid", second)
    of_first = writer.add("Mul", dy, gate)
    slope = writer.add("Mul", first, writer.add("Sub", writer.constant(1.0), gate))
    parts = writer.add("MakeTuple", of_first, writer.add("Mul", of_first, slope))
    return [writer.add("Concat", parts, axis=axis, inputNums=2)]


@written_out("MaxDim", "MinDim")
def _extreme_of_axis(writer: NodeWriter) -> list[str]:
    """The maximum or minimum along an axis, and where it is."""
    least = writer.editor.operator(writer.node) == "MinDim"
    return extreme(writer, int(writer.number(1)), least=least, kept=bool(writer.setting(2)))[::-1]


@written_out("ArgMaxExt", "ArgMinExt", "Argmin")
def _place_of_extreme(writer: NodeWriter) -> list[str]:
    operator = writer.editor.operator(writer.node)
    if writer.editor.is_none(writer.node.input[1]):
        raise writer.refusal("looks for the place in an array of all values, which is not converted")
    kept = operator != "Argmin" and bool(writer.setting(2))
    return extreme(writer, int(writer.number(1)), least=operator != "ArgMaxExt", kept=kept)[:1]


@written_out("AddExt", "SubExt")
def _moved(writer: NodeWriter) -> list[str]:
    """x + y * alpha, or x - y * alpha."""
    x, y = writer.node.input[:2]
    factor = writer.number(2)
    operator = writer.editor.operator(writer.node).removesuffix("Ext")
    return [writer.add(operator, x, y if factor == 1 else writer.add("Mul", y, writer.alike(factor, y)))]


@written_out("Narrow")
def _narrowed(writer: NodeWriter) -> list[str]:
    axis, begin, size = (int(writer.number(place)) for place in (1, 2, 3))
    shape = writer.editor.shape_of(writer.node.input[0])
    return [writer.part(writer.node.input[0], axis, begin % shape[axis], size)]


@written_out("BatchMatMulExt")
def _products(writer: NodeWriter) -> list[str]:
    return [writer.products(*writer.node.input[:2])]


@written_out("ConstantPadND")
def _padded(writer: NodeWriter) -> list[str]:
    """Constants on both sides of axes, which are stated from the last on; negative numbers cut values off."""
    x, stated = writer.node.input[0], writer.axes(1)
    shape = writer.editor.shape_of(x)
    pairs = list(zip(stated[::2], stated[1::2], strict=True))[::-1]
    sides = [(0, 0)] * (len(shape) - len(pairs)) + pairs
    return [with_borders(writer, x, shape, sides, writer.number(2))]


@written_out("UpsampleNearest2D", "UpsampleNearest2DGrad", "ResizeNearestNeighbor", "ResizeNearestNeighborGrad")
def _nearest(writer: NodeWriter) -> list[str]:
    """Images of other height and width, or the gradient: the sizes are those that the export recorded."""
    operator = writer.editor.operator(writer.node)
    how = {"corners": False, "half": False}
    if operator.startswith("Resize"):
        how = {"corners": bool(writer.setting(2)), "half": bool(writer.setting(3))}
    else:
        shape, new = writer.editor.shape_of(writer.node.input[0]), writer.editor.shape(writer.node)
        if any(large % small for small, large in (sorted(pair) for pair in zip(shape[2:], new[2:], strict=True))):
            raise writer.refusal("resizes by a factor that is no whole number, which is not converted")
    return resized_to(writer, writer.editor.shape(writer.node)[2:], gradient=operator.endswith("Grad"), **how)
