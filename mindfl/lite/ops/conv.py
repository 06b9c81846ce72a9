"""Convolutions and their gradients.

A convolution reads its input through tables of offsets: one offset per tap of the window, one per output position. So
kernel size, stride, dilation and channel count are only table contents. Padding is a copy into a larger buffer with a
border of zeros. Samples with equal channels are planned with one channel and summed weights.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from mindfl.lite.kernels.primitives import ACCUMULATE, VECTOR, ZERO, product, reduction
from mindfl.lite.ops.borders import Block, bordered, bordered_blocks, move_image
from mindfl.lite.ops.conv_rows import emit_filter_grad_rows, fills_vectors, turned_weight
from mindfl.lite.ops.depthwise import emit_depthwise, emit_depthwise_filter_grad, emit_depthwise_input_grad
from mindfl.lite.ops.fused import cut_off
from mindfl.lite.ops.pool import fused_pool, pool_blocks, pool_windows
from mindfl.lite.ops.registry import NO_ACTIVATION, instruction, need, operator
from mindfl.lite.ops.vector_math import floor
from mindfl.lite.ops.windows import Geometry, conv_geometry
from mindfl.lite.program import alike

if TYPE_CHECKING:
    from mindfl.lite.model import Node
    from mindfl.lite.plan import Plan

_WINDOW = "kernel_size:q[] stride:q[] dilation:q[] pad_mode:b"
_SIZES = "mode:q group:q in_channel:q out_channel:q activation:b"
CONV_ROW = f"format:i {_WINDOW} pad_list:q[] {_SIZES}"
TRANSPOSED_ROW = f"format:i {_WINDOW} pad:q[] pad_list:q[] {_SIZES}"
# Typed, not literal: numba would compile a function anew for each combination of literal arguments.
_UNIT, _ONTO, _NO_FLOOR = np.int64(1), np.int64(ACCUMULATE), np.float32(-np.inf)
#: floats of the input that the second cache of a processor holds beside the rest
_CACHED = 2**17


def _scaled(plan: Plan, rows: list[int]) -> int:
    return plan.builder.entries(row * plan.lanes for row in rows)


def _is_folded(plan: Plan, tensor: int) -> bool:
    return plan.folded and tensor == plan.graph.samples[0].index


@operator(f"35 Conv2DFusion {CONV_ROW}", inputs=2)
def lower_conv(plan: Plan, node: Node) -> None:
    """y = relu?(conv(x, weight) + bias), pooled at once where only a pooling reads it."""
    x, weight = plan.batched(node, 0), plan.fixed(node, 1)
    fusion = plan.graph.fusion(node)
    y_dims = plan.tensor(node.outputs[0]).dims
    geometry = conv_geometry(node, x.dims, y_dims, weight.dims)
    folded = _is_folded(plan, node.inputs[0])
    _check_weight(plan, node, weight.dims, geometry, folded)
    plan.mark_fused(node, fusion.output)
    taps = geometry.taps()
    kernels = weight.offset
    if folded:
        kernels = plan.builder.allocate(y_dims[3] * len(taps))
        sizes = {"rows": y_dims[3] * len(taps), "channels": weight.dims[3]}
        plan.builder.emit("FOLD", weight=weight.offset, folded=kernels, **sizes)
    source = bordered(plan, node.inputs[0], x.offset, geometry)
    start = plan.first_sum(node, fusion, y_dims[3])
    for block in _output_blocks(plan, fusion.output, y_dims):
        if geometry.depthwise:
            emit_depthwise(plan, geometry, block, x=source, weight=kernels, start=start, relu=fusion.relu)
        else:
            _emit_conv(plan, geometry, block, x=source, weight=kernels, start=start, relu=fusion.relu)
        cut_off(plan, fusion, block[0], block[2] * y_dims[2] * y_dims[3] * plan.lanes)


def _emit_conv(plan: Plan, geometry: Geometry, block: Block, *, x: int, weight: int, start: int, relu: bool) -> None:
    """Emit the output rows of a block, group by group."""
    place, row, rows = block
    taps = geometry.taps()
    for group in range(geometry.groups):
        first = group * geometry.filters
        plan.builder.emit(
            "CONV",
            x=x + (geometry.pixel(row * geometry.stride[0], 0) + group * geometry.depth) * plan.lanes,
            weight=weight + first * len(taps),
            y=place + first * plan.lanes,
            start=start + first if start >= 0 else start,
            relu=relu,
            taps_table=_scaled(plan, taps),
            taps=len(taps),
            block=_block(geometry, plan.lanes),
            **_steps(plan, geometry, rows),
        )


def _block(geometry: Geometry, lanes: int) -> int:
    """Return how many taps a row of positions takes at once: all, or those of as many window rows as stay in cache."""
    row = geometry.width * geometry.channels * lanes
    return geometry.kernel[1] * geometry.depth * max(1, min(geometry.kernel[0], _CACHED // row))


def _output_blocks(plan: Plan, output: int, dims: tuple[int, ...]) -> Iterator[Block]:
    """Yield (place, first row, rows) of each block of the output: the whole, or the rows of a pooling that follows."""
    pool = fused_pool(plan.graph, output)
    windows = pool_windows(plan, pool, dims) if pool is not None else None
    if pool is not None and windows is not None and windows.tiled:
        plan.done.add(pool.index)
        yield from pool_blocks(plan, pool, windows)
    else:
        y = plan.keep(output, plan.new_batch(dims))
        yield y.offset, 0, dims[1]


def _check_weight(plan: Plan, node: Node, dims: tuple[int, ...], geometry: Geometry, folded: bool) -> None:
    """Refuse a weight or gradient without exactly one value for each output channel and tap."""
    channels = plan.graph.samples[0].dims[3] if folded else geometry.depth
    need(alike(dims, (geometry.out[2], *geometry.kernel, channels)), node, f"a weight of shape {dims}")


def _steps(plan: Plan, geometry: Geometry, rows: int) -> dict[str, int]:
    return {
        "channels": geometry.filters,
        "height": rows,
        "width": geometry.out[1],
        "row_step": geometry.pixel(geometry.stride[0], 0) * plan.lanes,
        "column_step": geometry.pixel(0, geometry.stride[1]) * plan.lanes,
        "step": geometry.out[2] * plan.lanes,
        "lanes": plan.lanes,
        "filled": plan.filled,
    }


def _gradient_blocks(plan: Plan, node: Node, least: int) -> Iterator[Block]:
    """Yield (place, first row, rows) of each block of a convolution's dy: the whole, or the blocks of a pooling."""
    pooled = plan.pool_gradients.get(node.inputs[0])
    if pooled is not None:
        yield from pooled.blocks(plan, least)
    else:
        dy = plan.batched(node, 0)
        yield dy.offset, 0, dy.dims[1]


