"""An independent check of planned programs: each access of an instruction lies in the buffer it was planned for.

Compiled kernels check nothing, so a wrong plan would read or write foreign memory without a crash. Here the range of
each operand is computed from what the kernel does with it, and compared with the buffers that were allocated.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from unittest import mock

import numpy as np

from mindfl.algorithms import Correction
from mindfl.lite import Executable, LiteModel, Session, arena, executable
from mindfl.lite.correction import CorrectionPlan
from mindfl.lite.executable import Programs
from mindfl.lite.kernels.primitives import PANEL_DEPTH, PANEL_VECTORS
from mindfl.lite.model_graph import Graph
from mindfl.lite.ops import INSTRUCTIONS, NOWHERE
from mindfl.lite.ops.arithmetic import PAIRS
from mindfl.lite.ops.maps import MAPS
from mindfl.lite.program import STAGGER, Builder, Program, Value

VECTOR, HALF = 16, 8
Operands = dict[str, int]
#: operand, first element relative to it, one past the last
Range = tuple[str, int, int]


@dataclass
class _Table:
    """The table of a program, with runs of entries by offset."""

    values: np.ndarray

    def run(self, start: int, count: int) -> np.ndarray:
        assert count >= 1 and 0 <= start <= start + count <= len(self.values), "a table run outside the table"
        return self.values[start : start + count].astype(np.int64)


def _conv(o: Operands, t: _Table) -> Iterator[Range]:
    taps = t.run(o["taps_table"], o["taps"])
    last = (o["height"] - 1) * o["row_step"] + (o["width"] - 1) * o["column_step"]
    assert o["block"] >= 1 and o["filled"] <= o["lanes"] and o["filled"] % HALF == 0
    yield "x", int(taps.min()), last + int(taps.max()) + o["lanes"]
    yield "weight", 0, o["channels"] * o["taps"]
    yield "y", 0, (o["height"] * o["width"] - 1) * o["step"] + o["channels"] * o["lanes"]
    if o["start"] >= 0:
        yield "start", 0, o["channels"]


def _conv_input_grad(o: Operands, t: _Table) -> Iterator[Range]:
    rows, channels = t.run(o["rows_table"], o["runs"]), t.run(o["channels_table"], o["channels"])
    assert o["filled"] <= o["lanes"] and o["filled"] % HALF == 0
    last = (o["height"] - 1) * o["row_step"] + (o["width"] - 1) * o["column_step"]
    positions = o["height"] * o["width"] - 1
    yield "dy", int(channels.min()), positions * o["step"] + int(channels.max()) + o["lanes"]
    yield "weight", 0, o["channels"] * o["runs"] * o["run"]
    yield "dx", 0, max(o["cleared"], last + int(rows.max()) + o["run"] * o["lanes"])


def _conv_filter_grad(o: Operands, t: _Table) -> Iterator[Range]:
    dy, x = t.run(o["dy_table"], o["positions"]), t.run(o["x_table"], o["positions"])
    taps = t.run(o["taps_table"], o["taps"])
    yield "dy", int(dy.min()), int(dy.max()) + (o["channels"] - 1) * o["lanes"] + VECTOR
    yield "x", int(x.min() + taps.min()), int(x.max() + taps.max()) + VECTOR
    yield "dw", 0, o["channels"] * o["taps"]
    if not (o["first"] and o["last"]):
        yield "sums", 0, o["channels"] * o["taps"] * VECTOR


def _depthwise(o: Operands, t: _Table) -> Iterator[Range]:
    taps = t.run(o["taps_table"], o["taps"])
    last = (o["height"] - 1) * o["row_step"] + (o["width"] - 1) * o["column_step"]
    yield "x", int(taps.min()), last + int(taps.max()) + o["channels"] * o["lanes"]
    ends = (0, (o["taps"] - 1) * o["tap_step"])
    yield "weight", min(ends), (o["channels"] * o["filters"] - 1) * o["taps"] + max(ends) + 1
    yield "y", 0, o["height"] * o["width"] * o["channels"] * o["filters"] * o["lanes"]
    if o["start"] >= 0:
        yield "start", 0, o["channels"] * o["filters"]


def _depthwise_input_grad(o: Operands, t: _Table) -> Iterator[Range]:
    taps, filters = t.run(o["taps_table"], o["taps"]), t.run(o["filters_table"], o["filters"])
    assert filters.tolist() == [j * o["lanes"] for j in range(o["filters"])] and taps.min() >= 0
    last = (o["height"] - 1) * o["row_step"] + (o["width"] - 1) * o["column_step"]
    yield "dy", 0, o["height"] * o["width"] * o["channels"] * o["filters"] * o["lanes"]
    yield "weight", 0, o["channels"] * o["filters"] * o["taps"]
    yield "dx", 0, max(o["cleared"], last + int(taps.max()) + o["channels"] * o["lanes"])


def _depthwise_filter_grad(o: Operands, t: _Table) -> Iterator[Range]:
    dy, x = t.run(o["dy_table"], o["positions"]), t.run(o["x_table"], o["positions"])
    taps, channels = t.run(o["taps_table"], o["taps"]), o["channels"] * o["filters"]
    yield "dy", int(dy.min()), int(dy.max()) + (channels - 1) * o["lanes"] + VECTOR
    yield "x", int(x.min() + taps.min()), int(x.max() + taps.max()) + (o["channels"] - 1) * o["lanes"] + VECTOR
    yield "dw", 0, channels * o["taps"]
    if not (o["first"] and o["last"]):
        yield "sums", 0, channels * o["taps"] * VECTOR


def _dense(o: Operands, t: _Table) -> Iterator[Range]:
    columns = t.run(o["x_table"], o["columns"])
    assert o["filled"] <= o["lanes"] and o["filled"] % HALF == 0
    yield "x", int(columns.min()), int(columns.max()) + o["lanes"]
    yield "weight", 0, (o["rows"] - 1) * o["row_step"] + (o["columns"] - 1) * o["column_step"] + 1
    yield "y", 0, o["rows"] * o["lanes"]
    if o["start"] >= 0:
        yield "start", 0, o["rows"]


def _outer(o: Operands, t: _Table) -> Iterator[Range]:
    lines = t.run(o["b_table"], o["batch"])
    yield "a", 0, (o["rows"] - 1) * o["a_lanes"] + o["batch"]
    yield "b", int(lines.min()), int(lines.max()) + -(-o["columns"] // VECTOR) * VECTOR
    yield "y", 0, o["rows"] * o["columns"]
    yield "tail", 0, o["rows"] * VECTOR


def _turn(o: Operands, t: _Table) -> Iterator[Range]:
    read = -(-o["columns"] // VECTOR) * VECTOR if o["whole"] else o["columns"]
    yield "x", 0, (o["rows"] - 1) * o["x_step"] + read
    yield "y", 0, (o["columns"] - 1) * o["y_step"] + o["rows"]


def _row_product(o: Operands, t: _Table) -> Iterator[Range]:
    lines = t.run(o["b_table"], o["inner"])
    assert min(o["block"], o["row_block"]) >= 1
    yield "a", 0, (o["rows"] - 1) * o["a_row"] + (o["inner"] - 1) * o["a_column"] + 1
    yield "b", int(lines.min()), int(lines.max()) + -(-o["columns"] // VECTOR) * VECTOR
    yield "y", 0, (o["rows"] - 1) * o["y_step"] + o["columns"]
    if o["columns"] % VECTOR:
        yield "tail", 0, o["rows"] * VECTOR


def _gather(o: Operands, t: _Table) -> Iterator[Range]:
    rows = t.run(o["rows_table"], o["rows"])
    assert rows.min() >= -1
    yield "x", 0, (int(rows.max()) + 1) * o["lanes"]
    yield "y", 0, o["rows"] * o["lanes"]


def _move(o: Operands, t: _Table) -> Iterator[Range]:
    axes = t.run(o["outer_table"], 3 * o["outer"]).reshape(-1, 3) if o["outer"] else np.zeros((0, 3), np.int64)
    assert axes.min(initial=1, where=np.array([True, False, False])) >= 1
    inner = [(o["rows"], o["x_row"], o["y_row"]), (o["columns"], o["x_column"], o["y_column"])]
    for number, name in ((1, "x"), (2, "y")):
        reach = [(int(axis[0]) - 1) * int(axis[number]) for axis in (*axes, *inner)]
        yield name, sum(min(each, 0) for each in reach), sum(max(each, 0) for each in reach) + 1


def _outer_reach(o: Operands, t: _Table) -> tuple[int, int, int]:
    """Return how many matrices a product makes, and how far the last ones of its operands lie behind the first."""
    axes = t.run(o["outer_table"], 3 * o["outer"]).reshape(-1, 3)
    assert axes[:, 0].min() >= 1 and axes.min() >= 0
    return int(axes[:, 0].prod()), *(int(((axes[:, 0] - 1) * axes[:, side]).sum()) for side in (1, 2))


def _matrix_product(o: Operands, t: _Table) -> Iterator[Range]:
    matrices, a, b = _outer_reach(o, t)
    yield "a", 0, a + (o["rows"] - 1) * o["a_row"] + (o["depth"] - 1) * o["a_column"] + 1
    yield "b", 0, b + o["depth"] * o["columns"]
    yield "y", 0, matrices * o["rows"] * o["columns"]
    yield "packed", 0, PANEL_DEPTH * PANEL_VECTORS * VECTOR
    if o["start"] >= 0:
        yield "start", 0, o["columns"]


def _windows(o: Operands) -> None:
    for out, stride, before, kernel, size in (
        ("out_height", "row_stride", "top", "kernel_height", "height"),
        ("out_width", "column_stride", "left", "kernel_width", "width"),
    ):
        assert o[before] < o[kernel] and (o[out] - 1) * o[stride] - o[before] < o[size], "a window outside the image"


def _pool(o: Operands, t: _Table) -> Iterator[Range]:
    _windows(o)
    out = o["out_height"] * o["out_width"] * o["run"]
    yield ("dx" if "dx" in o else "x"), 0, o["height"] * o["width"] * o["run"]
    yield ("dy" if "dx" in o else "y"), 0, out
    if "dx" in o or o["index"] != NOWHERE:
        yield "index", 0, -(-out // 4)


def _average_pool(o: Operands, t: _Table) -> Iterator[Range]:
    _windows(o)
    yield ("dx" if "dx" in o else "x"), 0, o["height"] * o["width"] * o["run"]
    yield ("dy" if "dx" in o else "y"), 0, o["out_height"] * o["out_width"] * o["run"]


def _loss(o: Operands, t: _Table) -> Iterator[Range]:
    t.run(0, o["batch"])
    yield "logits", 0, o["classes"] * o["lanes"]
    yield ("loss", 0, 1) if "loss" in o else ("dx", 0, o["classes"] * o["lanes"])


def _multiply(o: Operands, t: _Table) -> Iterator[Range]:
    yield "a", 0, (o["size"] - 1) * o["a_step"] + 1
    yield "b", 0, (o["size"] - 1) * o["b_step"] + 1
    yield "y", 0, o["size"]


def _reach(t: _Table, start: int, count: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the elements along ``count`` axes of the table, and how far they reach in each array."""
    axes = t.run(start, width * count).reshape(-1, width) if count else np.zeros((0, width), np.int64)
    assert axes.min(initial=0) >= 0 and axes[:, 0].min(initial=1) >= 1
    return axes[:, 0], ((axes[:, :1] - 1) * axes[:, 1:]).sum(0)


