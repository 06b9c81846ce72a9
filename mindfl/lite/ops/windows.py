"""Positions of the windows of a convolution or pooling on an image."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product
from typing import TYPE_CHECKING

from mindfl.lite.ops.registry import need

if TYPE_CHECKING:
    from mindfl.lite.model import Node

PAD_EXPLICIT, PAD_SAME, PAD_VALID = 0, 1, 2


@dataclass(frozen=True)
class Geometry:
    """Sizes of one convolution. ``height`` and ``width`` are those of the input with its border.

    Each of the ``groups`` reads a part of the channels and computes a part of the output's.
    """

    kernel: tuple[int, int]
    stride: tuple[int, int]
    dilation: tuple[int, int]
    top: int
    left: int
    height: int
    width: int
    inner: tuple[int, int]
    channels: int
    out: tuple[int, int, int]
    groups: int

    @property
    def depth(self) -> int:
        """Channels that one group reads."""
        return self.channels // self.groups

    @property
    def filters(self) -> int:
        """Channels that one group computes."""
        return self.out[2] // self.groups

    @property
    def depthwise(self) -> bool:
        """Whether each group reads one channel."""
        return self.groups > 1 and self.depth == 1

    @property
    def padded(self) -> bool:
        """Whether a border is needed at all."""
        return (self.height, self.width) != self.inner

    @property
    def corner(self) -> tuple[int, int]:
        """Where the input lies in its border."""
        return self.top, self.left

    def turned(self) -> Geometry:
        """Return the sizes of the convolution of the output's gradient that gives the input's, for a stride of 1."""
        reach = [self.dilation[axis] * (self.kernel[axis] - 1) for axis in (0, 1)]
        return replace(
            self,
            top=reach[0] - self.top,
            left=reach[1] - self.left,
            height=self.inner[0] + reach[0],
            width=self.inner[1] + reach[1],
            inner=self.out[:2],
            channels=self.out[2],
            out=(*self.inner, self.channels),
        )

    def pixel(self, row: int, column: int) -> int:
        """Return the first feature row of a pixel of the bordered input."""
        return (row * self.width + column) * self.channels

    def taps(self) -> list[int]:
        """Return the feature row of each tap of the first group's window at the origin, in the weight's order."""
        return [
            self.pixel(row * self.dilation[0], column * self.dilation[1]) + channel
            for row, column, channel in product(range(self.kernel[0]), range(self.kernel[1]), range(self.depth))
        ]

    def runs(self) -> tuple[list[int], int]:
        """Return the starts of the runs of neighbouring taps, and their common length."""
        taps = self.taps()
        length = self.depth * (self.kernel[1] if self.dilation[1] == 1 and self.groups == 1 else 1)
        return taps[::length], length

    def windows(self, rows: int) -> list[int]:
        """Return the first feature row of each output position's window in the first ``rows`` output rows."""
        return [
            self.pixel(row * self.stride[0], column * self.stride[1])
            for row, column in product(range(rows), range(self.out[1]))
        ]


def conv_geometry(node: Node, x_dims: tuple[int, ...], y_dims: tuple[int, ...], weight: tuple[int, ...]) -> Geometry:
    """Return the sizes of a convolution node, or of a gradient's, from NHWC shape ``x_dims`` to ``y_dims``.

    A window without a size in the node has that of the ``weight``, in KHWC shape.

    Raises :class:`ModelFormatError` for attributes that are out of range or do not fit the shapes.
    """
    need(len(x_dims) == 4 and len(y_dims) == 4, node, f"shapes {x_dims} and {y_dims}")
    groups = node.integer("group") or 1
    uneven = groups < 1 or x_dims[3] % groups or y_dims[3] % groups
    need(not uneven, node, f"{groups} groups of {x_dims[3]} and {y_dims[3]} channels")
    kernel = node.integers("kernel_size")[-2:] or weight[1:3]
    stride, dilation = (node.integers(name)[-2:] or (1, 1) for name in ("stride", "dilation"))
    need(len(kernel) == len(stride) == len(dilation) == 2, node, "a window that is not two-dimensional")
    need(min(*kernel, *dilation) >= 1, node, f"window {kernel} and dilation {dilation}")
    explicit = node.integer("pad_mode") == PAD_EXPLICIT
    pads = (node.integers("pad_list") if explicit else ()) or (0, 0, 0, 0)
    need(len(pads) == 4, node, f"{len(pads)} values of padding")
    reach = tuple(dilation[axis] * (kernel[axis] - 1) + 1 for axis in (0, 1))
    inner, out = x_dims[1:3], y_dims[1:3]
    before, expected = window_positions(node, inner, reach, stride, pads)
    need(out == expected, node, f"shapes {x_dims} and {y_dims}")
    spans = [(out[axis] - 1) * stride[axis] + reach[axis] for axis in (0, 1)]
    height, width = (max(before[axis] + inner[axis], spans[axis]) for axis in (0, 1))
    return Geometry(
        kernel=(kernel[0], kernel[1]),
        stride=(stride[0], stride[1]),
        dilation=(dilation[0], dilation[1]),
        top=before[0],
        left=before[1],
        height=height,
        width=width,
        inner=(inner[0], inner[1]),
        channels=x_dims[3],
        out=(out[0], out[1], y_dims[3]),
        groups=groups,
    )


def window_positions(
    node: Node, inner: tuple[int, ...], reach: tuple[int, ...], stride: tuple[int, ...], pads: tuple[int, ...]
) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return the border above and left of an image, and how many windows fit down and across.

    ``pads`` (top, bottom, left, right) count in the explicit mode only. Raises :class:`ModelFormatError` for a window
    without size, which must not be larger than the image with its border.
    """
    mode = node.integer("pad_mode")
    need(mode in (PAD_EXPLICIT, PAD_SAME, PAD_VALID), node, f"pad mode {mode}")
    need(min(*reach, *stride) >= 1 and min(pads) >= 0, node, f"window {reach}, stride {stride} and padding {pads}")
    before, count = [0, 0], [0, 0]
    for axis, (size, length, step) in enumerate(zip(inner, reach, stride, strict=True)):
        if mode == PAD_SAME:
            count[axis] = -(-size // step)
            before[axis] = max((count[axis] - 1) * step + length - size, 0) // 2
        else:
            first, last = pads[2 * axis : 2 * axis + 2] if mode == PAD_EXPLICIT else (0, 0)
            before[axis] = first
            count[axis] = (first + size + last - length) // step + 1
    need(min(count) >= 1, node, f"window {reach} on an image of {inner}")
    return (before[0], before[1]), (count[0], count[1])
