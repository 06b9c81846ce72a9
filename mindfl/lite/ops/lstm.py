"""LSTM (Hochreiter and Schmidhuber 1997) over whole sequences, with its gradients.

Tensors are time-major, (time, batch, features). The four gates lie in the order input, forget, cell, output, as in
MindSpore's and PyTorch's weights; here each is padded to whole vectors. The products with the input, and all sums over
time, are each one matrix product over time x batch; only the recurrent products are computed step by step.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mindfl.lite.kernels.primitives import ACCUMULATE, PANEL, VECTOR, ZERO, panel_product
from mindfl.lite.ops.registry import NOWHERE, helper, instruction, need, operator
from mindfl.lite.ops.vector_math import hyperbolic_tangent, sigmoid
from mindfl.lite.program import Value, alike

if TYPE_CHECKING:
    from mindfl.lite.model import Node
    from mindfl.lite.plan import Plan

LSTM_ROW = (
    "bidirectional:? has_bias:? input_size:q hidden_size:q num_layers:q num_directions:q dropout:f zoneout_cell:f "
    "zoneout_hidden:f"
)
_GATES = 4
#: rows of a panel that are multiplied at a time: two such blocks fit the first-level cache
_DEPTH = 128
#: the blocks' rows, for the table
_ROWS = tuple(range(0, PANEL * _DEPTH, PANEL))
_ONE, _ZERO, _NO_FLOOR = np.float32(1.0), np.float32(0.0), np.float32(-np.inf)
# Typed, not literal: numba would compile a function anew for each combination of literal arguments.
_UNIT, _NONE, _WIDTH, _FRESH, _FURTHER = np.int64(1), np.int64(0), np.int64(PANEL), np.int64(ZERO), np.int64(ACCUMULATE)


@dataclass(frozen=True)
class _Layer:
    """The sizes of one layer."""

    time: int
    batch: int
    inputs: int
    hidden: int
    biased: bool

    @classmethod
    def of(cls, plan: Plan, node: Node) -> _Layer:
        """Return the sizes of a node; raises an error for a layer that the runtime does not do."""
        need(not node.flag("bidirectional") and node.integer("num_layers") == 1, node, "several layers or directions")
        for name in ("dropout", "zoneout_cell", "zoneout_hidden"):
            need(node.real(name) == 0, node, f"{name} {node.real(name)}")
        need(not node.attributes.get("proj_size"), node, "a projection")
        dims = plan.tensor(node.inputs[0]).dims
        need(len(dims) == 3 and min(dims) >= 1, node, f"an input of shape {dims}")
        time, batch, inputs = dims
        layer = cls(time, batch, inputs, node.integer("hidden_size"), node.flag("has_bias"))
        need(layer.inputs == node.integer("input_size") and layer.hidden >= 1, node, "sizes that are not its input's")
        return layer

    @property
    def padded(self) -> int:
        """Units of a gate, in whole vectors."""
        return int(whole_vectors(self.hidden))

    @property
    def reserve(self) -> int:
        """Floats that the forward pass keeps for the gradient: gates, cell states, and tanh of these."""
        return self.time * self.batch * (int(gates_row(self.padded)) + 2 * self.hidden)

    @property
    def sequence(self) -> tuple[int, ...]:
        """Shape of the input."""
        return (self.time, self.batch, self.inputs)

    @property
    def states(self) -> tuple[int, ...]:
        """Shape of the hidden states of all steps."""
        return (self.time, self.batch, self.hidden)

    @property
    def state(self) -> tuple[int, ...]:
        """Shape of the first or last state."""
        return (1, self.batch, self.hidden)

    @property
    def weights(self) -> int:
        """Number of weights: of the input, of the hidden state, and one bias for each gate."""
        return _GATES * self.hidden * (self.inputs + self.hidden + self.biased)

    def operands(self) -> dict[str, int]:
        """Return the sizes as operands of an instruction."""
        return {"time": self.time, "batch": self.batch, "inputs": self.inputs, "hidden": self.hidden}


def _input(plan: Plan, node: Node, place: int, dims: tuple[int, ...]) -> int:
    """Return the offset of an input, which must have this shape."""
    value = plan.plain(node, place)
    need(alike(value.dims, dims), node, f"an input {place} of shape {value.dims} instead of {dims}")
    return value.offset


def _weights(plan: Plan, node: Node, place: int, layer: _Layer) -> int:
    value = plan.plain(node, place)
    need(value.size == layer.weights, node, f"{value.size} weights instead of {layer.weights}")
    return value.offset


@operator(f"87 LSTM {LSTM_ROW} proj_size:q", inputs=4, outputs=4)
def _lstm(plan: Plan, node: Node) -> None:
    layer, builder = _Layer.of(plan, node), plan.builder
    need(len(node.inputs) == 4, node, f"{len(node.inputs)} inputs")
    weights = _weights(plan, node, 3, layer)
    x = _input(plan, node, 0, layer.sequence)
    h0, c0 = (_input(plan, node, place, layer.state) for place in (1, 2))
    y = plan.new_parameter(layer.states)
    reserve = _room(plan, layer.reserve)
    cells = reserve + layer.time * layer.batch * gates_row(layer.padded)
    last = (layer.time - 1) * layer.batch * layer.hidden
    plan.keep(node.outputs[0], y)
    for tensor, offset in zip(node.outputs[1:3], (y.offset + last, cells + last), strict=True):
        plan.keep(tensor, Value(offset, layer.state, False))
    plan.derived["lstm", node.outputs[3], layer] = reserve
    builder.emit(
        "LSTM",
        x=x,
        h0=h0,
        c0=c0,
        weights=weights,
        biased=layer.biased,
        y=y.offset,
        reserve=reserve,
        panels=_room(plan, _GATES * layer.padded * (layer.inputs + layer.hidden)),
        rows_table=builder.entries(_ROWS),
        **layer.operands(),
    )


def _room(plan: Plan, size: int) -> int:
    """Return memory that stays zero where kernels do not write: behind the units, up to whole vectors and panels."""
    return plan.builder.keep(plan.builder.allocate(size))


@operator(f"167 LSTMGrad {LSTM_ROW}", inputs=11, outputs=4)
def _lstm_grad(plan: Plan, node: Node) -> None:
    """Inputs: x, h0, c0, weights, y, hn, cn, gradients of the last 3, what LSTM kept; outputs: those of the first 4."""
    layer, builder = _Layer.of(plan, node), plan.builder
    weights = _weights(plan, node, 3, layer)
    x = _input(plan, node, 0, layer.sequence)
    h0, c0, dhn, dcn = (_input(plan, node, place, layer.state) for place in (1, 2, 8, 9))
    y, dy = (_input(plan, node, place, layer.states) for place in (4, 7))
    reserve = plan.derived.pop(("lstm", node.inputs[10], layer), NOWHERE)
    need(reserve != NOWHERE, node, "what no LSTM before it kept, or another LSTMGrad has used")
    dx, dh0, dc0 = (plan.new_parameter(dims) for dims in (layer.sequence, layer.state, layer.state))
    dw = plan.new_parameter((layer.weights,))
    for tensor, value in zip(node.outputs, (dx, dh0, dc0, dw), strict=True):
        plan.keep(tensor, value)
    count, width = layer.time * layer.batch, _GATES * layer.padded
    rows_table = builder.entries(_ROWS)
    builder.emit(
        "LSTM_GRAD",
        c0=c0,
        weights=weights,
        dy=dy,
        dhn=dhn,
        dcn=dcn,
        reserve=reserve,
        dh0=dh0.offset,
        dc0=dc0.offset,
        sums=_room(plan, layer.batch * whole_panels(layer.hidden)),
        panels=_room(plan, width * whole_panels(layer.hidden)),
        rows_table=rows_table,
        **layer.operands(),
    )
    builder.emit(
        "LSTM_INPUT_GRAD",
        weights=weights,
        reserve=reserve,
        dx=dx.offset,
        sums=_room(plan, count * whole_panels(layer.inputs)),
        panels=_room(plan, width * whole_panels(layer.inputs)),
        rows_table=rows_table,
        **layer.operands(),
    )
    builder.emit(
        "LSTM_WEIGHT_GRAD",
        x=x,
        h0=h0,
        y=y,
        reserve=reserve,
        dw=dw.offset,
        biased=layer.biased,
        sums=_room(plan, PANEL * PANEL),
        gates=_room(plan, count * width),
        panels=_room(plan, count * whole_panels(max(layer.inputs, layer.hidden))),
        rows_table=rows_table,
        **layer.operands(),
    )


@helper
def whole_vectors(units: Any) -> Any:
    """``units`` rounded up to whole vectors."""
    return -(-units // VECTOR) * VECTOR


@helper
def whole_panels(columns: Any) -> Any:
    """``columns`` rounded up to whole panels."""
    return -(-columns // PANEL) * PANEL


@helper
def gates_row(padded: Any) -> Any:
    """Floats from one row of gates to the next: not a power of two, which would crowd a few sets of the caches."""
    return _GATES * padded + VECTOR


@helper
def copy(arena: Any, x: Any, y: Any, size: Any) -> None:
    """y = x. An assignment of slices would do, but to compile its error message takes two seconds."""
    source, target = arena[x : x + size], arena[y : y + size]
    for n in range(size):
        target[n] = source[n]


@helper
def pack(
    arena: Any, x: Any, k_step: Any, depth: Any, column_step: Any, columns: Any, panels: Any, height: Any,
    first_row: Any, first_column: Any,
) -> None:  # fmt: skip
    """Copy X[k, column], at ``x + k*k_step + column*column_step``, into panels of ``height`` rows, from a place on."""
    column = 0
    while column < columns:
        at = first_column + column
        run = min(columns - column, PANEL - at % PANEL)
        target = panels + (at - at % PANEL) * height + first_row * PANEL + at % PANEL
        source = x + column * column_step
        for k in range(depth):
            for n in range(run):
                arena[target + k * PANEL + n] = arena[source + k * k_step + n * column_step]
        column += run


@helper
def packed_product(
    arena: Any, table: Any, a: Any, am: Any, ak: Any, panels: Any, rows_table: Any, depth: Any, c: Any, cm: Any,
    rows: Any, columns: Any, start: Any,
) -> None:  # fmt: skip
    """C[m, column] = start + sum_k A[m, k] * B[k, column], with B in panels, and columns of C up to whole panels."""
    for first in range(0, columns, PANEL):
        panel = panels + first * depth
        for k in range(0, depth, _DEPTH):
            panel_product(
                arena, table, a + k * ak, am, ak, panel + k * PANEL, rows_table, min(depth - k, _DEPTH), c + first, cm,
                rows, start if k == 0 else _FURTHER, _NO_FLOOR,
            )  # fmt: skip


@instruction("LSTM", "x h0 c0 weights biased y reserve panels rows_table time batch inputs hidden", error_model="numpy")
def lstm_kernel(arena: Any, table: Any, i: Any) -> None:
    """The hidden states of all steps; gates, cell states and their tanh are kept for the gradient."""
    x, h0, c0, weights, biased, y, reserve, panels = i[1], i[2], i[3], i[4], i[5], i[6], i[7], i[8]
    rows_table, time, batch, inputs, hidden = i[9], i[10], i[11], i[12], i[13]
    padded = whole_vectors(hidden)
    width, row, count = _GATES * padded, gates_row(padded), time * batch
    cells = reserve + count * row
    squashed = cells + count * hidden
    recurrent, bias = weights + _GATES * hidden * inputs, weights + _GATES * hidden * (inputs + hidden)
    recurrent_panels = panels + width * inputs
    for gate in range(_GATES):
        place, first = gate * hidden, gate * padded
        pack(arena, weights + place * inputs, _UNIT, inputs, inputs, hidden, panels, inputs, _NONE, first)
        pack(arena, recurrent + place * hidden, _UNIT, hidden, hidden, hidden, recurrent_panels, hidden, _NONE, first)
        for p in range(count):
            target = reserve + p * row + first
            arena[target : target + padded] = _ZERO
            if biased:
                copy(arena, bias + place, target, hidden)
    packed_product(arena, table, x, inputs, _UNIT, panels, rows_table, inputs, reserve, row, count, width, _FURTHER)
    h, c = h0, c0
    for step in range(time):
        first = step * batch
        gates = reserve + first * row
        packed_product(
            arena, table, h, hidden, _UNIT, recurrent_panels, rows_table, hidden, gates, row, batch, width, _FURTHER
        )
        h = y + first * hidden
        for n in range(batch):
            _cell_step(
                arena, gates + n * row, padded, c + n * hidden, cells + (first + n) * hidden,
                squashed + (first + n) * hidden, h + n * hidden, hidden,
            )  # fmt: skip
        c = cells + first * hidden


@helper
def _cell_step(
    arena: Any, gates: Any, padded: Any, before: Any, cells: Any, squashed: Any, h: Any, hidden: Any
) -> None:
    """Activate the gates of one sample; write its cell state, tanh of it, and its hidden state."""
    for first, last in ((0, 2 * padded), (3 * padded, 4 * padded)):
        part = arena[gates + first : gates + last]
        for j in range(part.size):
            part[j] = sigmoid(part[j])
    part = arena[gates + 2 * padded : gates + 3 * padded]
    for j in range(part.size):
        part[j] = hyperbolic_tangent(part[j])
    entered, kept = arena[gates : gates + hidden], arena[gates + padded : gates + padded + hidden]
    fresh, shown = arena[gates + 2 * padded :][:hidden], arena[gates + 3 * padded :][:hidden]
    c0, c1, t, y = arena[before:][:hidden], arena[cells:][:hidden], arena[squashed:][:hidden], arena[h:][:hidden]
    for j in range(hidden):
        c1[j] = kept[j] * c0[j] + entered[j] * fresh[j]
    for j in range(hidden):
        t[j] = hyperbolic_tangent(c1[j])
    for j in range(hidden):
        y[j] = shown[j] * t[j]


@instruction(
    "LSTM_GRAD",
    "c0 weights dy dhn dcn reserve dh0 dc0 sums panels rows_table time batch inputs hidden",
    error_model="numpy",
)
def lstm_grad_kernel(arena: Any, table: Any, i: Any) -> None:
    """The gradients of the gates before their activation, which replace the gates, and those of the first states."""
    c0, weights, dy, dhn, dcn, reserve, dh0, dc0, sums = i[1], i[2], i[3], i[4], i[5], i[6], i[7], i[8], i[9]
    panels, rows_table, time, batch, inputs, hidden = i[10], i[11], i[12], i[13], i[14], i[15]
    padded, sums_row = whole_vectors(hidden), whole_panels(hidden)
    width, row, count = _GATES * padded, gates_row(padded), time * batch
    cells = reserve + count * row
    squashed = cells + count * hidden
    for gate in range(_GATES):
        place = weights + _GATES * hidden * inputs + gate * hidden * hidden
        pack(arena, place, hidden, hidden, _UNIT, hidden, panels, width, gate * padded, _NONE)
    for n in range(batch):
        copy(arena, dhn + n * hidden, sums + n * sums_row, hidden)
        copy(arena, dcn + n * hidden, dc0 + n * hidden, hidden)
    for step in range(time - 1, -1, -1):
        first = step * batch
        gates = reserve + first * row
        before = cells + (first - batch) * hidden if step else c0
        for n in range(batch):
            _cell_gradient(
                arena, gates + n * row, padded, before + n * hidden, squashed + (first + n) * hidden,
                dy + (first + n) * hidden, sums + n * sums_row, dc0 + n * hidden, hidden,
            )  # fmt: skip
        packed_product(
            arena, table, gates, row, _UNIT, panels, rows_table, width, sums, sums_row, batch, hidden, _FRESH
        )
    for n in range(batch):
        copy(arena, sums + n * sums_row, dh0 + n * hidden, hidden)


@helper
def _cell_gradient(
    arena: Any, gates: Any, padded: Any, before: Any, squashed: Any, dy: Any, dh: Any, dc: Any, hidden: Any
) -> None:
    """Replace the gates of one sample by their gradients; ``dc`` goes from the step's end to its beginning."""
    entered, kept = arena[gates : gates + hidden], arena[gates + padded : gates + padded + hidden]
    fresh, shown = arena[gates + 2 * padded :][:hidden], arena[gates + 3 * padded :][:hidden]
    c0, t, added = arena[before:][:hidden], arena[squashed:][:hidden], arena[dy:][:hidden]
    dh, dc = arena[dh:][:hidden], arena[dc:][:hidden]
    for j in range(hidden):
        dh[j] += added[j]
    for j in range(hidden):
        dc[j] += dh[j] * shown[j] * (_ONE - t[j] * t[j])
    for j in range(hidden):
        o = shown[j]
        shown[j] = dh[j] * t[j] * o * (_ONE - o)
    for j in range(hidden):
        enter, new = entered[j], fresh[j]
        entered[j] = dc[j] * new * enter * (_ONE - enter)
        fresh[j] = dc[j] * enter * (_ONE - new * new)
    for j in range(hidden):
        keep, slope = kept[j], dc[j]
        kept[j] = slope * c0[j] * keep * (_ONE - keep)
        dc[j] = slope * keep


