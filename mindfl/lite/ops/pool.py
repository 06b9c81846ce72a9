"""Max-pooling, its gradient, and their fusion with the convolution before them.

Where the windows tile the image, a convolution is computed a few rows at a time and pooled at once, and its gradient is
spread over a few rows at a time just before they are needed. So the large tensor between the two exists only as a block
that stays in cache. Forward, the position of each maximum is kept, one byte per window.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mindfl.lite.kernels.primitives import window_gradient, window_maximum
from mindfl.lite.ops.registry import NO_ACTIVATION, NOWHERE, RELU, helper, instruction, need, operator
from mindfl.lite.ops.windows import window_positions
from mindfl.lite.program import Value

if TYPE_CHECKING:
    from mindfl.lite.model import Node
    from mindfl.lite.model_graph import Graph
    from mindfl.lite.plan import Plan

POOL_ROW = "kernel_size:q[] strides:q[] pad:q[] pad_mode:b round_mode:b format:i global:? activation:b"
POOL_GRAD_ROW = "kernel_size:q[] strides:q[] pad_mode:b format:i"
_ZERO = np.float32(0.0)
#: window positions that one byte can tell apart, besides "none"
_POSITIONS = 255


@dataclass(frozen=True)
class Windows:
    """Geometry of one pooling node, in the operands of its instruction."""

    operands: Mapping[str, int]

    @classmethod
    def of(cls, plan: Plan, node: Node, dims: tuple[int, ...], out: tuple[int, ...]) -> Windows:
        """Read the windows of a pooling node from an image of shape ``dims`` to one of shape ``out``, both NHWC."""
        whole = node.attributes.get("global", False)
        kernel = dims[1:3] if whole else node.integers("kernel_size")
        strides = (1, 1) if whole else node.integers("strides") or (1, 1)
        need(len(dims) == 4 and len(kernel) == 2 and len(strides) == 2, node, f"shape {dims} and window {kernel[:8]}")
        pads = node.attributes.get("pad", ())
        need(not isinstance(pads, tuple) or not any(pads), node, "explicit padding of a pooling window")
        (top, left), expected = (
            ((0, 0), (1, 1)) if whole else window_positions(node, dims[1:3], kernel, strides, (0, 0, 0, 0))
        )
        need(out == (plan.batch, *expected, dims[3]), node, f"shapes {dims} and {out}")
        return cls(
            {
                "height": dims[1],
                "width": dims[2],
                "out_height": out[1],
                "out_width": out[2],
                "kernel_height": kernel[0],
                "kernel_width": kernel[1],
                "row_stride": strides[0],
                "column_stride": strides[1],
                "top": top,
                "left": left,
                "run": dims[3] * plan.lanes,
            }
        )

    @property
    def tiled(self) -> bool:
        """Whether the windows cover every position exactly once."""
        sizes = self.operands
        return all(
            sizes[stride] == sizes[kernel] and sizes[out] * sizes[kernel] == sizes[size]
            for stride, kernel, out, size in (
                ("row_stride", "kernel_height", "out_height", "height"),
                ("column_stride", "kernel_width", "out_width", "width"),
            )
        )

    @property
    def row_size(self) -> int:
        """Floats of one row of windows on the image's side."""
        return self.operands["kernel_height"] * self.operands["width"] * self.operands["run"]

    @property
    def out_row_size(self) -> int:
        """Floats of one row of windows on the pooled side."""
        return self.operands["out_width"] * self.operands["run"]

    def rows(self, count: int) -> dict[str, int]:
        """Return the operands for ``count`` rows of windows that tile the image."""
        return {**self.operands, "height": count * self.operands["kernel_height"], "out_height": count}


