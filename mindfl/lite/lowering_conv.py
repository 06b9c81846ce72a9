"""Convolutions and their gradients in instructions.

A convolution reads its input through tables of offsets: one offset per tap of the window, one per output position. So
kernel size, stride, dilation and channel count are only table contents. Padding is a copy into a larger buffer with a
border of zeros. A samples' input whose channels are all equal is planned with one channel and summed weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

from mindfl.lite.kernels.tiles import VECTOR, ZERO
from mindfl.lite.model import Node
from mindfl.lite.plan import Fusion, Plan, mark_fused, need
from mindfl.lite.schema import NO_ACTIVATION, PAD_EXPLICIT, PAD_SAME, PAD_VALID


@dataclass(frozen=True)
class Geometry:
    """Sizes of one convolution. ``height``/``width`` are those of the input with its border."""

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

    @property
    def padded(self) -> bool:
        """Whether a border is needed at all."""
        return (self.height, self.width) != self.inner

    def pixel(self, row: int, column: int) -> int:
        """Return the first feature row of a pixel of the bordered input."""
        return (row * self.width + column) * self.channels

    def taps(self) -> list[int]:
        """Return the feature row of each tap of the window at the origin, in the weight's order."""
        return [
            self.pixel(row * self.dilation[0], column * self.dilation[1]) + channel
            for row, column, channel in product(range(self.kernel[0]), range(self.kernel[1]), range(self.channels))
        ]

    def runs(self) -> tuple[list[int], int]:
        """Return the starts of the runs of neighbouring taps, and their common length."""
        taps = self.taps()
        length = self.channels * (self.kernel[1] if self.dilation[1] == 1 else 1)
        return taps[::length], length

    def windows(self) -> list[int]:
        """Return the first feature row of each output position's window."""
        return [
            self.pixel(row * self.stride[0], column * self.stride[1])
            for row, column in product(range(self.out[0]), range(self.out[1]))
        ]

    def border(self) -> list[int]:
        """Return, for each feature row with the border, the row of the inner image, or -1 in the border."""
        rows = []
        for row, column, channel in product(range(self.height), range(self.width), range(self.channels)):
            r, c = row - self.top, column - self.left
            inside = 0 <= r < self.inner[0] and 0 <= c < self.inner[1]
            rows.append((r * self.inner[1] + c) * self.channels + channel if inside else -1)
        return rows

    def centre(self) -> list[int]:
        """Return, for each feature row of the inner image, its row with the border."""
        return [
            self.pixel(row + self.top, column + self.left) + channel
            for row, column, channel in product(range(self.inner[0]), range(self.inner[1]), range(self.channels))
        ]


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


def first_sum(plan: Plan, node: Node, fusion: Fusion, channels: int) -> int:
    """Return where the sums of a layer begin: at the biases fused into it, one per channel, or at zero."""
    if fusion.bias is None:
        return ZERO
    bias = plan.value(fusion.bias)
    need(bias.size == channels and not bias.batched, node, f"a bias of {bias.size} for {channels} channels")
    return bias.offset


def _geometry(node: Node, x_dims: tuple[int, ...], y_dims: tuple[int, ...]) -> Geometry:
    need(len(x_dims) == 4 and len(y_dims) == 4, node, f"shapes {x_dims} and {y_dims}")
    need(node.integer("group") in (0, 1), node, f"{node.integer('group')} groups")
    kernel, stride, dilation = (node.integers(name)[-2:] for name in ("kernel_size", "stride", "dilation"))
    need(len(kernel) == len(stride) == len(dilation) == 2, node, "a window that is not two-dimensional")
    need(min(*kernel, *dilation) >= 1, node, f"window {kernel} and dilation {dilation}")
    explicit = node.integer("pad_mode") == PAD_EXPLICIT
    pads = node.integers("pad_list") if explicit else (0, 0, 0, 0)
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
    )


def _bordered(plan: Plan, tensor: int, geometry: Geometry) -> int:
    """Return the offset of the input with its border, copying it once for all nodes that share it."""
    x = plan.value(tensor)
    if not geometry.padded:
        return x.offset

    def copied() -> int:
        place = plan.builder.allocate_batch(geometry.height * geometry.width * geometry.channels)
        rows = geometry.border()
        table = plan.builder.entries(rows)
        plan.builder.emit("GATHER", x=x.offset, y=place, rows=len(rows), rows_table=table, lanes=plan.lanes)
        return place

    key = ("border", tensor, geometry.top, geometry.left, geometry.height, geometry.width)
    return plan.once(key, copied)


def _scaled(plan: Plan, rows: list[int]) -> int:
    return plan.builder.entries(row * plan.lanes for row in rows)


def _is_folded(plan: Plan, tensor: int) -> bool:
    return plan.folded and tensor == plan.graph.image.index


