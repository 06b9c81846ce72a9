"""Operators that mix the values along an axis by fixed weights, written as products with a constant matrix."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from mindfl.convert.written_out import NodeWriter, written_out

Matrix = NDArray[np.float32]


def mixed(writer: NodeWriter, x: str, shape: tuple[int, ...], axis: int, matrix: Matrix) -> str:
    """Add the product of ``matrix``, [new size, size], with the vectors of ``x`` along ``axis``."""
    order = [*(each for each in range(len(shape)) if each != axis), axis]
    others = tuple(shape[each] for each in order[:-1])
    last = x if axis == len(shape) - 1 else writer.add("Transpose", x, writer.constant(tuple(order)))
    rows = writer.reshape(last, (math.prod(others), shape[axis]))
    product = writer.product(rows, writer.array(np.ascontiguousarray(matrix.T)))
    y = writer.reshape(product, (*others, len(matrix)))
    back = tuple(order.index(each) for each in range(len(shape)))
    return y if axis == len(shape) - 1 else writer.add("Transpose", y, writer.constant(back))


def along(writer: NodeWriter, x: str, shape: tuple[int, ...], axis: int, matrix: Matrix) -> tuple[str, tuple[int, ...]]:
    """Add what :func:`mixed` does, along an axis that may be counted from the last; return it and its shape."""
    axis %= len(shape)
    return mixed(writer, x, shape, axis, matrix), (*shape[:axis], len(matrix), *shape[axis + 1 :])


@written_out("ReverseV2")
def _reversed(writer: NodeWriter) -> list[str]:
    y, shape = writer.node.input[0], writer.editor.shape_of(writer.node.input[0])
    for axis in writer.axes(1):
        y = mixed(writer, y, shape, axis % len(shape), np.eye(shape[axis], dtype=np.float32)[::-1])
    return [y]


@written_out("Roll")
def _rolled(writer: NodeWriter) -> list[str]:
    y, shape = writer.node.input[0], writer.editor.shape_of(writer.node.input[0])
    shifts, axes = writer.axes(1), writer.axes(2)
    if len(shifts) != len(axes):
        raise writer.refusal(f"rolls by {shifts!r} along {axes!r}, which is not converted")
    for shift, axis in zip(shifts, axes, strict=True):
        y = mixed(writer, y, shape, axis % len(shape), np.roll(np.eye(shape[axis], dtype=np.float32), shift, axis=0))
    return [y]


@written_out("CumSum")
def _running_sum(writer: NodeWriter) -> list[str]:
    x, shape = writer.node.input[0], writer.editor.shape_of(writer.node.input[0])
    (axis,) = writer.axes(1)
    without, back = bool(writer.setting(2)), bool(writer.setting(3))
    summed = np.tri(shape[axis], k=-1 if without else 0, dtype=np.float32)
    return [mixed(writer, x, shape, axis % len(shape), summed[::-1, ::-1] if back else summed)]


def _places(size: int, new: int, *, corners: bool, half: bool) -> NDArray[np.float32]:
    """Return where the new values of an axis lie on the old one."""
    index = np.arange(new, dtype=np.float32)
    if corners:
        return np.asarray(index * np.float32((size - 1) / (new - 1) if new > 1 else 0), np.float32)
    scale = np.float32(size) / np.float32(new)
    return np.asarray((index + np.float32(0.5)) * scale - np.float32(0.5) if half else index * scale, np.float32)


def _nearest(size: int, new: int, *, corners: bool, half: bool) -> Matrix:
    places = _places(size, new, corners=corners, half=False)
    if half:
        places = (np.arange(new, dtype=np.float32) + np.float32(0.5)) * (np.float32(size) / np.float32(new))
    chosen = np.floor(places + np.float32(0.5)) if corners else np.floor(places)
    return np.asarray(np.eye(size, dtype=np.float32)[np.clip(chosen.astype(int), 0, size - 1)], np.float32)


def _linear(size: int, new: int, *, corners: bool, half: bool) -> Matrix:
    places = np.clip(_places(size, new, corners=corners, half=half), 0, None)
    low = np.minimum(np.floor(places).astype(int), size - 1)
    share = (places - low)[:, None].astype(np.float32)
    unit = np.eye(size, dtype=np.float32)
    return np.asarray(unit[low] * (1 - share) + unit[np.minimum(low + 1, size - 1)] * share, np.float32)


def _resized(
    writer: NodeWriter, new: tuple[int, ...], place: int, *, linear: bool, gradient: bool = False
) -> list[str]:
    """Add images of other height and width; ``place``: of the settings that say where pixels lie."""
    corners, half = bool(writer.setting(place)), bool(writer.setting(place + 1))
    return resized_to(writer, new, linear=linear, gradient=gradient, corners=corners, half=half)


def resized_to(
    writer: NodeWriter,
    new: tuple[int, ...],
    *,
    linear: bool = False,
    gradient: bool = False,
    corners: bool = False,
    half: bool = False,
) -> list[str]:
    """Add images of the height and width ``new``.

    Args:
        writer: of a node whose first input is the images.
        new: their new height and width.
        linear: whether pixels between others are their mean, or the nearest one.
        gradient: whether the images are a gradient, which goes back to the size before.
        corners: whether the pixels in the corners stay there.
        half: whether a pixel is where its middle is.
    """
    y, shape = writer.node.input[0], writer.editor.shape_of(writer.node.input[0])
    how = {"corners": corners, "half": half}
    for axis in (2, 3):
        sizes = (new[axis - 2], shape[axis]) if gradient else (shape[axis], new[axis - 2])
        matrix = (_linear if linear else _nearest)(*sizes, **how)
        y, shape = along(writer, y, shape, axis, matrix.T if gradient else matrix)
    return [y]


@written_out("ResizeNearestNeighborV2")
def _resize_nearest(writer: NodeWriter) -> list[str]:
    return _resized(writer, writer.axes(1), 2, linear=False)


@written_out("ResizeNearestNeighborV2Grad")
def _resize_nearest_gradient(writer: NodeWriter) -> list[str]:
    return _resized(writer, writer.axes(1), 2, linear=False, gradient=True)


@written_out("ResizeBilinearV2")
def _resize_linear(writer: NodeWriter) -> list[str]:
    return _resized(writer, writer.axes(1), 2, linear=True)


@written_out("ResizeBilinearGrad")
def _resize_linear_gradient(writer: NodeWriter) -> list[str]:
    return _resized(writer, writer.editor.shape_of(writer.node.input[1])[2:], 2, linear=True, gradient=True)
