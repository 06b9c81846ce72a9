"""The contents of a model file, for display: nodes, parameters, optimizer, and operators that the runtime lacks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mindfl.errors import ModelFormatError
from mindfl.files import PathLike
from mindfl.lite.model import FORMATS, LiteModel, Node, Tensor
from mindfl.lite.model_graph import label_kind
from mindfl.lite.ops.optimizer import optimizer_of
from mindfl.lite.ops.registry import is_executed, learning_rate_input
from mindfl.markup import folded, section, table
from mindfl.spelling import counted

#: operator -> description of its loss
LOSSES: Mapping[str, str] = {
    "SparseSoftmaxCrossEntropyWithLogits": "softmax cross entropy, labels are class numbers",
    "SoftmaxCrossEntropyWithLogits": "softmax cross entropy, labels are one-hot",
}
#: kind of labels -> description of another loss
_OTHER_LOSSES: Mapping[str | None, str] = {
    "classes": "labels are class numbers",
    "tokens": "labels are class numbers, several of each sample",
    "targets": "labels are numbers to predict",
}


_FINE = {"ms": "mindfl trains this file", "mindir": "mindfl converts this file for training"}


@dataclass(frozen=True)
class TensorInfo:
    """A tensor. ``order`` names its four dimensions; it is empty for other tensors.

    ``NHWC`` and ``NCHW`` are images (batch, height, width, channel), ``KHWC`` and ``KCHW`` weights of a convolution
    (out, height, width, in).
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    order: str = ""

    def __str__(self) -> str:
        shape = "x".join(map(str, self.shape)) or "scalar"
        return f"{self.name} {shape} {self.dtype}" + (f" {self.order}" if self.order else "")


@dataclass(frozen=True)
class NodeInfo:
    """A node: its operator, inputs, outputs and attributes."""

    name: str
    operator: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Inspection:
    """Contents of a model file.

    Args:
        kind: ``ms`` (a device's model) or ``mindir`` (a graph before conversion).
        writer: program and version that wrote the file.
        inputs, outputs, parameters: tensors; parameters are those that training changes.
        optimizer: its settings by name; None if the file does not train.
        batch_size: samples per step, fixed in the file; None if no input has a batch dimension.
        loss: description of the loss; None if there is no known loss.
        nodes: all nodes in the order of the file.
        lacking: reasons why mindfl cannot train with it, one sentence each; empty if it can.
        session_bytes: memory that each thread needs that trains or predicts with it; None if mindfl cannot.
    """

    kind: str
    name: str
    writer: str
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    parameters: tuple[TensorInfo, ...]
    optimizer: Mapping[str, Any] | None
    batch_size: int | None
    loss: str | None
    nodes: tuple[NodeInfo, ...]
    lacking: tuple[str, ...]
    session_bytes: int | None = None

    @property
    def parameter_count(self) -> int:
        """Number of values that training changes."""
        return sum(int(np.prod(tensor.shape)) for tensor in self.parameters)

    def summary(self) -> str:
        """Return a readable listing."""
        settings = ", ".join(f"{name} {value}" for name, value in (self.optimizer or {}).items())
        lines = [
            f"{self.kind}: {self.name or 'model'}, written by {self.writer or 'an unknown program'}",
            *(f"input      {tensor}" for tensor in self.inputs),
            *(f"output     {tensor}" for tensor in self.outputs),
            f"batch size {self.batch_size or 'none'}",
            f"loss       {self.loss or 'none that is known'}",
            f"optimizer  {settings or 'none: the file does not train'}",
            *(f"parameter  {tensor}" for tensor in self.parameters),
            f"{self.parameter_count:,} values in {len(self.parameters)} parameters, {len(self.nodes)} nodes",
            *(
                []
                if self.session_bytes is None
                else [f"memory     {self.session_bytes / 2**20:,.2f} MiB for each session"]
            ),
            *(f"node {n:>4}  {_described(node)}" for n, node in enumerate(self.nodes)),
            *(self.lacking or (_FINE[self.kind],)),
        ]
        return "\n".join(lines)


def _described(node: NodeInfo) -> str:
    return f"{node.operator:<36} {', '.join(node.inputs)} -> {', '.join(node.outputs)}"


