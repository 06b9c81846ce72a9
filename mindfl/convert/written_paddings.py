"""Padding by constants and by the values at the border, with the gradients, written out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from mindfl.convert.written_axes import along
from mindfl.convert.written_out import NodeWriter, written_out

Sides = tuple[int, int]


def _stated(writer: NodeWriter) -> list[Sides]:
    """Return the constant numbers of values on the sides of axes, as the node states them."""
    stated = writer.editor.array(writer.node.input[1])
    numbers = writer.setting(1) if stated is None else tuple(int(each) for each in stated.ravel())
    if not isinstance(numbers, tuple) or len(numbers) % 2:
        raise writer.refusal(f"pads by {numbers!r}, which is not converted")
    return list(zip(numbers[::2], numbers[1::2], strict=True))


def _paddings(writer: NodeWriter, shape: tuple[int, ...]) -> list[Sides]:
    """Return the numbers of values before and after each axis, which PadV3 states from the last axis on."""
    pairs = _stated(writer)
    sides = [(0, 0)] * (len(shape) - len(pairs)) + pairs[::-1]
    if len(pairs) > len(shape) or any(size + sum(pair) < 1 for size, pair in zip(shape, sides, strict=True)):
        raise writer.refusal(f"pads by {sum(pairs, ())!r}, which is not converted")
    return sides


def with_borders(writer: NodeWriter, y: str, before_it: tuple[int, ...], sides: Sequence[Sides], value: float) -> str:
    """Add constants concatenated on both sides of each axis of a value of the shape ``before_it``; negative numbers cut
    values off."""
    shape = list(before_it)
    cut = [(max(-before, 0), max(-after, 0)) for before, after in sides]
    if any(map(any, cut)):
        shape = [size - sum(pair) for size, pair in zip(shape, cut, strict=True)]
        begins = writer.constant(tuple(before for before, _ in cut))
        y = writer.add("Slice", y, begins, writer.constant(tuple(shape)))
        writer.editor.state_shape(writer.nodes[-1], shape)
    for axis, pair in enumerate(sides):
        parts = [y]
        for before, count in zip((True, False), pair, strict=True):
            if count > 0:
                border = writer.array(np.full((*shape[:axis], count, *shape[axis + 1 :]), value, np.float32))
                parts.insert(0 if before else len(parts), border)
        if len(parts) > 1:
            y = writer.add("Concat", writer.add("MakeTuple", *parts), axis=axis, inputNums=len(parts))
            shape[axis] += sum(max(count, 0) for count in pair)
            writer.editor.state_shape(writer.nodes[-1], shape)
    return y


#: how values beyond the border are chosen: names in MindSpore's graphs -> in NumPy
_MODES: dict[object, str] = {b"REFLECT": "reflect", b"SYMMETRIC": "symmetric", b"reflect": "reflect", b"edge": "edge"}
_MODES[b"circular"] = "wrap"


def _chosen(writer: NodeWriter, size: int, sides: Sides) -> NDArray[np.float32]:
    """Return the matrix that chooses the values of a padded axis."""
    mode = writer.editor.attribute(writer.node, "mode")
    if mode not in _MODES or min(sides) < 0:
        raise writer.refusal(f"pads by {sides!r} in the mode {mode!r}, which is not converted")
    places = np.pad(np.arange(size), sides, mode=_MODES[mode])  # type: ignore[call-overload]
    return np.asarray(np.eye(size, dtype=np.float32)[places], np.float32)


def _extended(writer: NodeWriter, shape: tuple[int, ...], sides: Iterable[Sides]) -> list[str]:
    """Add values of the border beyond it."""
    y = writer.node.input[0]
    for axis, pair in enumerate(sides):
        if any(pair):
            y, shape = along(writer, y, shape, axis, _chosen(writer, shape[axis], pair))
    return [y]


def _extended_gradient(writer: NodeWriter, shape: tuple[int, ...], sides: Iterable[Sides]) -> list[str]:
    y = writer.node.input[0]
    for axis, pair in enumerate(sides):
        if any(pair):
            y, shape = along(writer, y, shape, axis, _chosen(writer, shape[axis] - sum(pair), pair).T)
    return [y]


@written_out("PadV3")
def _padded(writer: NodeWriter) -> list[str]:
    shape = writer.editor.shape_of(writer.node.input[0])
    sides = _paddings(writer, shape)
    if writer.editor.attribute(writer.node, "mode") != b"constant":
        return _extended(writer, shape, sides)
    value = 0.0 if writer.editor.is_none(writer.node.input[2]) else writer.number(2)
    return [with_borders(writer, writer.node.input[0], shape, sides, value)]


@written_out("PadV3Grad")
def _padded_gradient(writer: NodeWriter) -> list[str]:
    shape = writer.editor.shape_of(writer.node.input[0])
    small = writer.editor.shape(writer.node)
    sides = _paddings(writer, small)
    if writer.editor.attribute(writer.node, "mode") != b"constant":
        return _extended_gradient(writer, shape, sides)
    return [with_borders(writer, writer.node.input[0], shape, [(-before, -after) for before, after in sides], 0.0)]


@written_out("MirrorPad")
def _mirror(writer: NodeWriter) -> list[str]:
    return _extended(writer, writer.editor.shape_of(writer.node.input[0]), _stated(writer))


@written_out("MirrorPadGrad")
def _mirror_gradient(writer: NodeWriter) -> list[str]:
    return _extended_gradient(writer, writer.editor.shape_of(writer.node.input[0]), _stated(writer))