def _pairwise(o: Operands, t: _Table) -> Iterator[Range]:
    dims, outer = _reach(t, o["axes_table"], o["rank"], 3)
    assert o["planes"] == np.prod(dims)
    for name, reached in zip("ab", outer, strict=True):
        last = int(reached) + (o["n1"] - 1) * o[f"{name}1"] + (o["n0"] - 1) * o[f"{name}0"]
        yield name, 0, last + 1
    yield "y", 0, (o["planes"] - 1) * o["n1"] * o["y1"] + (o["n1"] - 1) * o["y1"] + o["n0"]


def _reduce(o: Operands, t: _Table) -> Iterator[Range]:
    stays, first = _reach(t, o["axes_table"], o["rank"], 2)
    reduced, inner = _reach(t, o["axes_table"] + 2 * o["rank"], o["depth"], 2)
    assert (o["count"], o["terms"]) == (np.prod(stays), np.prod(reduced))
    yield "x", 0, int(first[0] + inner[0]) + o["size"]


def _reduce_rows(o: Operands, t: _Table) -> Iterator[Range]:
    yield from _reduce(o, t)
    yield "y", 0, o["count"] * o["size"]
    yield "sums", 0, o["size"]


def _reduce_runs(o: Operands, t: _Table) -> Iterator[Range]:
    yield from _reduce(o, t)
    yield "y", 0, o["count"]
    yield "sums", 0, VECTOR


