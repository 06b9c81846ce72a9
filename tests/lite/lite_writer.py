"""A second producer of ``.ms`` files: describes a model in plain Python and writes it with the flatbuffers package."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import flatbuffers
import numpy as np
from numpy.typing import NDArray

from mindfl.lite import LiteModel
from mindfl.lite.schema import OPERATORS, SchemaOperator

_DTYPES = {"bool": 30, "int32": 34, "int64": 35, "float32": 43}
_BY_NAME = {operator.name: operator for operator in OPERATORS.values()}


@dataclass
class NodeText:
    """One node; absent attributes take the format's defaults."""

    op: str
    inputs: list[int]
    outputs: list[int]
    attributes: dict[str, Any] = field(default_factory=dict)
    name: str = ""


@dataclass
class TensorText:
    """One tensor; ``data`` only for constants."""

    name: str
    dims: list[int]
    dtype: str = "float32"
    data: NDArray[Any] | None = None
    format: int = 0


@dataclass
class ModelText:
    """A whole model."""

    nodes: list[NodeText]
    tensors: list[TensorText]
    inputs: list[int]
    outputs: list[int]
    name: str = "handmade"
    version: str = "another producer 1.0"

    @classmethod
    def of(cls, model: LiteModel) -> ModelText:
        """Describe a decoded model."""
        return cls(
            nodes=[NodeText(n.op, [*n.inputs], [*n.outputs], dict(n.attributes), n.name) for n in model.nodes],
            tensors=[
                TensorText(t.name, [*t.dims], t.dtype.name if t.dtype is not None else "", t.data, t.format)
                for t in model.tensors
            ],
            inputs=[*model.inputs],
            outputs=[*model.outputs],
        )

    def copy(self) -> ModelText:
        """Return a copy whose lists may be changed."""
        nodes = [
            replace(n, inputs=[*n.inputs], outputs=[*n.outputs], attributes=dict(n.attributes)) for n in self.nodes
        ]
        tensors = [replace(t, dims=[*t.dims]) for t in self.tensors]
        return replace(self, nodes=nodes, tensors=tensors, inputs=[*self.inputs], outputs=[*self.outputs])

    def node(self, op: str, number: int = 0) -> NodeText:
        """Return the ``number``-th node of an operator."""
        return [node for node in self.nodes if node.op == op][number]

    def write(self) -> bytes:
        """Return the file."""
        builder = flatbuffers.Builder(1024)
        version, name = builder.CreateString(self.version), builder.CreateString(self.name)
        nodes = write_tables(builder, [write_node(builder, node) for node in self.nodes])
        tensors = write_tables(builder, [write_tensor(builder, tensor) for tensor in self.tensors])
        outputs = write_numbers(builder, self.outputs, "I")
        inputs = write_numbers(builder, self.inputs, "I")
        fields = {0: name, 1: version, 3: inputs, 4: outputs, 6: nodes, 7: tensors}
        builder.Finish(write_object(builder, 8, fields), file_identifier=b"MSL2")
        return bytes(builder.Output())


def write_numbers(builder: Any, values: Sequence[int], kind: str) -> int:
    """Write a vector of numbers, and return its offset."""
    size, prepend = {"I": (4, builder.PrependUint32), "i": (4, builder.PrependInt32), "q": (8, builder.PrependInt64)}[
        kind
    ]
    builder.StartVector(size, len(values), size)
    for value in reversed(values):
        prepend(int(value))
    return int(builder.EndVector())


def write_tables(builder: Any, offsets: Sequence[int]) -> int:
    """Write a vector of tables, and return its offset."""
    builder.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        builder.PrependUOffsetTRelative(offset)
    return int(builder.EndVector())


def write_object(
    builder: Any, slots: int, offsets: Mapping[int, int], numbers: Mapping[int, tuple[str, Any]] | None = None
) -> int:
    """Write one table, and return its offset."""
    builder.StartObject(slots)
    for slot, offset in offsets.items():
        builder.PrependUOffsetTRelativeSlot(slot, offset, 0)
    for slot, (kind, value) in (numbers or {}).items():
        prepend = {
            "i": builder.PrependInt32Slot,
            "q": builder.PrependInt64Slot,
            "b": builder.PrependInt8Slot,
            "B": builder.PrependUint8Slot,
            "f": builder.PrependFloat32Slot,
            "?": builder.PrependBoolSlot,
        }[kind]
        prepend(slot, bool(value) if kind == "?" else value, 0)
    return int(builder.EndObject())


def _attributes(builder: Any, operator: SchemaOperator, values: Mapping[str, Any]) -> int:
    offsets, numbers = {}, {}
    for attribute in operator.attributes:
        value = values.get(attribute.name)
        if attribute.kind == "q[]" and value is not None:
            offsets[attribute.slot] = write_numbers(builder, value, "q")
        elif value is not None:
            numbers[attribute.slot] = (attribute.kind, value)
    slots = 1 + max((attribute.slot for attribute in operator.attributes), default=-1)
    return write_object(builder, slots, offsets, numbers)


def write_node(builder: Any, node: NodeText) -> int:
    """Write one node, and return its offset."""
    operator = _BY_NAME.get(node.op) or SchemaOperator(int(node.op.removeprefix("operator#")), node.op)
    table = _attributes(builder, operator, node.attributes)
    primitive = write_object(builder, 2, {1: table}, {0: ("B", operator.tag)})
    name = builder.CreateString(node.name)
    outputs = write_numbers(builder, node.outputs, "I")
    inputs = write_numbers(builder, node.inputs, "I")
    return write_object(builder, 5, {0: name, 2: primitive, 3: inputs, 4: outputs})


def write_tensor(builder: Any, tensor: TensorText) -> int:
    """Write one tensor, and return its offset."""
    offsets = {9: builder.CreateString(tensor.name)}
    if tensor.data is not None:
        raw = np.ascontiguousarray(tensor.data).tobytes()
        builder.StartVector(1, len(raw), 8)
        builder.head -= len(raw)
        builder.Bytes[builder.head : builder.head + len(raw)] = raw
        offsets[6] = int(builder.EndVector())
    if tensor.dims:
        offsets[2] = write_numbers(builder, tensor.dims, "i")
    numbers = {1: ("i", _DTYPES.get(tensor.dtype, 99)), 3: ("i", tensor.format)}
    return write_object(builder, 10, offsets, numbers)