@operator(f"34 Conv2DBackpropInputFusion {TRANSPOSED_ROW}", inputs=2)
def lower_input_grad(plan: Plan, node: Node) -> None:
    """dx of a convolution."""
    need(node.integer("activation") == NO_ACTIVATION, node, "an activation")
    weight = plan.fixed(node, 1)
    dx = plan.keep(node.outputs[0], plan.new_batch(plan.tensor(node.outputs[0]).dims))
    geometry = conv_geometry(node, dx.dims, _gradient_dims(plan, node), weight.dims)
    _check_weight(plan, node, weight.dims, geometry, folded=False)
    blocks = _gradient_blocks(plan, node, least=1)
    if geometry.depthwise:
        emit_depthwise_input_grad(plan, geometry, blocks, weight=weight.offset, dx=dx.offset)
    elif geometry.stride == (1, 1) and geometry.groups == 1 and (geometry.padded or geometry.kernel == (1, 1)):
        turned = geometry.turned()
        source = bordered_blocks(plan, blocks, turned)
        kernels = turned_weight(plan, geometry, weight.offset)
        _emit_conv(plan, turned, (dx.offset, 0, turned.out[0]), x=source, weight=kernels, start=ZERO, relu=False)
    else:
        _emit_scattered(plan, geometry, blocks, weight=weight.offset, dx=dx.offset)


