"""From the graph of a ``.ms`` file to programs: order, fusion, and where each tensor lives.

Every constant float tensor (weights, optimizer state, learning rate) has a place at the head of the arena, the same in
each program of a model, so that a session can change programs without moving anything. Tensors that carry the batch lie
batch-last (see :mod:`mindfl.lite.kernels.tiles`); parameters and their gradients lie as in the file.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mindfl.errors import ModelFormatError
from mindfl.lite.model import LiteModel, Node, Tensor
from mindfl.lite.program import ALIGNMENT, Builder, Place
from mindfl.lite.schema import NO_ACTIVATION, OPTIMIZERS, RELU

if TYPE_CHECKING:
    from mindfl.lite.lowering_pool import PoolGradient

LOSS_OP = "SparseSoftmaxCrossEntropyWithLogits"
_LARGEST_BATCH = 2**16


@dataclass(frozen=True)
class Value:
    """Where a tensor lives: ``dims`` include the batch where ``batched``."""

    offset: int
    dims: tuple[int, ...]
    batched: bool

    @property
    def size(self) -> int:
        """Number of elements: of one sample where batched."""
        return math.prod(self.dims[1:] if self.batched else self.dims)


@dataclass(frozen=True)
class Program:
    """Compiled form of one task (training or prediction) of a model."""

    code: NDArray[np.int64]
    table: NDArray[np.int32]
    place: Place
    literals: Mapping[int, float]
    end: int


@dataclass(frozen=True)
class Fusion:
    """What a layer node does besides its own work: add a bias, clamp at zero, and leave the result in ``output``."""

    bias: int | None
    relu: bool
    output: int


class Graph:
    """A model with the relations that planning needs: producers, consumers, constants, loss and logits."""

    def __init__(self, model: LiteModel) -> None:
        model.check_operators()
        self.model = model
        self.producer: dict[int, Node] = {}
        for node in model.nodes:
            for tensor in node.outputs:
                if tensor in self.producer or tensor in model.inputs or model.tensors[tensor].data is not None:
                    name = node.name or node.index
                    raise ModelFormatError(f"node {name} ({node.op}) writes a tensor that has its value from elsewhere")
                self.producer[tensor] = node
        self.consumers: dict[int, list[Node]] = {}
        for node in model.nodes:
            for tensor in node.inputs:
                self.consumers.setdefault(tensor, []).append(node)
        self.constants = self._place_constants()

    def _place_constants(self) -> Mapping[int, Value]:
        offset = 0
        places = {}
        for tensor in self.model.tensors:
            if tensor.data is not None and tensor.dtype == np.float32:
                places[tensor.index] = Value(offset, tensor.dims, False)
                offset += -(-max(tensor.size, 1) // ALIGNMENT) * ALIGNMENT
        self.constants_size = offset
        return places

    @cached_property
    def loss_node(self) -> Node | None:
        """The forward loss, or None for an inference model."""
        found = [node for node in self.model.nodes if node.op == LOSS_OP and not node.flag("is_grad")]
        return found[0] if len(found) == 1 else None

    @cached_property
    def image(self) -> Tensor:
        """The float input that carries the samples."""
        found = [self.model.tensors[i] for i in self.model.inputs if self.model.tensors[i].dtype == np.float32]
        if len(found) != 1 or not found[0].dims or found[0].dims[0] < 1:
            raise ModelFormatError("the model must have one float32 input whose first dimension is the batch")
        if found[0].dims[0] > _LARGEST_BATCH:
            raise ModelFormatError(f"the batch of {found[0].dims[0]} is larger than {_LARGEST_BATCH}")
        return found[0]

    @cached_property
    def logits(self) -> Tensor:
        """The class scores: what the loss reads, or the only output of an inference model."""
        if self.loss_node is not None:
            return self.model.tensors[self.loss_node.inputs[0]]
        if len(self.model.outputs) != 1:
            raise ModelFormatError("the model has neither one loss nor one output")
        return self.model.tensors[self.model.outputs[0]]

    @cached_property
    def equal_channels(self) -> bool:
        """Whether the samples feed convolutions alone, so that equal channels may be folded into one."""
        users = self.consumers.get(self.image.index, [])
        places = {"Conv2DFusion": 0, "Conv2DBackpropFilterFusion": 1}
        alone = len({node.index for node in users}) == len(users) > 0
        right = all(node.op in places and node.inputs[places[node.op]] == self.image.index for node in users)
        return len(self.image.dims) == 4 and self.image.dims[3] > 1 and alone and right

    def sole_consumer(self, tensor: int) -> Node | None:
        """Return the only reader of a tensor, or None."""
        users = self.consumers.get(tensor, [])
        return users[0] if len(users) == 1 and tensor not in self.model.outputs else None

    def fusion(self, node: Node) -> Fusion:
        """Return what is done together with a convolution or dense node: a bias and ReLU of its own or behind it."""
        need(len(node.inputs) <= 3 and node.integer("activation") in (NO_ACTIVATION, RELU), node, "a fused operator")
        bias = node.inputs[2] if len(node.inputs) == 3 else None
        relu, output = node.integer("activation") == RELU, node.outputs[0]
        if relu:
            return Fusion(bias, relu, output)
        follower = self.sole_consumer(output)
        if bias is None and follower and follower.op == "BiasAdd" and follower.inputs[1] in self.constants:
            bias, output = follower.inputs[1], follower.outputs[0]
            follower = self.sole_consumer(output)
        if follower is not None and follower.op == "Activation" and follower.integer("type") == RELU:
            relu, output = True, follower.outputs[0]
        return Fusion(bias, relu, output)

    def _sources(self, node: Node) -> list[Node]:
        """Return the nodes whose results this node reads."""
        read = [tensor for place, tensor in enumerate(node.inputs) if place not in _UNREAD.get(node.op, ())]
        return [self.producer[tensor] for tensor in read if tensor in self.producer]

    def ordered(self, goals: Iterable[Node]) -> list[Node]:
        """Return ``goals`` and all they need in dependency order, file order where free, state changes last.

        A file may list an optimizer node before a gradient node that still reads the old weight; so optimizer and
        Assign nodes run after everything else.
        """
        needed: dict[int, Node] = {}
        waiting = list(goals)
        while waiting:
            node = waiting.pop()
            if node.index not in needed:
                needed[node.index] = node
                waiting += self._sources(node)
        missing = {index: {source.index for source in self._sources(node)} for index, node in needed.items()}
        ready = [(_changes_state(needed[index]), index) for index, sources in missing.items() if not sources]
        heapq.heapify(ready)
        order = []
        while ready:
            node = needed[heapq.heappop(ready)[1]]
            order.append(node)
            for index in {user.index for out in node.outputs for user in self.consumers.get(out, [])} & needed.keys():
                if missing[index] == {node.index}:
                    heapq.heappush(ready, (_changes_state(needed[index]), index))
                missing[index].discard(node.index)
        if len(order) != len(needed):
            raise ModelFormatError("the graph has a cycle")
        return order


#: operator -> inputs that are not read: the pooling's gradient remembers where its maxima were
_UNREAD = {"MaxPoolGrad": {1}}


def _changes_state(node: Node) -> bool:
    return node.op in OPTIMIZERS or node.op == "Assign"


class Plan:
    """The state of one translation: which tensor is where, and the instructions so far. Lowering functions fill it."""

    def __init__(self, graph: Graph, *, folded: bool, start: int) -> None:
        self.graph = graph
        self.folded = folded
        self.builder = Builder(graph.image.dims[0], start)
        self.literals: dict[int, float] = {}
        self.values: dict[int, Value] = dict(graph.constants)
        self.done: set[int] = set()
        self.derived: dict[tuple[object, ...], int] = {}
        self.pool_gradients: dict[int, PoolGradient] = {}
        dims = graph.image.dims
        shape = (*dims[:3], 1) if folded else dims
        self.values[graph.image.index] = self.new_batch(shape)

    @property
    def lanes(self) -> int:
        """The batch rounded up to whole vectors."""
        return self.builder.lanes

    @property
    def batch(self) -> int:
        """The batch size fixed in the file."""
        return self.builder.batch

    def new_batch(self, dims: tuple[int, ...]) -> Value:
        """Return a new value that carries the batch."""
        if not dims or dims[0] != self.batch or min(dims) < 1:
            raise ModelFormatError(f"a tensor of shape {dims} does not carry the batch of {self.batch}")
        return Value(self.builder.allocate_batch(math.prod(dims[1:])), dims, True)

    def new_parameter(self, dims: tuple[int, ...]) -> Value:
        """Return a new value that does not carry the batch."""
        if min(dims, default=1) < 1:
            raise ModelFormatError(f"a tensor of shape {dims} is empty")
        return Value(self.builder.allocate(math.prod(dims)), dims, False)

    def value(self, tensor: int) -> Value:
        """Return where a tensor lives; it must have been computed or be a float constant."""
        if tensor not in self.values:
            raise ModelFormatError(f"tensor {self.graph.model.tensors[tensor].name} is used but never computed")
        return self.values[tensor]

    def batched(self, node: Node, place: int) -> Value:
        """Return an input of a node that must carry the batch."""
        value = self.value(node.inputs[place])
        need(value.batched, node, f"an input {place} without the batch")
        return value

    def fixed(self, node: Node, place: int) -> Value:
        """Return an input of a node that must not carry the batch."""
        value = self.value(node.inputs[place])
        need(not value.batched, node, f"an input {place} with the batch")
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
        """Return what ``make`` made the first time this key was asked for: for copies that several nodes share."""
        if key not in self.derived:
            self.derived[key] = make()
        return self.derived[key]

    def literal(self, number: float) -> int:
        """Return the offset of a number that an operator carries as an attribute."""
        offset = self.builder.allocate(1)
        self.literals[offset] = number
        return offset

    def check_shapes(self) -> None:
        """Raise :class:`ModelFormatError` where a computed shape is not the one in the file."""
        for index, value in self.values.items():
            tensor = self.tensor(index)
            alike = value.dims == tensor.dims or max(math.prod(value.dims), tensor.size) == 1
            if not alike and tensor is not self.graph.image:
                raise ModelFormatError(f"tensor {tensor.name} has shape {tensor.dims} but comes out as {value.dims}")

    def program(self, result: int, classes: int = 0) -> Program:
        """Return the finished program: its outcome lies at ``result``, ``classes`` per sample or one number (0)."""
        image = self.values[self.graph.image.index]
        place = Place(image.offset, image.size, self.batch, self.lanes, result, classes)
        return Program(self.builder.code(), self.builder.table(), place, self.literals, self.builder.size)


def need(condition: bool, node: Node, what: str) -> None:
    """Raise :class:`ModelFormatError` saying that the node uses ``what``, unless the condition holds."""
    if not condition:
        raise ModelFormatError(f"node {node.name or node.index} ({node.op}) uses {what}, which the runtime does not do")


def mark_fused(plan: Plan, node: Node, output: int) -> None:
    """Remember that the nodes between ``node`` and the one that makes ``output`` are part of it."""
    tensor = node.outputs[0]
    while tensor != output:
        follower = plan.graph.consumers[tensor][0]
        plan.done.add(follower.index)
        tensor = follower.outputs[0]


def plan_training(graph: Graph, *, folded: bool, start: int) -> Program:
    """Return the program of one training step with arena space from ``start`` on; its result is the loss.

    Raises :class:`ModelFormatError` for a model without one loss node and optimizer nodes, or with something the
    runtime does not do.
    """
    optimizers = graph.model.optimizer_nodes
    if graph.loss_node is None or not graph.model.parameters:
        raise ModelFormatError("this is not a training model: it has no loss or no optimizer node")
    changes = [node for node in graph.model.nodes if node.op == "Assign"]
    plan = _lowered(graph, [graph.loss_node, *optimizers, *changes], folded=folded, start=start)
    return plan.program(plan.value(graph.loss_node.outputs[0]).offset)


def plan_prediction(graph: Graph, *, folded: bool, start: int) -> Program:
    """Return the program that computes the logits of one batch."""
    source = graph.producer.get(graph.logits.index)
    if source is None:
        raise ModelFormatError("the model computes no logits")
    plan = _lowered(graph, [source], folded=folded, start=start)
    logits = plan.value(graph.logits.index)
    if not logits.batched or len(logits.dims) != 2:
        raise ModelFormatError(f"the logits have shape {logits.dims}, expected (batch, classes)")
    return plan.program(logits.offset, logits.dims[1])


def _lowered(graph: Graph, goals: Iterable[Node], *, folded: bool, start: int) -> Plan:
    from mindfl.lite.lowering import LOWERINGS

    plan = Plan(graph, folded=folded, start=start)
    for node in graph.ordered(goals):
        if node.index not in plan.done:
            LOWERINGS[node.op](plan, node)
            plan.done.add(node.index)
    plan.check_shapes()
    return plan