def inspect_ms(path: PathLike) -> Inspection:
    """Return the contents of the ``.ms`` file ``path``, whether mindfl's runtime can execute it or not.

    Raises :class:`StorageError` if it cannot be read, :class:`ModelFormatError` if it is no ``.ms`` file.

    Example:
        >>> inspect_ms("lenet_train.ms").batch_size
        32
    """
    model = LiteModel.load(path)
    losses: list[str | None] = [LOSSES[node.op] for node in model.nodes if node.op in LOSSES] or [
        _OTHER_LOSSES.get(label_kind(model))
    ]
    reason, size = _planned(model)
    return Inspection(
        kind="ms",
        name=model.name,
        writer=model.version,
        inputs=tuple(_tensor(model.tensors[index]) for index in model.inputs),
        outputs=tuple(_tensor(model.tensors[index]) for index in model.outputs),
        parameters=tuple(_tensor(tensor) for tensor in _parameters(model)),
        optimizer=_optimizer(model),
        batch_size=_batch_size(model),
        loss=losses[0],
        nodes=tuple(_node(model, node) for node in model.nodes),
        lacking=tuple(_lacking(model, reason)),
        session_bytes=size,
    )


def model_html(model: LiteModel) -> str:
    """Return what a notebook shows of a model: its parameters and, folded, its nodes."""

    def shapes(indices: Iterable[int]) -> str:
        return ", ".join("x".join(map(str, model.tensors[index].dims)) or "scalar" for index in indices)

    parameters = [*_parameters(model)]
    weights = table(
        ["parameter", "shape", "type", "values"],
        parameters,
        lambda each: [each.name, shapes([each.index]), _tensor(each).dtype, each.size],
    )
    nodes = table(
        ["node", "operator", "name", "inputs", "outputs"],
        model.nodes,
        lambda node: [node.index, node.op, node.name, shapes(node.inputs), shapes(node.outputs)],
    )
    counts = f"{sum(each.size for each in parameters):,} values in {counted(len(parameters), 'parameter')}"
    note = f"written by {model.version or 'an unknown program'}, {len(model.content):,} bytes, {counts}"
    return section(model.name or "model", weights, folded(counted(len(model.nodes), "node"), nodes), note=note)


def _tensor(tensor: Tensor) -> TensorInfo:
    order = str(FORMATS.get(tensor.format, "")) if len(tensor.dims) == 4 else ""
    return TensorInfo(tensor.name, tensor.dims, tensor.dtype.name if tensor.dtype is not None else "unknown", order)


def _node(model: LiteModel, node: Node) -> NodeInfo:
    names = [tuple(model.tensors[index].name for index in indices) for indices in (node.inputs, node.outputs)]
    return NodeInfo(node.name, node.op, names[0], names[1], dict(node.attributes))


def _parameters(model: LiteModel) -> Iterable[Tensor]:
    try:
        return model.parameters.values()
    except ModelFormatError:
        return ()


def _batch_size(model: LiteModel) -> int | None:
    inputs = [model.tensors[index] for index in model.inputs if model.tensors[index].dims]
    return max(inputs, key=lambda tensor: tensor.size).dims[0] if inputs else None


def _optimizer(model: LiteModel) -> dict[str, Any] | None:
    """Return the settings of the optimizer, under the names of mindfl's options."""
    if not model.optimizer_nodes:
        return None
    known = optimizer_of(model)
    names = sorted({node.op for node in model.optimizer_nodes})
    places = ((node.inputs, learning_rate_input(node.op)) for node in model.optimizer_nodes)
    rates = {
        model.tensors[inputs[place]].number for inputs, place in places if place is not None and len(inputs) > place
    }
    settings: dict[str, Any] = {"optimizer": known.name if known is not None else " and ".join(names)}
    if len(rates) == 1:
        settings["learning_rate"] = rates.pop()
    if known is not None:
        settings |= {"momentum": known.momentum, "weight_decay": known.weight_decay, "nesterov": known.nesterov}
    return {name: value for name, value in settings.items() if value is not None}


def _lacking(model: LiteModel, reason: str) -> Iterable[str]:
    if not reason:
        return
    lacked = [node for node in model.nodes if not is_executed(node)]
    if not lacked:
        yield f"cannot train: {reason}"
    for node in {node.op: node for node in reversed(lacked)}.values():
        yield f"cannot train: operator {node.op} in node {node.name or node.index}"


def _planned(model: LiteModel) -> tuple[str, int | None]:
    """Return why the runtime cannot train the model, empty if it can, and the bytes of a session; None if it has none.

    They are those for images whose channels differ.
    """
    from mindfl.lite.executable import Executable

    try:
        programs = Executable(model).programs(folded=False)
    except ModelFormatError as error:
        return str(error), None
    size = programs.arena_size * np.dtype(np.float32).itemsize
    return "" if programs.train is not None else "the file has no optimizer node", size