@dataclass(frozen=True)
class PoolGradient:
    """The gradient of a tiled pooling, which its readers compute block by block."""

    dy: Value
    index: int
    windows: Windows

    def blocks(self, plan: Plan, least: int) -> Iterator[tuple[int, int, int]]:
        """Emit the gradient in blocks of whole rows of windows, each of at least ``least`` floats if possible.

        Yields (place of the block, first image row, image rows) after emitting each; the same memory serves all.
        """
        total, height = self.windows.operands["out_height"], self.windows.operands["kernel_height"]
        count = min(total, -(-least // self.windows.row_size))
        for row in range(0, total, count):
            rows = min(count, total - row)
            place = _block_memory(plan, count * self.windows.row_size)
            shift = row * self.windows.out_row_size
            plan.builder.emit(
                "POOL_GRAD",
                dy=self.dy.offset + shift,
                index=self.index + shift // 4,
                dx=place,
                tiled=True,
                **self.windows.rows(rows),
            )
            yield place, row * height, rows * height


def _block_memory(plan: Plan, size: int) -> int:
    """Return memory for a block of ``size`` floats; blocks of one size share it, since only one is in use."""
    return plan.once(("block", size), lambda: plan.new_batch((plan.batch, size // plan.lanes)).offset)


def fused_pool(graph: Graph, tensor: int) -> Node | None:
    """Return the pooling node that is the only reader of ``tensor`` apart from gradients of the two, or None."""
    users = graph.consumers.get(tensor, [])
    pools = [node for node in users if node.op == "MaxPoolFusion"]
    if len(pools) != 1 or tensor in (*graph.model.outputs, graph.logits.index):
        return None
    gradient = _gradient_node(graph, pools[0])
    allowed = {pools[0].index}
    if gradient is not None:
        allowed.add(gradient.index)
        mask = _mask_node(graph, gradient)
        if mask is not None:
            allowed.add(mask.index)
    return pools[0] if {node.index for node in users} <= allowed else None


@operator(f"92 MaxPoolFusion {POOL_ROW}")
def _lower_pool(plan: Plan, node: Node) -> None:
    """y = max over windows of x."""
    x = plan.batched(node, 0)
    y = plan.new_batch(plan.tensor(node.outputs[0]).dims)
    windows = pool_windows(plan, node, x.dims)
    plan.keep(node.outputs[0], y)
    _emit_pool(plan, x.offset, y.offset, windows, **_index(plan, node, y))


def pool_windows(plan: Plan, node: Node, dims: tuple[int, ...]) -> Windows:
    """Return the windows of a forward pooling node on an image of shape ``dims``."""
    need(node.integer("activation") == NO_ACTIVATION, node, "a fused activation")
    return Windows.of(plan, node, dims, plan.tensor(node.outputs[0]).dims)


def pool_blocks(plan: Plan, node: Node, windows: Windows) -> Iterator[tuple[int, int, int]]:
    """Pool an image that the caller computes: yields (place, first row, rows) of each block to be filled.

    After each yield the pooling of that block is emitted.
    """
    y = plan.keep(node.outputs[0], plan.new_batch(plan.tensor(node.outputs[0]).dims))
    index = _index(plan, node, y)
    place = _block_memory(plan, windows.row_size)
    height = windows.operands["kernel_height"]
    for row in range(windows.operands["out_height"]):
        yield place, row * height, height
        shift = row * windows.out_row_size
        moved = {**index, "index": index["index"] + shift // 4} if index["index"] != NOWHERE else index
        plan.builder.emit("POOL", x=place, y=y.offset + shift, **moved, **windows.rows(1))


def _index(plan: Plan, node: Node, y: Value) -> dict[str, int]:
    """Return the place where a forward pooling stores the maxima's positions, if needed, and whether it is masked."""
    gradient = _gradient_node(plan.graph, node)
    if gradient is None:
        return {"index": NOWHERE, "masked": 0}
    index = plan.once(("maxima", gradient.index, y.dims), lambda: plan.builder.allocate(-(-y.size * plan.lanes // 4)))
    return {"index": index, "masked": _mask_node(plan.graph, gradient) is not None}


def _gradient_node(graph: Graph, node: Node) -> Node | None:
    """Return the only gradient node of a pooling: the one of the same image and the same windows."""
    x = node.inputs[0]
    found = [user for user in graph.consumers.get(x, []) if user.op == "MaxPoolGrad" and user.inputs[0] == x]
    names = ("kernel_size", "strides", "pad_mode")
    same = [user for user in found if all(user.attributes.get(n) == node.attributes.get(n) for n in names)]
    return same[0] if len(same) == 1 else None


def _mask_node(graph: Graph, gradient: Node) -> Node | None:
    """Return the gradient of the ReLU before the pooling if it is the only reader of the pooling's gradient."""
    follower = graph.sole_consumer(gradient.outputs[0])
    masked = (
        follower is not None
        and follower.op == "ActivationGrad"
        and follower.integer("type") == RELU
        and follower.inputs == (gradient.outputs[0], gradient.inputs[0])
    )
    return follower if masked else None


@operator(f"93 MaxPoolGrad {POOL_GRAD_ROW}", inputs=3)
def _lower_pool_grad(plan: Plan, node: Node) -> None:
    """dx = dy at the maximum of each window; together with the gradient of a ReLU before the pooling."""
    dims, dy = plan.tensor(node.inputs[0]).dims, plan.batched(node, 2)
    windows = Windows.of(plan, node, dims, dy.dims)
    kernel = node.integers("kernel_size")
    need(kernel[0] * kernel[1] <= _POSITIONS, node, f"a window of {kernel}")
    mask = _mask_node(plan.graph, node)
    output = node.outputs[0]
    if mask is not None:
        plan.done.add(mask.index)
        output = mask.outputs[0]
    need(plan.tensor(output).dims == dims, node, f"shapes {dims} and {plan.tensor(output).dims}")
    gradient = PoolGradient(dy, _maxima(plan, node, dy, windows), windows)
    readers = plan.graph.consumers.get(output, [])
    if windows.tiled and all(reader.op in _BLOCK_READERS and reader.inputs[0] == output for reader in readers):
        plan.pool_gradients[output] = gradient
        return
    dx = plan.keep(output, plan.new_batch(dims))
    plan.builder.emit(
        "POOL_GRAD", dy=dy.offset, index=gradient.index, dx=dx.offset, tiled=windows.tiled, **windows.operands
    )


_BLOCK_READERS = ("Conv2DBackpropFilterFusion", "Conv2DBackpropInputFusion")


def _maxima(plan: Plan, node: Node, dy: Value, windows: Windows) -> int:
    """Return the place of the maxima's positions: stored by the forward pass, or computed again."""

    def found() -> int:
        x = plan.batched(node, 0)
        index = plan.builder.allocate(-(-dy.size * plan.lanes // 4))
        again = plan.new_batch(dy.dims)
        masked = _mask_node(plan.graph, node) is not None
        _emit_pool(plan, x.offset, again.offset, windows, index=index, masked=masked)
        return index

    return plan.once(("maxima", node.index, dy.dims), found)


def _emit_pool(plan: Plan, x: int, y: int, windows: Windows, *, index: int, masked: int) -> None:
    plan.builder.emit("POOL", x=x, y=y, index=index, masked=masked, **windows.operands)


@instruction(
    "POOL",
    "x y index masked height width out_height "
    "out_width kernel_height kernel_width row_stride column_stride top left run",
)
def pool_kernel(arena: Any, table: Any, i: Any) -> None:
    """y = maximum over each window; positions outside the image do not count.

    ``index`` receives the number of the window position that the gradient goes to, the first one that holds the
    maximum; none where ``masked`` and the maximum is not positive (a ReLU before the pooling passes no gradient there).
    """
    x, y, index, masked, height, width, out_height, out_width = i[1], i[2], i[3], i[4], i[5], i[6], i[7], i[8]
    kernel_height, kernel_width, row_stride, column_stride = i[9], i[10], i[11], i[12]
    top, left, run = i[13], i[14], i[15]
    for row in range(out_height):
        first_row, rows = inside(row * row_stride - top, kernel_height, height)
        for column in range(out_width):
            first_column, columns = inside(column * column_stride - left, kernel_width, width)
            corner = x + (first_row * width + first_column) * run
            window = (row * out_width + column) * run
            window_maximum(arena, corner, width * run, run, rows, columns, y + window, index, window, masked, run)


@instruction(
    "POOL_GRAD",
    "dy index dx tiled height width out_height "
    "out_width kernel_height kernel_width row_stride column_stride top left run",
)
def pool_grad_kernel(arena: Any, table: Any, i: Any) -> None:
    """dx = dy at the position that ``index`` names in each window, else 0.

    ``tiled``: the windows cover every position exactly once.
    """
    dy, index, dx, tiled, height, width, out_height, out_width = i[1], i[2], i[3], i[4], i[5], i[6], i[7], i[8]
    kernel_height, kernel_width, row_stride, column_stride = i[9], i[10], i[11], i[12]
    top, left, run = i[13], i[14], i[15]
    if not tiled:
        arena[dx : dx + height * width * run] = _ZERO
    added = 1 - tiled
    for row in range(out_height):
        first_row, rows = inside(row * row_stride - top, kernel_height, height)
        for column in range(out_width):
            first_column, columns = inside(column * column_stride - left, kernel_width, width)
            corner = dx + (first_row * width + first_column) * run
            window = (row * out_width + column) * run
            window_gradient(arena, dy + window, index, window, corner, width * run, run, rows, columns, added, run)


@helper
def inside(start: int, length: int, size: int) -> Any:
    """Return start and length of the part of a window that lies on an image of ``size``."""
    first = max(start, 0)
    return first, min(start + length, size) - first
