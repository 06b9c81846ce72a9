"""Pooling that version 1 does not have, with the gradients, written out."""

from __future__ import annotations

import math

import numpy as np

from mindfl.convert.graph_editor import node_label
from mindfl.convert.written_axes import Matrix, along
from mindfl.convert.written_out import NodeWriter, written_out
from mindfl.convert.written_paddings import with_borders

_LEAST = float(np.finfo(np.float32).min)


@written_out("AdaptiveAvgPool2D")
def _adaptive_mean(writer: NodeWriter) -> list[str]:
    x, new = writer.node.input[0], writer.editor.shape(writer.node)
    if new[-2:] == (1, 1):
        return [writer.mean(x, (len(new) - 2, len(new) - 1))]
    shape = writer.editor.shape_of(x)
    for axis in (-2, -1):
        x, shape = along(writer, x, shape, axis, _shares(shape[axis], new[axis]))
    return [x]


@written_out("AdaptiveAvgPool2DGrad")
def _adaptive_mean_gradient(writer: NodeWriter) -> list[str]:
    dy, new = writer.node.input[0], writer.editor.shape(writer.node)
    shape = writer.editor.shape_of(dy)
    if shape[-2:] == (1, 1):
        spread = writer.add("Tile", dy, writer.constant((*(1 for _ in new[:-2]), *new[-2:])))
        return [writer.add("RealDiv", spread, writer.constant(float(math.prod(new[-2:]))))]
    for axis in (-2, -1):
        dy, shape = along(writer, dy, shape, axis, _shares(new[axis], shape[axis]).T)
    return [dy]


def _shares(size: int, new: int) -> Matrix:
    """Return the share of each value of an axis in those that are pooled to ``new``."""
    shares = np.zeros((new, size), np.float32)
    for place in range(new):
        first, end = place * size // new, -(-(place + 1) * size // new)
        shares[place, first:end] = 1 / (end - first)
    return shares


def _numbers(writer: NodeWriter, name: str, count: int) -> tuple[int, ...]:
    """Return the last ``count`` numbers of an attribute."""
    value = writer.editor.attribute(writer.node, name)
    if not isinstance(value, tuple) or len(value) < count:
        raise writer.refusal(f"has the setting {name} {value!r}, which is not converted")
    return value[-count:]


def _windows(writer: NodeWriter, sizes: tuple[int, ...], new: tuple[int, ...]) -> list[Matrix]:
    """Return the shares of an average over windows, of each of the three axes of AvgPool3D.

    The average of a window is one along each axis, one after the other. With ``count_include_pad`` the padding counts,
    though not what a window has beyond it.
    """
    kernel, strides, pads = (
        _numbers(writer, name, count) for name, count in (("kernel_size", 3), ("strides", 3), ("pad_list", 6))
    )
    divisor = writer.editor.attribute(writer.node, "divisor_override")
    padded = writer.editor.attribute(writer.node, "count_include_pad")
    if writer.editor.attribute(writer.node, "pad_mode") not in (b"PAD", b"VALID"):
        raise writer.refusal("pads in another mode than PAD and VALID, which is not converted")
    matrices = []
    for axis, (size, out) in enumerate(zip(sizes, new, strict=True)):
        before, after = pads[2 * axis], pads[2 * axis + 1]
        shares = np.zeros((out, size), np.float32)
        for place in range(out):
            start = place * strides[axis] - before
            end = min(start + kernel[axis], size + after)
            first, last = max(start, 0), min(end, size)
            count = end - start if padded else last - first
            shares[place, first:last] = 1 if divisor else 1 / max(count, 1)
        matrices.append(shares)
    if isinstance(divisor, int) and divisor:
        matrices[-1] = np.asarray(matrices[-1] / np.float32(divisor), np.float32)
    return matrices


@written_out("AvgPool3D")
def _mean_of_windows(writer: NodeWriter) -> list[str]:
    x = writer.node.input[0]
    shape = writer.editor.shape_of(x)
    for axis, matrix in enumerate(_windows(writer, shape[2:], writer.editor.shape(writer.node)[2:]), 2):
        x, shape = along(writer, x, shape, axis, matrix)
    return [x]