def lower_conv(plan: Plan, node: Node) -> None:
    """y = relu?(conv(x, weight) + bias)."""
    x, weight = plan.batched(node, 0), plan.fixed(node, 1)
    fusion = plan.graph.fusion(node)
    y_dims = plan.tensor(node.outputs[0]).dims
    geometry = _geometry(node, x.dims, y_dims)
    folded = _is_folded(plan, node.inputs[0])
    _check_weight(plan, node, weight.dims, geometry, folded)
    y = plan.new_batch(y_dims)
    plan.values[fusion.output] = y
    mark_fused(plan, node, fusion.output)
    taps = geometry.taps()
    kernels = weight.offset
    if folded:
        kernels = plan.builder.allocate(y_dims[3] * len(taps))
        sizes = {"rows": y_dims[3] * len(taps), "channels": weight.dims[3]}
        plan.builder.emit("FOLD", weight=weight.offset, folded=kernels, **sizes)
    plan.builder.emit(
        "CONV",
        x=_bordered(plan, node.inputs[0], geometry),
        weight=kernels,
        y=y.offset,
        start=first_sum(plan, node, fusion, y_dims[3]),
        relu=fusion.relu,
        taps_table=_scaled(plan, taps),
        taps=len(taps),
        **_steps(plan, geometry),
    )


def _check_weight(plan: Plan, node: Node, dims: tuple[int, ...], geometry: Geometry, folded: bool) -> None:
    """Refuse a weight or its gradient that has not one value for each output channel and tap."""
    channels = plan.graph.image.dims[3] if folded else geometry.channels
    need(dims == (geometry.out[2], *geometry.kernel, channels), node, f"a weight of shape {dims}")


def _steps(plan: Plan, geometry: Geometry) -> dict[str, int]:
    return {
        "channels": geometry.out[2],
        "height": geometry.out[0],
        "width": geometry.out[1],
        "row_step": geometry.pixel(geometry.stride[0], 0) * plan.lanes,
        "column_step": geometry.pixel(0, geometry.stride[1]) * plan.lanes,
        "lanes": plan.lanes,
    }


def lower_input_grad(plan: Plan, node: Node) -> None:
    """dx of a convolution."""
    need(node.integer("activation") == NO_ACTIVATION, node, "an activation")
    dy, weight = plan.batched(node, 0), plan.fixed(node, 1)
    dx = plan.new_batch(plan.tensor(node.outputs[0]).dims)
    plan.values[node.outputs[0]] = dx
    geometry = _geometry(node, dx.dims, dy.dims)
    _check_weight(plan, node, weight.dims, geometry, folded=False)
    features = geometry.height * geometry.width * geometry.channels
    starts, length = geometry.runs()
    target = plan.builder.allocate_batch(features) if geometry.padded else dx.offset
    plan.builder.emit(
        "CONV_INPUT_GRAD",
        dy=dy.offset,
        weight=weight.offset,
        dx=target,
        dx_size=features * plan.lanes,
        rows_table=_scaled(plan, starts),
        channels_table=_scaled(plan, list(range(geometry.out[2]))),
        runs=len(starts),
        run=length,
        **_steps(plan, geometry),
    )
    if geometry.padded:
        rows = geometry.centre()
        table = plan.builder.entries(rows)
        plan.builder.emit("GATHER", x=target, y=dx.offset, rows=len(rows), rows_table=table, lanes=plan.lanes)


def lower_filter_grad(plan: Plan, node: Node) -> None:
    """dw of a convolution; positions are listed once per vector of lanes."""
    need(node.integer("activation") == NO_ACTIVATION, node, "an activation")
    dy, x = plan.batched(node, 0), plan.batched(node, 1)
    geometry = _geometry(node, x.dims, dy.dims)
    folded = _is_folded(plan, node.inputs[1])
    dims = plan.tensor(node.outputs[0]).dims
    _check_weight(plan, node, dims, geometry, folded)
    taps = geometry.taps()
    channels = geometry.out[2]
    dw = plan.new_parameter(dims)
    plan.values[node.outputs[0]] = dw
    target = plan.builder.allocate(channels * len(taps)) if folded else dw.offset
    windows = geometry.windows()
    chunks = range(0, plan.lanes, VECTOR)
    entries = plan.builder.entries
    plan.builder.emit(
        "CONV_FILTER_GRAD",
        dy=dy.offset,
        x=_bordered(plan, node.inputs[1], geometry),
        dw=target,
        dy_table=entries(p * channels * plan.lanes + chunk for p in range(len(windows)) for chunk in chunks),
        x_table=entries(window * plan.lanes + chunk for window in windows for chunk in chunks),
        taps_table=_scaled(plan, taps),
        positions=len(windows) * len(chunks),
        channels=channels,
        taps=len(taps),
        lanes=plan.lanes,
    )
    if folded:
        plan.builder.emit("UNFOLD", folded=target, weight=dw.offset, rows=channels * len(taps), channels=dims[3])
