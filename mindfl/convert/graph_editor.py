"""Changes the graph of a MINDIR: primitives, constants, nodes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mindfl.convert.mindir import Proto, mindir_protocol
from mindfl.errors import MindirError
from mindfl.lite.model import UNCONVERTED

CONSTANT = "Constant"
_REFERENCE = "REF::"
_TENSOR_TYPES: dict[np.dtype[Any], int] = {np.dtype(np.float32): 1, np.dtype(np.int32): 6, np.dtype(np.int64): 7}

#: what an attribute of a primitive, or a constant that is no tensor, can hold
Value = bool | int | float | bytes | tuple[int, ...]


def node_label(node: Proto) -> str:
    """Return the name of a node that its network gives it."""
    return str(node.domain or node.name)


class GraphEditor:
    """The graph of ``model``, which is changed in place.

    Attributes:
        graph: the graph.
        constants: the attribute that holds a constant's value, by the constant's name.
    """

    def __init__(self, model: Proto) -> None:
        self._attribute = mindir_protocol().AttributeProto
        self._model = model
        self.graph = model.graph
        self._primitives = {primitive.name: primitive for primitive in model.primitives}
        self.constants: dict[str, Proto] = {
            node.output[0]: node.attribute[0] for node in self.graph.node if node.op_type == CONSTANT
        }
        self._added = 0

    @property
    def primitives(self) -> Iterable[Proto]:
        """The primitives: operators with their attributes, which nodes refer to."""
        return list(self._model.primitives)

    def operator(self, node: Proto) -> str:
        """Return the operator of a node, such as ``MatMul`` or ``Constant``."""
        primitive = self._primitives.get(node.op_type.removeprefix(_REFERENCE))
        return str(node.op_type if primitive is None else primitive.op_type)

    def nodes(self, *operators: str) -> Iterator[Proto]:
        """Yield the nodes with one of these operators."""
        return (node for node in self.graph.node if self.operator(node) in operators)

    def is_tensor(self, name: str) -> bool:
        """Return whether ``name`` is a value of the graph or a constant tensor, and not a constant of another kind."""
        constant = self.constants.get(name)
        return constant is None or constant.type == self._attribute.TENSORS

    def is_monad(self, name: str) -> bool:
        """Return whether ``name`` is a constant monad."""
        constant = self.constants.get(name)
        return constant is not None and constant.type in (self._attribute.UMONAD, self._attribute.IOMONAD)

    def is_none(self, name: str) -> bool:
        """Return whether ``name`` is the constant None."""
        constant = self.constants.get(name)
        return constant is not None and constant.type == self._attribute.NONE

    def array(self, name: str) -> NDArray[Any] | None:
        """Return the values of a constant tensor, float32, int32 or int64; None: ``name`` is something else."""
        constant = self.constants.get(name)
        if constant is None or len(constant.tensors) != 1:
            return None
        tensor = constant.tensors[0]
        for kind, number in _TENSOR_TYPES.items():
            if tensor.data_type == number:
                return np.frombuffer(tensor.raw_data, kind).reshape(tuple(tensor.dims))
        return None

    def value(self, node: Proto, name: str) -> Value:
        """Return a constant that is no tensor.

        Raises:
            MindirError: it is no constant, or of another kind; the message names the node that reads it.
        """
        constant = self.constants.get(name)
        found = self._plain(constant) if constant is not None else None
        if found is None:
            raise MindirError(
                f"node {node_label(node)} has a setting ({name}) that is not a known constant", hint=UNCONVERTED
            )
        return found

    def _plain(self, constant: Proto) -> Value | None:
        kind = self._attribute
        if constant.type == kind.BOOL:
            return bool(constant.i)
        if constant.type in (kind.INT32, kind.INT64):
            return int(constant.i)
        if constant.type in (kind.FLOAT, kind.DOUBLE):
            return float(constant.f if constant.type == kind.FLOAT else constant.d)
        if constant.type == kind.STRING:
            return bytes(constant.s)
        if constant.type in (kind.TUPLE, kind.LIST) and all(item.type == kind.INT64 for item in constant.values):
            return tuple(int(item.ints[0] if item.ints else item.i) for item in constant.values)
        return None

    def attribute(self, node: Proto, name: str) -> Value | None:
        """Return an attribute of a node's primitive; None: it has none of that name, or of another kind."""
        found = next((each for each in self.primitive_of(node).attribute if each.name == name), None)
        return None if found is None else self._plain(found)

    def shape_of(self, name: str) -> tuple[int, ...]:
        """Return the shape of a value.

        Raises:
            MindirError: it is not known.
        """
        sources = [tensor for tensor in self.graph.parameter if tensor.name == name]
        sources += [value.tensor[0] for value in self.graph.input if value.name == name and value.tensor]
        constant = self.constants.get(name)
        if constant is not None:
            sources = list(constant.tensors)
        if sources:
            return tuple(sources[0].dims)
        producer = next((node for node in self.graph.node if name in node.output), None)
        if producer is None:
            raise MindirError(f"the shape of {name} is not known", hint=UNCONVERTED)
        return self.shape(producer)

    def shape(self, node: Proto, output: int = 0) -> tuple[int, ...]:
        """Return the shape of a node's output, which the export recorded.

        Raises:
            MindirError: it is not recorded, or not fixed.
        """
        recorded = next((item for item in node.attribute if item.name == "shape"), None)
        if recorded is not None and recorded.type == self._attribute.TUPLE and output < len(recorded.values):
            recorded = recorded.values[output]
        if recorded is None or len(recorded.tensors) != 1 or any(size < 1 for size in recorded.tensors[0].dims):
            raise MindirError(f"node {node_label(node)} does not say of which shape its output is", hint=UNCONVERTED)
        return tuple(recorded.tensors[0].dims)

    def type_of(self, name: str) -> np.dtype[Any] | None:
        """Return the type of a value that the export recorded; None: it is not known."""
        held = [value.tensor[0] for value in self.graph.input if value.name == name and value.tensor]
        for node in self.graph.node:
            if name in node.output:
                recorded = (item for item in node.attribute if item.name == "shape")
                held += [tensor for item in recorded for tensor in item.tensors]
        return next((kind for kind, number in _TENSOR_TYPES.items() if held and held[0].data_type == number), None)

    def copy_shape(self, node: Proto, output: int, copy: Proto | None) -> None:
        """Let a new node have the shape that the export recorded for an output of another; it keeps what it has."""
        recorded = next((item for item in node.attribute if item.name == "shape"), None)
        if recorded is not None and recorded.type == self._attribute.TUPLE:
            recorded = recorded.values[output] if output < len(recorded.values) else None
        if copy is None or copy.op_type == CONSTANT or recorded is None or len(recorded.tensors) != 1:
            return
        if not any(item.name == "shape" for item in copy.attribute):
            copy.attribute.add(name="shape", type=self._attribute.TENSORS).tensors.add().CopyFrom(recorded.tensors[0])

    def state_shape(self, node: Proto, shape: Iterable[int]) -> None:
        """Record the shape of a new node's output, float32, as the export does."""
        recorded = node.attribute.add(name="shape", type=self._attribute.TENSORS)
        recorded.tensors.add(dims=shape, data_type=_TENSOR_TYPES[np.dtype(np.float32)])

    def change_shape(self, node: Proto, shape: Iterable[int]) -> None:
        """Record another shape of a node's first output; nothing where none is recorded."""
        recorded = next((item for item in node.attribute if item.name == "shape"), None)
        if recorded is not None and recorded.type == self._attribute.TUPLE:
            recorded = recorded.values[0]
        if recorded is not None and recorded.tensors:
            recorded.tensors[0].dims[:] = shape

    def set_attributes(self, primitive: Proto, values: Mapping[str, Value]) -> None:
        """Set attributes of a primitive."""
        for name, value in values.items():
            attribute = next((known for known in primitive.attribute if known.name == name), None)
            self._fill(attribute or primitive.attribute.add(name=name), value)

    def _fill(self, attribute: Proto, value: Value) -> None:
        kind = self._attribute
        if isinstance(value, bytes):
            attribute.type, attribute.s = kind.STRING, value
        elif isinstance(value, bool):
            attribute.type, attribute.i = kind.BOOL, int(value)
        elif isinstance(value, int):
            attribute.type, attribute.i = kind.INT64, value
        elif isinstance(value, float):
            attribute.type, attribute.f = kind.FLOAT, value
        else:
            attribute.type = kind.TUPLE
            del attribute.values[:]
            for item in value:
                # A loader reads the list, not the single value.
                attribute.values.add(type=kind.INT64).ints.append(item)

    def clone_primitive(self, name: str) -> Proto:
        """Return a copy of the primitive ``name`` under a name of its own."""
        copy = self._model.primitives.add()
        copy.CopyFrom(self._primitives[name])
        copy.name = f"{name}-{len(self._model.primitives)}"
        self._primitives[copy.name] = copy
        return copy

    def primitive_of(self, node: Proto) -> Proto:
        """Return the primitive that a node refers to."""
        return self._primitives[node.op_type.removeprefix(_REFERENCE)]

    def refer(self, node: Proto, primitive: Proto) -> None:
        """Let a node refer to another primitive."""
        node.op_type = _REFERENCE + str(primitive.name)

    def new_node(self, near: Proto, operator: str, inputs: Iterable[str], **attributes: Value) -> Proto:
        """Return a node that takes the place of ``near`` or of a part of it; it is not in the graph yet.

        Args:
            near: gives the new node its name in the network.
            operator: such as ``Mul``.
            inputs: names of values.
            attributes: of the operator.
        """
        self._added += 1
        primitive = self._model.primitives.add(name=f"{operator}:written-out-{self._added}", op_type=operator)
        self._primitives[primitive.name] = primitive
        self.set_attributes(primitive, attributes)
        name = f"{near.output[0]}/{operator}-{self._added}"
        node = mindir_protocol().NodeProto(name=name, output=[name], domain=f"{near.domain}/{operator}-{self._added}")
        node.input.extend(inputs)
        self.refer(node, primitive)
        return node

    def new_constant(self, value: Value | NDArray[Any]) -> Proto:
        """Return the node of a new constant; it is not in the graph yet."""
        self._added += 1
        name = f"written-out-{self._added}"
        node = mindir_protocol().NodeProto(name=name, output=[name], op_type=CONSTANT)
        attribute = node.attribute.add(name="value")
        if isinstance(value, np.ndarray):
            attribute.type = self._attribute.TENSORS
            attribute.tensors.add(dims=value.shape, data_type=_TENSOR_TYPES[value.dtype], raw_data=value.tobytes())
        else:
            self._fill(attribute, value)
        self.constants[name] = attribute
        return node

    def replace_nodes(self, replaced: Mapping[str, Iterable[Proto]]) -> None:
        """Put other nodes in the places of nodes, which are named by their first output."""
        nodes = [new for node in self.graph.node for new in replaced.get(node.output[0], (node,))]
        copies = [type(node).FromString(node.SerializeToString()) for node in nodes]
        del self.graph.node[:]
        self.graph.node.extend(copies)
        self.constants = {node.output[0]: node.attribute[0] for node in self.graph.node if node.op_type == CONSTANT}

    def replace_values(self, replaced: Mapping[str, str]) -> None:
        """Let all nodes and the graph's outputs read other values in place of these."""

        def final(name: str) -> str:
            while replaced.get(name, name) != name:
                name = replaced[name]
            return name

        for node in self.graph.node:
            node.input[:] = [final(value) for value in node.input]
        for output in self.graph.output:
            output.name = final(output.name)

    def remove_unread_constants(self) -> None:
        """Remove the constants that nothing reads."""
        uses = Counter(value for node in self.graph.node for value in node.input)
        uses.update(output.name for output in self.graph.output)
        unread = [node for node in self.graph.node if node.op_type == CONSTANT and not uses[node.output[0]]]
        self.replace_nodes({node.output[0]: () for node in unread})

    def merge_equal_tensors(self) -> None:
        """Keep one of constant tensors that are equal."""
        first: dict[bytes, str] = {}
        replaced: dict[str, str] = {}
        for name, attribute in self.constants.items():
            if attribute.type == self._attribute.TENSORS:
                content = self._attribute()
                content.CopyFrom(attribute)
                for tensor in content.tensors:
                    tensor.ClearField("name")
                replaced[name] = first.setdefault(content.SerializeToString(deterministic=True), name)
        self.replace_values(replaced)