@instruction(
    "LSTM_INPUT_GRAD", "weights reserve dx sums panels rows_table time batch inputs hidden", error_model="numpy"
)
def lstm_input_grad_kernel(arena: Any, table: Any, i: Any) -> None:
    """dx = gradients of the gates * weights of the input."""
    weights, reserve, dx, sums, panels, rows_table = i[1], i[2], i[3], i[4], i[5], i[6]
    time, batch, inputs, hidden = i[7], i[8], i[9], i[10]
    padded, sums_row, count = whole_vectors(hidden), whole_panels(inputs), time * batch
    width, row = _GATES * padded, gates_row(padded)
    for gate in range(_GATES):
        place = weights + gate * hidden * inputs
        pack(arena, place, inputs, hidden, _UNIT, inputs, panels, width, gate * padded, _NONE)
    packed_product(arena, table, reserve, row, _UNIT, panels, rows_table, width, sums, sums_row, count, inputs, _FRESH)
    for p in range(count):
        copy(arena, sums + p * sums_row, dx + p * inputs, inputs)


@instruction(
    "LSTM_WEIGHT_GRAD",
    "x h0 y reserve dw biased sums gates panels rows_table time batch inputs hidden",
    error_model="numpy",
)
def lstm_weight_grad_kernel(arena: Any, table: Any, i: Any) -> None:
    """dw = sums over time and batch of the gates' gradients * (input, hidden state before, 1)."""
    x, h0, y, reserve, dw, biased, sums, gates = i[1], i[2], i[3], i[4], i[5], i[6], i[7], i[8]
    panels, rows_table, time, batch, inputs, hidden = i[9], i[10], i[11], i[12], i[13], i[14]
    padded, count = whole_vectors(hidden), time * batch
    width, row = _GATES * padded, gates_row(padded)
    pack(arena, reserve, row, count, _UNIT, width, gates, count, _NONE, _NONE)
    pack(arena, x, inputs, count, _UNIT, inputs, panels, count, _NONE, _NONE)
    _outer(arena, table, gates, panels, rows_table, count, sums, dw, hidden, inputs)
    recurrent = dw + _GATES * hidden * inputs
    pack(arena, h0, hidden, batch, _UNIT, hidden, panels, count, _NONE, _NONE)
    pack(arena, y, hidden, count - batch, _UNIT, hidden, panels, count, batch, _NONE)
    _outer(arena, table, gates, panels, rows_table, count, sums, recurrent, hidden, hidden)
    if biased:
        bias = recurrent + _GATES * hidden * hidden
        for gate in range(_GATES):
            total = arena[bias + gate * hidden :][:hidden]
            total[:] = _ZERO
            for p in range(count):
                part = arena[reserve + p * row + gate * padded :][:hidden]
                for j in range(hidden):
                    total[j] += part[j]


@helper
def _outer(
    arena: Any, table: Any, gates: Any, panels: Any, rows_table: Any, count: Any, sums: Any, y: Any, hidden: Any,
    columns: Any,
) -> None:  # fmt: skip
    """y[gate and unit, column] = sum_p gates[p, gate and unit] * panels[p, column]: a square block at a time."""
    padded = whole_vectors(hidden)
    for first in range(0, _GATES * padded, PANEL):
        for column in range(0, columns, PANEL):
            packed_product(
                arena, table, gates + first * count, _UNIT, _WIDTH, panels + column * count, rows_table, count, sums,
                _WIDTH, _WIDTH, _WIDTH, _FRESH,
            )  # fmt: skip
            run = min(columns - column, PANEL)
            for m in range(PANEL):
                gate, unit = (first + m) // padded, (first + m) % padded
                if unit < hidden:
                    copy(arena, sums + m * PANEL, y + (gate * hidden + unit) * columns + column, run)