def _softmax(o: Operands, t: _Table) -> Iterator[Range]:
    yield from _of(x="outer count inner", y="outer count inner")(o, t)
    yield "sums", 0, 2 * o["inner"]


def _likelihood(o: Operands, t: _Table) -> Iterator[Range]:
    each = o["rows"] if o["reduction"] == 2 else 1
    yield from _of(labels="rows", weights="classes", total="")(o, t)
    if "dx" in o:
        yield from (("dx", 0, o["rows"] * o["classes"]), ("share", 0, each))
    else:
        yield from (("scores", 0, o["rows"] * o["classes"]), ("loss", 0, each))


def _numbers(o: Operands, t: _Table) -> Iterator[Range]:
    t.run(o["start_table"], (o["batch"] - 1) * o["apart"] + o["count"])
    yield "y", 0, o["batch"] * o["count"]


def _one_hot(o: Operands, t: _Table) -> Iterator[Range]:
    t.run(0, o["batch"])
    yield "y", 0, o["classes"] * o["lanes"]


def _correct(o: Operands, t: _Table) -> Iterator[Range]:
    yield from _sized("gradient weight y", "scale pull")(o, t)
    yield from ((name, 0, o["size"]) for name in ("shift", "towards") if o[name] != NOWHERE)


def _lstm(o: Operands, t: _Table) -> Iterator[Range]:
    t.run(o["rows_table"], 128)
    count, inputs, hidden = o["time"] * o["batch"], o["inputs"], o["hidden"]
    width = 4 * -(-hidden // VECTOR) * VECTOR
    whole = {name: -(-size // 32) * 32 for name, size in (("inputs", inputs), ("hidden", hidden))}
    weights = 4 * hidden * (inputs + hidden + o.get("biased", 0))
    yield from ((name, 0, weights) for name in ("weights", "dw") if name in o)
    yield from ((name, 0, count * inputs) for name in ("x", "dx") if name in o)
    yield from ((name, 0, count * hidden) for name in ("y", "dy") if name in o)
    yield from ((name, 0, o["batch"] * hidden) for name in ("h0", "c0", "dhn", "dcn", "dh0", "dc0") if name in o)
    yield "reserve", 0, count * (width + VECTOR + 2 * hidden)
    if "dw" in o:
        sizes = {"gates": count * width, "panels": count * max(whole.values()), "sums": 32 * 32}
    elif "dx" in o:
        sizes = {"panels": width * whole["inputs"], "sums": count * whole["inputs"]}
    elif "dy" in o:
        sizes = {"panels": width * whole["hidden"], "sums": o["batch"] * whole["hidden"]}
    else:
        sizes = {"panels": width * (inputs + hidden)}
    yield from ((name, 0, size) for name, size in sizes.items())


def _dropout(o: Operands, t: _Table) -> Iterator[Range]:
    t.run(o["draws_table"], 3)
    yield from ((name, 0, o["rows"] * o["lanes"]) for name in ("x", "y", "mask"))
    yield "scale", 0, 1


def _next_step(o: Operands, t: _Table) -> Iterator[Range]:
    """It writes to the table: to entries of its own."""
    assert not t.run(o["draws_table"], 3).any()
    yield from ()


def _sized(arrays: str, numbers: str = "") -> Callable[[Operands, _Table], Iterator[Range]]:
    def ranges(o: Operands, t: _Table) -> Iterator[Range]:
        yield from ((name, 0, o["size"]) for name in arrays.split())
        yield from ((name, 0, 1) for name in numbers.split())

    return ranges


def _of(**sizes: str) -> Callable[[Operands, _Table], Iterator[Range]]:
    """Ranges that are products of other operands, such as ``x="rows lanes"``."""

    def ranges(o: Operands, t: _Table) -> Iterator[Range]:
        yield from ((name, 0, int(np.prod([o[factor] for factor in text.split()]))) for name, text in sizes.items())

    return ranges


def _map(operands: tuple[str, ...]) -> Callable[[Operands, _Table], Iterator[Range]]:
    return _sized(" ".join(set(operands) & set("abxy")), "number" if "number" in operands else "")


def _batch_norm(o: Operands, t: _Table) -> Iterator[Range]:
    lanes = -(-o["batch"] // VECTOR) * VECTOR
    for name in ("x", "y", "dy", "dx"):
        if name in o:
            yield name, 0, o["positions"] * o["channels"] * lanes
    for name in ("gamma", "beta", "mean", "variance", "running_mean", "running_variance", "dgamma", "dbeta"):
        if o.get(name, NOWHERE) != NOWHERE:
            yield name, 0, o["channels"]
    yield from ((name, 0, 1) for name in ("momentum", "epsilon") if name in o)
    yield "room", 0, 5 * max(256 // lanes, 1) * lanes


def _layer_norm(o: Operands, t: _Table) -> Iterator[Range]:
    size, one = o["rows"] * o["columns"], o["parameters"]
    assert max(o["columns"], one) % min(o["columns"], one) == 0, "a block of a row across the end of gamma"
    yield from ((name, 0, size) for name in ("x", "y", "dy", "dx") if name in o)
    yield from ((name, 0, one) for name in ("gamma", "beta", "dgamma", "dbeta") if name in o)
    yield from ((name, 0, o["rows"]) for name in ("mean", "variance"))
    yield "epsilon", 0, 1
    yield "parts", 0, 2 * VECTOR + ("dx" in o) * 2 * one


RANGES: dict[str, Callable[[Operands, _Table], Iterator[Range]]] = {
    "CONV": _conv,
    "CONV_INPUT_GRAD": _conv_input_grad,
    "CONV_FILTER_GRAD": _conv_filter_grad,
    "DEPTHWISE": _depthwise,
    "DEPTHWISE_INPUT_GRAD": _depthwise_input_grad,
    "DEPTHWISE_FILTER_GRAD": _depthwise_filter_grad,
    "BORDER": _of(x="inner_height inner_width run", y="height width run"),
    "CUT_OFF": _sized("y"),
    "FOLD": _of(weight="rows channels", folded="rows"),
    "UNFOLD": _of(weight="rows channels", folded="rows"),
    "DENSE": _dense,
    "TRANSPOSE": _of(x="rows x_lanes", y="columns y_lanes"),
    "OUTER": _outer,
    "BIAS": _of(x="rows lanes", y="rows lanes", bias="channels"),
    "BIAS_GRAD": _of(dy="rows lanes", y="channels"),
    "RELU": _sized("x y"),
    "RELU_GRAD": _sized("dy y dx"),
    "POOL": _pool,
    "POOL_GRAD": _pool,
    "AVERAGE_POOL": _average_pool,
    "AVERAGE_POOL_GRAD": _average_pool,
    "CHOOSE": _of(x="outer limit size", numbers="count", y="outer count size"),
    "TURN": _turn,
    "ROW_PRODUCT": _row_product,
    "GATHER": _gather,
    "MATRIX_PRODUCT": _matrix_product,
    "MOVE": _move,
    "LOSS": _loss,
    "LOSS_GRAD": _loss,
    "MULTIPLY": _multiply,
    "ADD": _sized("a b y"),
    "MOMENTUM": _sized("weight state gradient", "rate momentum scale"),
    "SGD": _sized("weight gradient state stat", "rate momentum dampening decay"),
    "ADAM": _sized("weight mean variance gradient", "beta1_power beta2_power rate beta1 beta2 epsilon"),
    "ADAM_WEIGHT_DECAY": _sized("weight mean variance gradient", "rate beta1 beta2 epsilon decay"),
    "CORRECT": _correct,
    "COPY": _sized("x y"),
    "INDEX": _of(x="outer count inner", y="outer inner"),
    "SOFTMAX": _softmax,
    "SOFTMAX_OF_RUNS": _softmax,
    "ROWS_LOSS": _of(scores="rows classes", labels="rows", y=""),
    "ROWS_LOSS_GRAD": _of(scores="rows classes", labels="rows", y="rows classes"),
    "ROWS_CROSS_ENTROPY": _of(scores="rows classes", labels="rows classes", dx="rows classes", loss="rows"),
    "ONE_HOT_ROWS": _of(indices="outer inner", y="outer depth inner", on="", off=""),
    "LIKELIHOOD": _likelihood,
    "LIKELIHOOD_GRAD": _likelihood,
    "CLEAR": _of(y="rows lanes"),
    "SELECT": _sized("condition a b y"),
    "REDUCE_ROWS": _reduce_rows,
    "REDUCE_RUNS": _reduce_runs,
    **dict.fromkeys(PAIRS, _pairwise),
    **{name: _map(known.operands) for name, known in INSTRUCTIONS.items() if known.operands in MAPS},
    "NUMBERS": _numbers,
    "MEET": _of(),
    "ONE_HOT": _one_hot,
    "ROW_SUM": _of(dy="rows columns", y="columns"),
    "SEGMENT_SUM": _of(x="count size", numbers="count", before="count", y="limit size"),
    **dict.fromkeys(("LSTM", "LSTM_GRAD", "LSTM_INPUT_GRAD", "LSTM_WEIGHT_GRAD"), _lstm),
    "NEXT_STEP": _next_step,
    "DROPOUT": _dropout,
    "DROPOUT_GRAD": _sized("dy mask dx", "scale"),
    "BATCH_NORM": _batch_norm,
    "BATCH_NORM_GRAD": _batch_norm,
    "NORMALISE": _batch_norm,
    "LAYER_NORM": _layer_norm,
    "LAYER_NORM_GRAD": _layer_norm,
    "CROSS_ENTROPY": _of(logits="classes lanes", labels="classes lanes", dx="classes lanes", loss="batch"),
}


class Buffers:
    """The arena space that was given out: starts in ascending order, and the ends that belong to them."""

    def __init__(self) -> None:
        self._ends: dict[int, int] = {}

    def add(self, start: int, count: int) -> None:
        self._ends[start] = start + count

    def add_all(self, others: Buffers) -> None:
        self._ends |= others._ends

    def size(self, start: int) -> int:
        """Return the size of the buffer that begins here, 0 if there is none."""
        return self._ends.get(start, start) - start

    def gaps(self) -> list[slice]:
        """Return the space between buffers that no kernel may write: whole vectors belong to the buffer before."""
        starts = sorted(self._ends)
        ends = np.maximum.accumulate([-(-self._ends[start] // VECTOR) * VECTOR for start in starts[:-1]]).tolist()
        return [slice(end, start) for end, start in zip(ends, starts[1:], strict=True) if end < start]

    def check(self, start: int, first: int, last: int) -> None:
        """Fail unless elements ``first`` to ``last`` (exclusive) behind ``start`` lie in the buffer that holds it."""
        starts = sorted(self._ends)
        holder = starts[bisect.bisect_right(starts, start) - 1]
        assert holder <= start + first <= start + last <= self._ends[holder], (start, first, last, self._ends[holder])


def _ranges(program: Program) -> Iterator[tuple[int, int, int, int, int]]:
    """Yield (row, column, place, first, last) of each operand that names a place, as far as the kernel goes from it."""
    table, names = _Table(program.table), list(INSTRUCTIONS)
    for number, row in enumerate(program.code.tolist()):
        if row[0] < 0:
            continue
        known = INSTRUCTIONS[names[row[0]]]
        operands = dict(zip(known.operands, row[1:], strict=False))
        for name, first, last in RANGES[names[row[0]]](operands, table):
            column = 1 + known.operands.index(name)
            assert column in known.places, f"{names[row[0]]} does not say that {name} is a place"
            yield number, column, operands[name], first, last


def check_program(program: Program, buffers: Buffers, arena_size: int) -> None:
    """Fail if an instruction of ``program`` touches anything outside the buffers of its operands."""
    assert program.end <= arena_size
    for _, _, start, first, last in _ranges(program):
        buffers.check(start, first, last)
    place = program.place
    assert place.batch <= place.lanes
    buffers.check(place.x, 0, place.features * place.lanes)


@contextmanager
def watched(graph: Graph) -> Iterator[Buffers]:
    """Yield the buffers of a graph's constants and of all that one program is given within."""
    buffers = Buffers()
    for value in graph.constants.values():
        buffers.add(value.offset, value.size)
    original = Builder.allocate

    def allocate(self: Builder, count: int) -> int:
        offset = original(self, count)
        buffers.add(offset, count)
        return offset

    Builder.allocate = allocate  # type: ignore[method-assign]
    try:
        yield buffers
    finally:
        Builder.allocate = original  # type: ignore[method-assign]


class Sharing:
    """Programs as they were planned, each value in a place of its own, and in the arena that they share."""

    def __init__(self, planned: Sequence[Program], shared: Sequence[Program], start: int, end: int) -> None:
        self.planned, self.shared = planned, shared
        self._start, self._end = start, end

    def check(self) -> Buffers:
        """Fail if two values that a program needs at once overlap, or anything that is kept; return all buffers."""
        buffers = Buffers()
        lives, kept = [], []
        for before, after in zip(self.planned, self.shared, strict=True):
            found, apart = self._lives(before, after)
            lives.append(found)
            kept += apart
        for found in lives:
            for (begin, end), (first, last) in found.values():
                buffers.add(begin, max(end - begin, buffers.size(begin)))
                assert self._start <= begin <= end <= self._end
                others = [place for place, (other, stop) in found.items() if other[0] < end and begin < other[1]
                          and stop[0] <= last and first <= stop[1]]  # fmt: skip
                assert len(others) <= 1, "two values that are needed at once overlap"
                own = [each for each in kept if each[0] < end and begin < each[1]]
                assert not own or own == [(begin, end)], "a value overlaps what is kept"
        return buffers

    def _lives(
        self, before: Program, after: Program
    ) -> tuple[dict[int, tuple[tuple[int, int], tuple[int, int]]], list[tuple[int, int]]]:
        """Return for each block its new place and its first and last row; and the places of what is kept."""
        starts = sorted(before.blocks)
        shift: dict[int, int] = {}
        rows: dict[int, list[int]] = {}

        def named(place: int, now: int, *at: int) -> None:
            if place < self._start:
                assert now == place
                return
            block = starts[bisect.bisect_right(starts, place) - 1]
            assert shift.setdefault(block, now - place) == now - place, "a block has two places"
            rows.setdefault(block, []).extend(at)

        for row, column, place, _, _ in _ranges(before):
            named(place, int(after.code[row, column]), row)
        known = list(INSTRUCTIONS.values())
        for row, column in zip(*np.nonzero(before.code != after.code), strict=True):
            assert column in known[before.code[row, 0]].places, "an operand that is no place has changed"
        named(before.place.x, after.place.x, -1)
        named(before.place.result, after.place.result, len(before.code))
        for offset, now in zip(before.literals, after.literals, strict=True):
            if now >= self._start:
                named(offset, now)
        calls = np.flatnonzero(before.code[:, 0] < 0)
        for row in calls.tolist():
            old, new = (each.calls[-1 - int(each.code[row, 0])] for each in (before, after))
            for item, other in zip((*old.inputs, *old.outputs), (*new.inputs, *new.outputs), strict=True):
                if isinstance(item, Value) and isinstance(other, Value):
                    named(item.offset, other.offset, row)
        lives = {}
        for block, found in rows.items():
            begin = block + shift[block]
            lives[block] = (
                (begin, begin + before.blocks[block] - STAGGER),
                (min(found, default=0), max(found, default=0)),
            )
        own = {*before.kept, *before.literals} & lives.keys()
        return lives, [lives[block][0] for block in own]


@contextmanager
def sharing_watched(*, apart: bool = False) -> Iterator[list[Sharing]]:
    """Yield a list that receives what is planned within; if ``apart``, each value gets a place of its own."""
    found: list[Sharing] = []

    def share(programs: Sequence[Program], start: int) -> tuple[list[Program], int]:
        given = [replace(each, kept=frozenset(each.blocks)) if apart else each for each in programs]
        shared, end = arena.share_memory(given, start)
        found.append(Sharing(programs, shared, start, end))
        return shared, end

    with mock.patch.object(executable, "share_memory", share):
        yield found


def fill_shared(session: Session, folded: bool) -> None:
    """Fill the memory that values share in a session's arena with numbers that no result may depend on."""
    programs = session.executable.programs(folded=folded)
    session._arena_for(folded)[programs.all[0].shared : programs.all[0].end] = np.nan


def check_model(model: LiteModel) -> Executable:
    """Plan every program of a model under watch, check each, and return the executable."""
    return checked_buffers(model)[0]


def checked_buffers(model: LiteModel, *, apart: bool = False) -> tuple[Executable, dict[bool, Buffers]]:
    """Do as :func:`check_model`, and return also the buffers of the programs, by whether they fold channels.

    If ``apart``, no two values share memory.
    """
    made, found = Executable(model), {}
    for folded in {False, made.graph.equal_channels}:
        with sharing_watched(apart=apart) as sharings:
            programs = made.programs(folded=folded)
        (sharing,) = sharings
        buffers = sharing.check()
        for value in made.graph.constants.values():
            buffers.add(value.offset, value.size)
        for program in sharing.planned:
            own = Buffers()
            for value in made.graph.constants.values():
                own.add(value.offset, value.size)
            for start, size in program.blocks.items():
                own.add(start, size - STAGGER)
            check_program(program, own, program.end)
            own.check(program.place.result, 0, max(program.place.classes * program.place.lanes, 1))
        if programs.train is not None and programs.correction is not None:
            _check_correction(model, programs, buffers)
        found[folded] = buffers
    return made, found


def _check_correction(model: LiteModel, programs: Programs, plain: Buffers) -> None:
    """Check the instructions that a correction adds to the training program, whose buffers are ``plain``."""
    assert programs.train is not None and programs.correction is not None
    sizes = {name: tensor.size for name, tensor in model.parameters.items()}
    arrays = {name: np.zeros(size, np.float32) for name, size in sizes.items()}
    with watched(Graph(model)) as buffers:
        correction = CorrectionPlan(programs.train, sizes, programs.train.end)
    buffers.add_all(plain)
    code = correction.load(
        np.zeros(programs.arena_size, np.float32), Correction(scale=2, shift=arrays, pull=1, towards=arrays)
    )
    known = {tuple(row) for row in programs.train.code.tolist()}
    new = [row for row in code.tolist() if tuple(row) not in known]
    assert len(new) == 2 * len(programs.train.updates)
    check_program(
        replace(programs.train, code=np.array(new), place=replace(programs.train.place, x=0, features=0)),
        buffers,
        programs.arena_size,
    )
