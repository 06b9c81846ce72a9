"""A model's graph with the relations that planning needs: producers, consumers, and nodes that are fused."""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from mindfl.errors import ModelFormatError
from mindfl.lite.loss_part import LabelKind, LossPart, changes_state, loss_part
from mindfl.lite.model import UNCONVERTED, LiteModel, Node, Tensor
from mindfl.lite.ops.registry import NO_ACTIVATION, RELU, RELU6, need
from mindfl.lite.program import ALIGNMENT, Value

_LARGEST_BATCH = 2**16
#: operator -> inputs that are not read: the gradient of a pooling uses the stored positions of the maxima
_UNREAD = {"MaxPoolGrad": {1}}


@dataclass(frozen=True)
class Fusion:
    """Operations fused into a layer node: add a bias, apply ReLU; the result is the tensor ``output``.

    ``ceiling``: the ReLU is a ReLU6.
    """

    bias: int | None
    relu: bool
    output: int
    ceiling: bool = False


class Graph:
    """A model with the relations that planning needs: producers, consumers, constants, loss and logits."""

    def __init__(self, model: LiteModel) -> None:
        self.model = model
        self.producer: dict[int, Node] = {}
        for node in model.nodes:
            for tensor in node.outputs:
                if tensor in self.producer or tensor in model.inputs or model.tensors[tensor].data is not None:
                    name = model.tensors[tensor].name
                    raise ModelFormatError(f"node {node.label} writes tensor {name}, which has another source")
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
    def loss_part(self) -> LossPart | None:
        """The loss of a training graph, with its labels and predictions; None for an inference model."""
        found = loss_part(self.model, self.producer, self.consumers)
        if found is not None and found.labels is not None and found.labels.dtype in (None, np.float16):
            raise ModelFormatError(
                f"input {found.labels.name} holds labels of a type that mindfl does not have, such as float16",
                hint="export the network with labels of float32 or int32",
            )
        return found

    @property
    def labels(self) -> Tensor | None:
        """The input with the labels; None for an inference model."""
        return None if self.loss_part is None else self.loss_part.labels

    @property
    def label_kind(self) -> LabelKind | None:
        """What the labels are; None without."""
        return None if self.loss_part is None else self.loss_part.kind

    @property
    def one_hot_labels(self) -> int | None:
        """The float input with one-hot labels [batch, classes]; None for other labels."""
        return self.labels.index if self.labels is not None and self.label_kind == "onehot" else None

    @property
    def loss(self) -> int | None:
        """The tensor with the loss of the batch or of each sample; None for an inference model."""
        return None if self.loss_part is None else self.loss_part.loss

    @cached_property
    def samples(self) -> tuple[Tensor, ...]:
        """The inputs with the samples, float32 or int32, whose first dimension is the batch: all but the labels."""
        labels = self.labels
        found = tuple(self.model.tensors[i] for i in self.model.inputs if labels is None or i != labels.index)
        if not found:
            raise ModelFormatError("the model has no input with samples")
        for tensor in found:
            usable = tensor.dtype in (np.dtype(np.float32), np.dtype(np.int32), np.dtype(np.bool_))
            if not usable or tensor.dims[:1] != found[0].dims[:1] or min(tensor.dims, default=0) < 1:
                raise ModelFormatError(
                    f"input {tensor.name} of shape {tensor.dims} cannot hold samples: those are float32, int32 or bool,"
                    " and their first dimension is the batch",
                    hint=UNCONVERTED,
                )
        if found[0].dims[0] > _LARGEST_BATCH:
            raise ModelFormatError(f"the batch of {found[0].dims[0]} is larger than {_LARGEST_BATCH}")
        return found

    @property
    def batch(self) -> int:
        """The batch size fixed in the file."""
        return self.samples[0].dims[0]

    @property
    def image(self) -> Tensor | None:
        """The float input if it alone holds the samples; None otherwise."""
        return self.samples[0] if len(self.samples) == 1 and self.samples[0].dtype == np.float32 else None

    @cached_property
    def logits(self) -> Tensor:
        """The predictions: what the loss compares with the labels, or the only output of an inference model."""
        if self.loss_part is not None:
            return self.loss_part.predictions
        if len(self.model.outputs) != 1:
            raise ModelFormatError("the model has neither one loss nor one output")
        return self.model.tensors[self.model.outputs[0]]

    @property
    def outputs(self) -> int:
        """Number of predicted values per sample."""
        return math.prod(self.logits.dims) // self.batch

    @cached_property
    def labels_of_sample(self) -> int:
        """Number of labels per sample that are class numbers, such as one per token."""
        return self.labels.size // self.batch if self.labels is not None and self.label_kind == "tokens" else 1

    @cached_property
    def classes(self) -> int:
        """Number of class scores for a label; of a regression the number of predicted values per sample."""
        return self.outputs // self.labels_of_sample

    @cached_property
    def vocabularies(self) -> Mapping[int, int]:
        """Inputs of whole numbers that choose rows of a table alone -> the number of its rows."""
        found = {}
        for tensor in self.samples:
            tables = [self._rows_chosen(node, tensor.index) for node in self.consumers.get(tensor.index, [])]
            if tensor.dtype == np.int32 and (known := [rows for rows in tables if rows is not None]):
                found[tensor.index] = min(known)
        return found

    def _rows_chosen(self, node: Node, tensor: int) -> int | None:
        """Return the number of a constant table's rows of which ``tensor`` chooses in a node; None for other nodes."""
        if node.op == "Reshape" and node.inputs[0] == tensor:
            rows = [self._rows_chosen(each, node.outputs[0]) for each in self.consumers.get(node.outputs[0], [])]
            return min((each for each in rows if each is not None), default=None)
        if node.op != "Gather" or node.inputs[1] != tensor:
            return None
        table, axes = self.model.tensors[node.inputs[0]], self.model.tensors[node.inputs[2]].data
        axis = int(axes.ravel()[0]) if axes is not None and axes.size == 1 else 0
        return table.dims[axis] if table.data is not None and -len(table.dims) <= axis < len(table.dims) else None

    @cached_property
    def equal_channels(self) -> bool:
        """Whether the samples feed convolutions alone, so that equal channels may be folded into one."""
        image = self.image
        if image is None or len(image.dims) != 4 or image.dims[3] == 1:
            return False
        users = self.consumers.get(image.index, [])
        places = {"Conv2DFusion": 0, "Conv2DBackpropFilterFusion": 1}
        alone = len({node.index for node in users}) == len(users) > 0
        return alone and all(
            node.op in places and node.inputs[places[node.op]] == image.index and node.integer("group") in (0, 1)
            for node in users
        )

    def sole_consumer(self, tensor: int) -> Node | None:
        """Return the only reader of a tensor, or None; outputs and predictions are read from outside too."""
        users = self.consumers.get(tensor, [])
        if len(users) != 1 or tensor in self.model.outputs:
            return None
        predicted = self.loss_part is not None and self.loss_part.predictions.index == tensor
        return None if predicted else users[0]

    def fusion(self, node: Node) -> Fusion:
        """Return the bias and ReLU that are fused into a convolution or dense node: its own, or those after it."""
        own = node.integer("activation")
        need(len(node.inputs) <= 3 and own in (NO_ACTIVATION, RELU, RELU6), node, "a fused operator")
        bias = node.inputs[2] if len(node.inputs) == 3 else None
        relu, output = own != NO_ACTIVATION, node.outputs[0]
        if relu:
            return Fusion(bias, relu, output, ceiling=own == RELU6)
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
        """Return ``goals`` and their inputs in dependency order, otherwise in file order, state changes last.

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
        ready = [(changes_state(needed[index]), index) for index, sources in missing.items() if not sources]
        heapq.heapify(ready)
        order = []
        while ready:
            node = needed[heapq.heappop(ready)[1]]
            order.append(node)
            for index in {user.index for out in node.outputs for user in self.consumers.get(out, [])} & needed.keys():
                if missing[index] == {node.index}:
                    heapq.heappush(ready, (changes_state(needed[index]), index))
                missing[index].discard(node.index)
        if len(order) != len(needed):
            raise ModelFormatError("the graph has a cycle")
        return order


def label_kind(model: LiteModel) -> LabelKind | None:
    """Return what the labels of ``model`` are; None where it trains nothing, or with a loss that is not understood."""
    try:
        return Graph(model).label_kind
    except ModelFormatError:
        return None