def _emit_scattered(plan: Plan, geometry: Geometry, blocks: Iterable[Block], *, weight: int, dx: int) -> None:
    """Emit dx as what every output position adds to the window that it was computed from."""
    features = geometry.height * geometry.width * geometry.channels
    starts, length = geometry.runs()
    target = plan.builder.allocate_batch(features) if geometry.padded else dx
    for place, row, rows in blocks:
        for group in range(geometry.groups):
            first = group * geometry.filters
            shift = geometry.pixel(row * geometry.stride[0], 0) + group * geometry.depth
            plan.builder.emit(
                "CONV_INPUT_GRAD",
                dy=place + first * plan.lanes,
                weight=weight + first * len(starts) * length,
                dx=target + shift * plan.lanes,
                cleared=features * plan.lanes if row == group == 0 else 0,
                rows_table=_scaled(plan, starts),
                channels_table=_scaled(plan, list(range(geometry.filters))),
                runs=len(starts),
                run=length,
                **_steps(plan, geometry, rows),
            )
    if geometry.padded:
        corner = (-geometry.top, -geometry.left)
        move_image(plan, target, (geometry.height, geometry.width), dx, geometry.inner, corner, geometry.channels)


def _gradient_dims(plan: Plan, node: Node) -> tuple[int, ...]:
    """Return the shape of a convolution's dy."""
    if node.inputs[0] in plan.pool_gradients:
        return plan.tensor(node.inputs[0]).dims
    return plan.batched(node, 0).dims


@operator(f"33 Conv2DBackpropFilterFusion {CONV_ROW}", inputs=2)
def lower_filter_grad(plan: Plan, node: Node) -> None:
    """dw of a convolution; positions are listed once per vector of lanes."""
    need(node.integer("activation") == NO_ACTIVATION, node, "an activation")
    x = plan.batched(node, 1)
    dims = plan.tensor(node.outputs[0]).dims
    geometry = conv_geometry(node, x.dims, _gradient_dims(plan, node), dims)
    folded = _is_folded(plan, node.inputs[1])
    _check_weight(plan, node, dims, geometry, folded)
    dw = plan.keep(node.outputs[0], plan.new_parameter(dims))
    source = bordered(plan, node.inputs[1], x.offset, geometry)
    if geometry.depthwise:
        emit_depthwise_filter_grad(plan, geometry, _gradient_blocks(plan, node, least=1), x=source, dw=dw.offset)
        return
    if fills_vectors(geometry, plan.batch) and not folded:
        blocks = _gradient_blocks(plan, node, least=1)
        emit_filter_grad_rows(plan, geometry, blocks, x=source, dw=dw.offset)
        return
    size = geometry.out[2] * len(geometry.taps())
    target = plan.builder.allocate(size) if folded else dw.offset
    sums = plan.builder.allocate(size * VECTOR)
    # Carrying sums over costs a write and a read of them, which pays only for larger parts.
    for block in _gradient_blocks(plan, node, least=2 * size * VECTOR):
        _emit_filter_grad(plan, geometry, block, x=source, dw=target, sums=sums)
    if folded:
        plan.builder.emit("UNFOLD", folded=target, weight=dw.offset, rows=size, channels=dims[3])


def _emit_filter_grad(plan: Plan, geometry: Geometry, block: Block, *, x: int, dw: int, sums: int) -> None:
    """Emit the part of dw that a block of dy gives, group by group."""
    place, row, rows = block
    taps, windows = geometry.taps(), geometry.windows(rows)
    entries, step, chunks = plan.builder.entries, geometry.out[2] * plan.lanes, range(0, plan.lanes, VECTOR)
    for group in range(geometry.groups):
        first = group * geometry.filters
        plan.builder.emit(
            "CONV_FILTER_GRAD",
            dy=place + first * plan.lanes,
            x=x + (geometry.pixel(row * geometry.stride[0], 0) + group * geometry.depth) * plan.lanes,
            dw=dw + first * len(taps),
            sums=sums + first * len(taps) * VECTOR,
            first=row == 0,
            last=row + rows == geometry.out[0],
            dy_table=entries(p * step + chunk for p in range(len(windows)) for chunk in chunks),
            x_table=entries(window * plan.lanes + chunk for window in windows for chunk in chunks),
            taps_table=_scaled(plan, taps),
            positions=len(windows) * len(chunks),
            channels=geometry.filters,
            taps=len(taps),
            lanes=plan.lanes,
        )


