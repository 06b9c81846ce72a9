"""Where the windows of a convolution or pooling lie on an image."""

from __future__ import annotations

from mindfl.lite.model import Node
from mindfl.lite.plan import need
from mindfl.lite.schema import PAD_EXPLICIT, PAD_SAME, PAD_VALID


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
