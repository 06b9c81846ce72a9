"""The places of a program's tensors, and the instructions emitted so far.

Every constant float tensor (weights, optimizer state, learning rate) has a place at the head of the arena, the same in
each program of a model, so a session can change programs without moving data. Tensors that carry the batch are stored
batch-last (see :mod:`mindfl.lite.kernels.products`) or plain: in the order of the file, as parameters and their
gradients are. An operator asks for the layout in which it computes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from mindfl.errors import ModelFormatError
from mindfl.lite.kernels.primitives import HALF, ZERO
from mindfl.lite.model import Node, Tensor
from mindfl.lite.model_graph import Fusion, Graph
from mindfl.lite.ops.dropout import DRAWS
from mindfl.lite.ops.registry import need
from mindfl.lite.program import Builder, Place, Program, Update, Value, alike, batch_first, core


class Blocks(Protocol):
    """A large tensor that is never stored whole: its readers process it block by block."""

    def blocks(self, plan: Plan, least: int) -> Iterator[tuple[int, int, int]]:
        """Emit blocks of at least ``least`` floats; yield (place of the block, first row, rows) after each."""
        ...


class Plan:
    """The state of one translation: places of tensors, and instructions so far. Lowering functions fill it."""

    def __init__(self, graph: Graph, *, folded: bool, start: int, training: bool = True) -> None:
        self.graph = graph
        self.folded = folded
        self.training = training
        self.literals: dict[int, NDArray[np.float32]] = {}
        self.updates: list[Update] = []
        self.values: dict[int, Value] = dict(graph.constants)
        self.done: set[int] = set()
        #: terms of an AddN that another of its terms holds already
        self.added_up: set[int] = set()
        self.derived: dict[tuple[object, ...], int] = {}
        self.pool_gradients: dict[int, Blocks] = {}
        self._draws: int | None = None
        self._labels = 1
        if graph.labels is not None and graph.one_hot_labels is None:
            self._labels = max(graph.labels.size // graph.batch, 1)
        whole = [tensor for tensor in graph.samples if tensor.dtype == np.int32]
        self._numbers = sum(tensor.size for tensor in whole) // graph.batch
        self.builder = Builder(graph.batch, start, self._labels + self._numbers)
        #: input of whole numbers -> its first table entry, and the entries between samples
        self._entries: dict[int, tuple[int, int]] = {}
        at = self._labels * graph.batch
        for tensor in whole:
            self._entries[tensor.index] = (at, self._numbers)
            at += tensor.size // graph.batch
        if graph.labels is not None and graph.one_hot_labels is None:
            self._entries[graph.labels.index] = (0, self._labels)
        self._features = self._keep_samples()

    def _keep_samples(self) -> Value:
        """Store the places of the float inputs, one after the other, and return the place of them all."""
        real = [tensor for tensor in self.graph.samples if tensor.dtype != np.int32]  # flags are 0 or 1
        shapes = [(*tensor.dims[:3], 1) if self.folded else tensor.dims for tensor in real]
        size = sum(math.prod(dims[1:]) for dims in shapes)
        block = Value(self.builder.allocate_batch(size), (self.batch, size), True)
        at = block.offset
        for tensor, dims in zip(real, shapes, strict=True):
            self.values[tensor.index] = Value(at, dims, True)
            at += math.prod(dims[1:]) * self.lanes
        return block

    @property
    def lanes(self) -> int:
        """The batch rounded up to whole vectors."""
        return self.builder.lanes

    @property
    def filled(self) -> int:
        """The batch rounded up to half vectors: the lanes that products are computed for. Those behind stay zero."""
        return -(-self.batch // HALF) * HALF

    @property
    def batch(self) -> int:
        """The batch size fixed in the file."""
        return self.builder.batch

    def new_batch(self, dims: tuple[int, ...]) -> Value:
        """Return a new value that carries the batch."""
        if not dims or dims[0] != self.batch or min(dims) < 1:
            raise ModelFormatError(f"a tensor of shape {dims} does not carry the batch of {self.batch}")
        value = Value(self.builder.allocate_batch(math.prod(dims[1:])), dims, True)
        self.clear_lanes(value)
        return value

    def clear_lanes(self, value: Value) -> None:
        """Emit zeros for the lanes behind the batch of a value that carries it.

        Kernels that compute with whole vectors multiply those lanes by zero.
        """
        if self.lanes > self.batch:
            self.builder.emit("CLEAR", y=value.offset, rows=value.size, count=self.batch, lanes=self.lanes)

    def new_parameter(self, dims: tuple[int, ...]) -> Value:
        """Return a new value that does not carry the batch."""
        if min(dims, default=1) < 1:
            raise ModelFormatError(f"a tensor of shape {dims} is empty")
        return Value(self.builder.allocate(math.prod(dims)), dims, False)

    def keep(self, tensor: int, value: Value) -> Value:
        """Store the place of a tensor, and return it with the file's dimensions of 1.

        Raises :class:`ModelFormatError` if the computed shape differs from that in the file.
        """
        described = self.tensor(tensor)
        if value.dims != described.dims:
            dims = batch_first(described.dims, self.batch) if value.batched else described.dims
            if dims is None or not alike(value.dims, dims):
                raise ModelFormatError(
                    f"tensor {described.name} has shape {described.dims} but comes out as {value.dims}"
                )
            value = replace(value, dims=dims)
        self.values[tensor] = value
        return value

    def value(self, tensor: int) -> Value:
        """Return the place of a tensor, which must be an input, a constant, or computed already.

        Whole numbers and flags are held as float32.
        """
        if tensor not in self.values and not self._is_read(tensor):
            raise ModelFormatError(f"tensor {self.graph.model.tensors[tensor].name} is used but never computed")
        return self.values[tensor]

    def _is_read(self, index: int) -> bool:
        """Store an input or a constant that is no float32 where operators can compute with it; False for others."""
        tensor = self.tensor(index)
        if index == self.graph.one_hot_labels:
            self.emit_one_hot(self.keep(index, self.new_batch((self.batch, self.graph.classes))))
        elif index in self._entries:
            start, apart = self._entries[index]
            y = self.keep(index, self.new_parameter(tensor.dims))
            sizes = {"apart": apart, "count": y.size // self.batch, "batch": self.batch}
            self.builder.emit("NUMBERS", y=y.offset, start_table=start, real=tensor.dtype == np.float32, **sizes)
        elif tensor.data is not None and tensor.dtype in (np.dtype(np.int32), np.dtype(np.int64), np.dtype(bool)):
            y = self.keep(index, self.new_parameter(tensor.dims))
            self.literals[y.offset] = tensor.data.astype(np.float32).ravel()
        return index in self.values

    def emit_one_hot(self, y: Value) -> None:
        """Emit the instruction that writes the class numbers of the batch one-hot to ``y`` (batch, classes)."""
        self.builder.emit("ONE_HOT", y=y.offset, classes=y.size, batch=self.batch, lanes=self.lanes)

    def batched(self, node: Node, place: int) -> Value:
        """Return an input of a node that must carry the batch, batch-last."""
        value = self.batch_last(node.inputs[place])
        if value is None:
            name = self.tensor(node.inputs[place]).name
            raise ModelFormatError(f"node {node.label} uses an input {place} ({name}) without the batch")
        return value

    def batch_last(self, tensor: int) -> Value | None:
        """Return a tensor batch-last, copied into that layout once if needed; None if it does not carry the batch."""
        value = self.value(tensor)
        dims = batch_first(value.dims, self.batch)
        if value.batched:
            return value
        if tensor in self.graph.constants or dims is None:
            return None

        def copied() -> int:
            place = self.builder.allocate_batch(value.size // self.batch)
            sizes = {"rows": self.batch, "columns": value.size // self.batch}
            self.builder.emit(
                "TRANSPOSE", x=value.offset, y=place, x_lanes=sizes["columns"], y_lanes=self.lanes, **sizes
            )
            return place

        return Value(self.once(("batch-last", tensor), copied), dims, True)

    def samples_last(self, tensor: int) -> Value | None:
        """Return a tensor batch-last, with all values of a sample in one dimension; None if it has no batch.

        Its rows may be those of the samples one after the other, such as the tokens of all sentences.
        """
        value = self.batch_last(tensor)
        if value is not None:
            return Value(value.offset, (self.batch, value.size), True)
        value = self.value(tensor)
        dims = core(value.dims)
        if tensor in self.graph.constants or not dims or dims[0] % self.batch:
            return None
        columns = value.size // self.batch
        y = self.builder.allocate_batch(columns)
        sizes = {"rows": self.batch, "columns": columns, "x_lanes": columns, "y_lanes": self.lanes}
        self.builder.emit("TRANSPOSE", x=value.offset, y=y, **sizes)
        return Value(y, (self.batch, columns), True)

    def plain(self, node: Node, place: int) -> Value:
        """Return an input of a node in the order of the file, the batch an ordinary axis; copied once if needed."""
        tensor = node.inputs[place]
        value = self.value(tensor)
        if not value.batched:
            return value

        def copied() -> int:
            y = self.builder.allocate(value.size * self.batch)
            sizes = {"rows": value.size, "columns": self.batch, "x_lanes": self.lanes, "y_lanes": value.size}
            self.builder.emit("TRANSPOSE", x=value.offset, y=y, **sizes)
            return y

        return Value(self.once(("plain", tensor), copied), value.dims, False)

    def fixed(self, node: Node, place: int) -> Value:
        """Return an input of a node that must not carry the batch."""
        value = self.value(node.inputs[place])
        need(not value.batched, node, f"an input {place} ({self.tensor(node.inputs[place]).name}) with the batch")
        return value

    def tensor(self, index: int) -> Tensor:
        """Return the file's description of a tensor."""
        return self.graph.model.tensors[index]

    def integers(self, index: int) -> tuple[int, ...]:
        """Return the values of an int32 constant, such as a shape or a permutation."""
        tensor = self.tensor(index)
        if tensor.data is None or tensor.dtype != np.int32:
            raise ModelFormatError(f"tensor {tensor.name} must be an int32 constant")
        return tuple(int(item) for item in tensor.data.ravel())

    def once(self, key: tuple[object, ...], make: Callable[[], int]) -> int:
        """Return the result of ``make``, called once per key: for copies that several nodes share."""
        if key not in self.derived:
            self.derived[key] = make()
        return self.derived[key]

    def draws(self) -> int:
        """Return the table's offset of the key and the step from which random numbers follow."""
        if self._draws is None:
            self._draws = self.builder.own_entries(DRAWS)
            self.builder.emit("NEXT_STEP", draws_table=self._draws)
        return self._draws

    def gather(self, x: int, y: int, rows: list[int]) -> None:
        """Emit ``y[i] = x[rows[i]]`` for batch-last values at these offsets, zero if the row is negative."""
        table = self.builder.entries(rows)
        self.builder.emit("GATHER", x=x, y=y, rows=len(rows), rows_table=table, lanes=self.lanes)

    def literal(self, number: float) -> int:
        """Return the offset of a number that is an attribute of an operator."""
        offset = self.builder.allocate(1)
        self.literals[offset] = np.array([number], np.float32)
        return offset

    def first_sum(self, node: Node, fusion: Fusion, channels: int) -> int:
        """Return the initial value of a layer's sums: the place of its fused biases, one per channel, or zero."""
        if fusion.bias is None:
            return ZERO
        bias = self.value(fusion.bias)
        need(bias.size == channels and not bias.batched, node, f"a bias of {bias.size} for {channels} channels")
        return bias.offset

    def mark_fused(self, node: Node, output: int) -> None:
        """Mark the nodes after ``node`` up to the producer of ``output`` as fused into it."""
        tensor = node.outputs[0]
        while tensor != output:
            follower = self.graph.consumers[tensor][0]
            self.done.add(follower.index)
            tensor = follower.outputs[0]

    def program(self, result: int, classes: int = 0) -> Program:
        """Return the finished program. ``result``: place of its ``classes`` scores per sample, or of one number (0)."""
        block = self._features
        place = Place(block.offset, block.size, self.batch, self.lanes, result, classes, self._labels, self._numbers)
        return Program(
            self.builder.code(),
            self.builder.table(),
            place,
            self.literals,
            self.builder.size,
            tuple(self.updates),
            tuple(self.builder.calls),
            self._draws,
            self.builder.blocks,
            frozenset(self.builder.kept),
        )
