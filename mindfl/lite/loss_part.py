"""The loss part of a training graph: which input holds the labels, of which kind they are, and what is predicted.

The Lite trainer knows the nodes of a loss by name (:data:`~mindfl.lite.model.LOSS_NAMES`). Files whose nodes have other
names, or none, are understood by structure: labels meet no weight on their way to the loss.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from mindfl.errors import ModelFormatError
from mindfl.lite.model import GRADIENT_NAME, UNCONVERTED, LiteModel, Node, Tensor
from mindfl.lite.ops.registry import learning_rate_input

#: ``classes``: one class number per sample; ``tokens``: several, such as one per token; ``onehot``: one float per
#: class; ``targets``: numbers that a regression predicts
LabelKind: TypeAlias = Literal["classes", "tokens", "onehot", "targets"]

_SPARSE_LOSS = "SparseSoftmaxCrossEntropyWithLogits"
_ONE_HOT_LOSS = "SoftmaxCrossEntropyWithLogits"
#: operators that compute losses alone; a gradient's have other names, or are marked
_LOSS_OPERATORS = frozenset(
    (_SPARSE_LOSS, _ONE_HOT_LOSS, "BinaryCrossEntropy", "NLLLoss", "SigmoidCrossEntropyWithLogits", "SmoothL1Loss")
)
#: operators that take labels as class numbers
_OF_CLASSES = frozenset((_SPARSE_LOSS, "NLLLoss", "OneHot", "Gather", "GatherD"))
#: operators that change the order or the type of values, and nothing else
_REARRANGING = frozenset(
    (
        *("Cast", "Concat", "ExpandDims", "Flatten", "Reshape", "SliceFusion", "Split", "Squeeze", "Stack"),
        *("StridedSlice", "Transpose", "Unsqueeze"),
    )
)


@dataclass(frozen=True)
class LossPart:
    """The loss of a training graph.

    Args:
        loss: the tensor with the loss of the batch, or of each sample.
        labels: the input with the labels; None where the loss reads none.
        kind: what the labels are.
        predictions: the tensor that is compared with the labels: class scores, or numbers.
        node: the cross entropy of a classifier, if it is one node.
    """

    loss: int
    labels: Tensor | None
    kind: LabelKind | None
    predictions: Tensor
    node: Node | None = None


def changes_state(node: Node) -> bool:
    """Return whether a node changes weights, or what else lasts beyond the step."""
    return learning_rate_input(node.op) is not None or node.op == "Assign"


def loss_part(model: LiteModel, producer: Mapping[int, Node], consumers: Mapping[int, list[Node]]) -> LossPart | None:
    """Return the loss part of a model; None for one that has no loss.

    Raises :class:`ModelFormatError` if several inputs could hold the labels.
    """
    finder = _Finder(model, producer, consumers)
    node = finder.cross_entropy()
    loss = finder.loss(node)
    if loss is None:
        return None
    labels = finder.labels(loss)
    predictions = node.inputs[0] if node is not None else finder.predictions(loss, labels)
    if predictions is None:
        return None
    kind = None if labels is None else finder.kind(labels, loss, model.tensors[predictions])
    return LossPart(loss, labels, kind, model.tensors[predictions], node)


class _Finder:
    def __init__(self, model: LiteModel, producer: Mapping[int, Node], consumers: Mapping[int, list[Node]]) -> None:
        self._model = model
        self._producer = producer
        self._consumers = consumers

    def cross_entropy(self) -> Node | None:
        """Return the only node of softmax cross entropy; None if there are others."""
        found = [
            node
            for node in self._model.nodes
            if node.op == _ONE_HOT_LOSS or (node.op == _SPARSE_LOSS and not node.flag("is_grad"))
        ]
        return found[0] if len(found) == 1 else None

    def loss(self, node: Node | None) -> int | None:
        """Return the tensor with the loss."""
        if node is not None and node.outputs[0] in self._model.outputs:
            return node.outputs[0]
        made = [index for index in self._model.outputs if index in self._producer]
        made = [index for index in made if not changes_state(self._producer[index])]
        if node is not None:
            return next((index for index in made if node.index in self._before(index)), node.outputs[0])
        named = self._named()
        of_loss = [index for index in made if self._before(index) & named]
        if of_loss:
            return of_loss[0]
        if named:
            inner = {index for number in named for index in self._model.nodes[number].inputs}
            ends = [self._model.nodes[number].outputs[0] for number in sorted(named)]
            return next((index for index in ends if index not in inner), ends[-1])
        scalars = [index for index in made if self._model.tensors[index].size == 1]
        return scalars[0] if scalars and self._model.optimizer_nodes else None

    def labels(self, loss: int) -> Tensor | None:
        """Return the input that reaches the loss without meeting a weight."""
        before = self._before(loss)
        meets = {number for index in self._weights() for number in self._readers(index)} & before
        found = [index for index in self._model.inputs if (after := self._after([index], before)) and not after & meets]
        if len(found) > 1 and (named := self._labels_by_name(before)) is not None:
            return named
        if len(found) > 1:
            names = ", ".join(self._model.tensors[index].name for index in found)
            raise ModelFormatError(
                f"the loss reads the inputs {names}, mindfl knows losses with one input of labels", hint=UNCONVERTED
            )
        return self._model.tensors[found[0]] if found else self._labels_by_name(before)

    def _labels_by_name(self, before: set[int]) -> Tensor | None:
        """Return the input that nodes of the loss alone read, by their names: labels may choose weights of the loss."""
        named = self._named()
        readers = {
            index: (set(self._readers(index)) or {node.index for node in self._consumers.get(index, ())}) & before
            for index in self._model.inputs
        }
        found = [index for index, numbers in readers.items() if numbers and numbers <= named]
        return self._model.tensors[found[0]] if len(found) == 1 else None

    def predictions(self, loss: int, labels: Tensor | None) -> int | None:
        """Return what the loss compares with the labels: the tensor that its nodes read and others compute."""
        before = self._before(loss)
        of_loss = self._named() & before
        if not of_loss:
            of_loss = self._after([labels.index], before) if labels is not None else set()
        outputs = [index for number in of_loss for index in self._model.nodes[number].outputs]
        # A node may bear another name in the midst of a loss.
        of_loss |= self._after(outputs, before)
        read = {index for number in of_loss for index in self._model.nodes[number].inputs}
        computed = [index for index in sorted(read) if index in self._producer]
        found = [index for index in computed if self._producer[index].index not in of_loss and self._samples(index)]
        found = [index for index in found if self._of_batch(index)] or found
        # Where the loss reads several, such as x and exp(x), the first is what the others are made of.
        return min(found, key=lambda index: len(self._before(index)), default=None)

    def _of_batch(self, tensor: int) -> bool:
        """Return whether the first dimension of a tensor is that of the inputs, or a multiple of it."""
        batch = next((self._dims(index)[0] for index in self._model.inputs if self._dims(index)), 1)
        return bool(self._dims(tensor)) and batch > 0 and self._dims(tensor)[0] % batch == 0

    def kind(self, labels: Tensor, loss: int, predictions: Tensor) -> LabelKind:
        """Return what the labels are."""
        readers = {self._model.nodes[number].op for number in self._after([labels.index], self._before(loss))}
        if labels.dtype == np.float32:
            one_hot = _ONE_HOT_LOSS in readers and labels.size == predictions.size
            return "onehot" if one_hot else "targets"
        if not readers & _OF_CLASSES:
            return "targets"
        batch = next(
            (self._model.tensors[i].dims[0] for i in self._model.inputs if i != labels.index and self._dims(i)), 1
        )
        if labels.size <= batch:
            return "classes"
        # Columns of labels for several tasks have no scores of one length each: they are not those of tokens.
        each = predictions.size // labels.size
        even = predictions.size % labels.size == 0 and each in predictions.dims[1:]
        return "tokens" if even else "targets"

    def _dims(self, index: int) -> tuple[int, ...]:
        return self._model.tensors[index].dims

    def _named(self) -> set[int]:
        """Return the nodes of the forward part that are a loss's by name or by operator."""
        named = {node.index for node in self._model.loss_nodes}
        return named | {
            node.index
            for node in self._model.nodes
            if node.op in _LOSS_OPERATORS and not node.attributes.get("is_grad") and GRADIENT_NAME not in node.name
        }

    def _weights(self) -> set[int]:
        """Return the trained weights, also rearranged, and what is computed of them alone, but for single numbers.

        Such a number is a penalty of the weights, which labels may meet in the loss.
        """
        try:
            found = {tensor.index for tensor in self._model.parameters.values()}
        except ModelFormatError:
            found = set()
        if not found:  # the file does not train, or its optimizer is unknown
            found = {t.index for t in self._model.tensors if t.data is not None and len(t.dims) > 1}
        trained, waiting = set(found), list(found)
        while waiting:
            for node in self._consumers.get(waiting.pop(), ()):
                # What is computed of weights and constants alone is a weight too, as with weight normalisation.
                alone = all(index in found or self._model.tensors[index].data is not None for index in node.inputs)
                if (node.op in _REARRANGING or alone) and not changes_state(node):
                    waiting += [index for index in node.outputs if index not in found]
                    found.update(node.outputs)
        return {index for index in found if index in trained or self._model.tensors[index].size > 1}

    def _readers(self, index: int) -> Iterable[int]:
        return (node.index for node in self._consumers.get(index, ()) if node.op not in _REARRANGING)

    def _samples(self, tensor: int) -> bool:
        """Return whether a tensor depends on an input."""
        before = self._before(tensor)
        return any(index in self._model.inputs for number in before for index in self._model.nodes[number].inputs)

    def _before(self, tensor: int) -> set[int]:
        """Return the nodes that a tensor depends on."""
        found: set[int] = set()
        waiting = [tensor]
        while waiting:
            node = self._producer.get(waiting.pop())
            if node is not None and node.index not in found:
                found.add(node.index)
                waiting += node.inputs
        return found

    def _after(self, tensors: Iterable[int], within: set[int]) -> set[int]:
        """Return those nodes of ``within`` that depend on one of ``tensors``."""
        found: set[int] = set()
        waiting = list(tensors)
        while waiting:
            for node in self._consumers.get(waiting.pop(), ()):
                if node.index in within and node.index not in found:
                    found.add(node.index)
                    waiting += node.outputs
        return found