@instruction(
    "CONV", "x weight y start relu taps_table taps block channels height width row_step column_step step lanes filled"
)
def conv_kernel(arena: Any, table: Any, i: Any) -> None:
    """y = relu?(x * weight + bias): every output position is one product over the taps of its window.

    A row of positions takes ``block`` taps after the other, so that what they read stays in cache; this changes no bit.
    """
    x, weight, y, start, relu, taps_table, taps, block = i[1], i[2], i[3], i[4], i[5], i[6], i[7], i[8]
    channels, height, width, row_step, column_step, step = i[9], i[10], i[11], i[12], i[13], i[14]
    lanes, filled = i[15], i[16]
    for row in range(height):
        for tap in range(0, taps, block):
            count = min(block, taps - tap)
            begin = start if tap == 0 else _ONTO
            lowest = floor(relu) if tap + count == taps else _NO_FLOOR
            for column in range(width):
                window = x + row * row_step + column * column_step
                out = y + (row * width + column) * step
                product(
                    arena, table, weight + tap, taps, _UNIT, window, taps_table + tap, count, out, lanes, channels,
                    filled, begin, lowest,
                )  # fmt: skip


@instruction(
    "CONV_INPUT_GRAD",
    "dy weight dx cleared rows_table channels_table runs run channels height width row_step column_step step lanes "
    "filled",
)
def conv_input_grad_kernel(arena: Any, table: Any, i: Any) -> None:
    """dx = scatter of weight^T dy: every output position adds to the window it was computed from, run by run."""
    dy, weight, dx, cleared, rows_table, channels_table = i[1], i[2], i[3], i[4], i[5], i[6]
    runs, run, channels, height, width = i[7], i[8], i[9], i[10], i[11]
    row_step, column_step, step, lanes, filled = i[12], i[13], i[14], i[15], i[16]
    arena[dx : dx + cleared] = 0.0
    taps = runs * run
    for row in range(height):
        for column in range(width):
            window = dx + row * row_step + column * column_step
            gradient = dy + (row * width + column) * step
            for r in range(runs):
                product(
                    arena, table, weight + r * run, _UNIT, taps, gradient, channels_table, channels,
                    window + table[rows_table + r], lanes, run, filled, _ONTO, _NO_FLOOR,
                )  # fmt: skip


@instruction("CONV_FILTER_GRAD", "dy x dw sums first last dy_table x_table taps_table positions channels taps lanes")
def conv_filter_grad_kernel(arena: Any, table: Any, i: Any) -> None:
    """dw[channel, tap] = sum over positions and samples of dy * x.

    A layer may be done in several parts: then the partial sums wait in ``sums``, one vector each, from the ``first``
    part to the ``last``.
    """
    dy, x, dw, sums, first, last, dy_table, x_table, taps_table = i[1], i[2], i[3], i[4], i[5], i[6], i[7], i[8], i[9]
    positions, channels, taps, lanes = i[10], i[11], i[12], i[13]
    reduction(
        arena, table, dy, lanes, dy_table, x, x_table, taps_table, positions, dw, taps, sums, first, last, channels
    )  # fmt: skip


@instruction("FOLD", "weight folded rows channels")
def fold_kernel(arena: Any, table: Any, i: Any) -> None:
    """folded[row] = sum over channels of weight[row, channel]: exact for an input whose channels are all equal."""
    weight, folded, rows, channels = i[1], i[2], i[3], i[4]
    for row in range(rows):
        total = np.float32(0.0)
        for channel in range(channels):
            total += arena[weight + row * channels + channel]
        arena[folded + row] = total


@instruction("UNFOLD", "folded weight rows channels")
def unfold_kernel(arena: Any, table: Any, i: Any) -> None:
    """weight[row, channel] = folded[row]: equal channels have equal gradients."""
    folded, weight, rows, channels = i[1], i[2], i[3], i[4]
    for row in range(rows):
        arena[weight + row * channels : weight + (row + 1) * channels] = arena[folded + row]