@written_out("AvgPool3DGrad")
def _mean_of_windows_gradient(writer: NodeWriter) -> list[str]:
    dy = writer.node.input[1]
    shape = writer.editor.shape_of(dy)
    for axis, matrix in enumerate(_windows(writer, writer.editor.shape(writer.node)[2:], shape[2:]), 2):
        dy, shape = along(writer, dy, shape, axis, matrix.T)
    return [dy]


def _images(writer: NodeWriter, shape: tuple[int, ...]) -> tuple[dict[str, object], tuple[int, ...], tuple[int, ...]]:
    """Return the attributes of a pooling of images, their shape, and the padding of height and width."""
    kernel, strides = (_numbers(writer, name, 3) for name in ("ksize", "strides"))
    pads, dilation = _numbers(writer, "pads", 3), _numbers(writer, "dilation", 3)
    if (kernel[0], strides[0], pads[0], shape[2], *dilation) != (1, 1, 0, 1, 1, 1, 1):
        raise writer.refusal("pools over three axes or with gaps, only maxima of images are converted")
    settings: dict[str, object] = {
        "kernel_size": (1, 1, *kernel[1:]),
        "strides": (1, 1, *strides[1:]),
        "pad_mode": b"VALID",
        "format": b"NCHW",
        "data_format": b"NCHW",
    }
    return settings, (*shape[:2], *shape[3:]), pads[1:]


@written_out("MaxPool3DWithArgmax")
def _padded_maximum(writer: NodeWriter) -> list[str]:
    """The maxima of an image with a border of the least number; the second output is that image, for the gradient."""
    editor, node = writer.editor, writer.node
    shape, new = editor.shape_of(node.input[0]), editor.shape(node)
    settings, flat, pads = _images(writer, shape)
    _check_positions_unread(writer)
    kernel, strides = settings["kernel_size"], settings["strides"]
    assert isinstance(kernel, tuple) and isinstance(strides, tuple)
    after = [
        max(0, (new[axis + 1] - 1) * strides[axis] + kernel[axis] - flat[axis] - pads[axis - 2]) for axis in (2, 3)
    ]
    image = writer.reshape(node.input[0], flat)
    editor.state_shape(writer.nodes[-1], flat)
    padded = with_borders(writer, image, flat, [(0, 0), (0, 0), *zip(pads, after, strict=True)], _LEAST)
    pooled = writer.add("MaxPool", padded, **settings)  # type: ignore[arg-type]
    editor.state_shape(writer.nodes[-1], (*new[:2], *new[3:]))
    return [writer.reshape(pooled, new), padded]


def _check_positions_unread(writer: NodeWriter) -> None:
    """Raise :class:`MindirError` where the network itself reads where the maxima are."""
    editor = writer.editor
    items = [item for item in editor.nodes("TupleGetItem") if item.input[0] == writer.node.output[0]]
    picked = {str(item.output[0]) for item in items if editor.value(item, item.input[1]) == 1}
    for reader in editor.graph.node:
        known = editor.operator(reader) in ("MaxPool3DGradWithArgmax", "UpdateState", "Depend")
        if not known and picked.intersection(reader.input):
            raise writer.refusal(f"has positions that node {node_label(reader)} reads, which is not converted")


@written_out("MaxPool3DGradWithArgmax")
def _padded_maximum_gradient(writer: NodeWriter) -> list[str]:
    editor, (x, dy, padded) = writer.editor, writer.node.input[:3]
    shape = editor.shape_of(x)
    settings, flat, pads = _images(writer, shape)
    pooled = next((node.output[0] for node in editor.nodes("MaxPool") if node.input[0] == padded), None)
    if pooled is None:
        raise writer.refusal("is the gradient of no pooling of the graph")
    gradient = writer.add("MaxPoolGrad", padded, pooled, writer.reshape(dy, editor.shape_of(pooled)), **settings)  # type: ignore[arg-type]
    inner = gradient
    if editor.shape_of(padded) != flat:
        inner = writer.add("Slice", gradient, writer.constant((0, 0, *pads)), writer.constant(flat))
    return [writer.reshape(inner, shape)]
