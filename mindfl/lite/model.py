"""Decoding a MindSpore Lite ``.ms`` file into nodes, tensors and trainable parameters.

The file is a FlatBuffer with identifier ``MSL2``. Reading is bounds-checked: a hostile or damaged file raises
:class:`~mindfl.errors.ModelFormatError` and nothing else.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from mindfl.errors import ModelFormatError
from mindfl.filekind import file_kind
from mindfl.files import PathLike, read_file, write_atomic
from mindfl.lite.ops import learning_rate_input
from mindfl.lite.ops.batch_norm import moved
from mindfl.lite.ops.registry import is_executed
from mindfl.lite.schema import OPERATORS, AttributeValue
from mindfl.lite.weight_order import from_mindspore, to_mindspore
from mindfl.protocol.flatbuf import BrokenBufferError, Table

IDENTIFIER = b"MSL2"
#: the way out for a network that the converter or the runtime refuses
UNCONVERTED = "--engine mindspore --model FILE.py:CLASS trains the network as it is, without converting it"
#: hint about a node that the runtime does not execute
OWN_OPERATORS = f"an operator of your own can: --operator file.py:name, see docs/extending.md; or {UNCONVERTED}"
#: name parts by which the Lite trainer recognises the loss and the gradient part
LOSS_NAMES = ("loss_fct", "_loss_fn", "SigmoidCrossEntropy")
GRADIENT_NAME = "Gradients"
DTYPES = {30: np.dtype("?"), 34: np.dtype("<i4"), 35: np.dtype("<i8"), 42: np.dtype("<f2"), 43: np.dtype("<f4")}
FORMATS = {0: "NCHW", 1: "NHWC", 7: "KHWC"}
_MAX_RANK = 8  # far above what any operator takes


@dataclass(frozen=True)
class Tensor:
    """One tensor. ``data`` is a read-only view of the file for constants and parameters, None for computed tensors."""

    index: int
    name: str
    dims: tuple[int, ...]
    dtype: np.dtype[np.generic] | None
    format: int
    data: NDArray[np.generic] | None
    position: int

    @property
    def size(self) -> int:
        """Number of elements; 1 for a scalar."""
        return math.prod(self.dims)

    @property
    def number(self) -> float | None:
        """The value of a constant of one element, as the shortest decimal of the same float32; None for others."""
        return float(str(self.data.reshape(-1)[0])) if self.data is not None and self.data.size == 1 else None


@dataclass(frozen=True)
class Node:
    """One operator call; ``inputs`` and ``outputs`` are tensor indices."""

    index: int
    name: str
    op: str
    attributes: Mapping[str, AttributeValue]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]

    @property
    def label(self) -> str:
        """The node's name and operator, for messages."""
        return f"{self.name or self.index} ({self.op})"

    def flag(self, name: str) -> bool:
        """Return a boolean attribute."""
        return bool(self.attributes[name])

    def integer(self, name: str) -> int:
        """Return a whole-number attribute."""
        value = self.attributes[name]
        return int(value) if not isinstance(value, tuple) else 0

    def real(self, name: str) -> float:
        """Return a floating-point attribute."""
        value = self.attributes[name]
        return float(value) if not isinstance(value, tuple) else 0.0

    def integers(self, name: str) -> tuple[int, ...]:
        """Return a vector attribute."""
        value = self.attributes[name]
        return value if isinstance(value, tuple) else ()


@dataclass(frozen=True)
class LiteModel:
    """A decoded ``.ms`` file. The image input is NHWC; convolution weights are KHWC (out, height, width, in).

    Args:
        content: the file's bytes.
        name, version: of the graph and of the converter.
        inputs, outputs: indices of tensors.
        nodes, tensors: in the order of the file.

    Example:
        >>> model = LiteModel.load("lenet_train.ms")
        >>> model.weights["conv1.weight"].shape
        (6, 5, 5, 3)
    """

    content: bytes = field(repr=False)
    name: str
    version: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    nodes: tuple[Node, ...] = field(repr=False)
    tensors: tuple[Tensor, ...] = field(repr=False)

    @staticmethod
    def load(path: PathLike) -> LiteModel:
        """Read a file. Raises :class:`StorageError` if unreadable, :class:`ModelFormatError` if it is no ``.ms``."""
        content = read_file(path)
        try:
            return LiteModel.from_bytes(content)
        except ModelFormatError as error:
            raise ModelFormatError(f"{path}: {error}", hint=error.hint) from None

    @staticmethod
    def from_bytes(content: bytes) -> LiteModel:
        """Decode the bytes of a file. Raises :class:`ModelFormatError`."""
        if content[4:8] != IDENTIFIER:
            raise _not_a_model(content)
        try:
            return _decode(content)
        except (BrokenBufferError, RecursionError, MemoryError) as error:
            raise ModelFormatError(
                f"the file is damaged or cut off: {error}", hint="copy it again, or convert the MINDIR again"
            ) from None

    @cached_property
    def optimizer_nodes(self) -> tuple[Node, ...]:
        """The nodes that update a parameter (Adam, ApplyMomentum, SGD)."""
        return tuple(node for node in self.nodes if learning_rate_input(node.op) is not None)

    @cached_property
    def loss_nodes(self) -> tuple[Node, ...]:
        """The forward nodes that compute the loss, recognised by name as the Lite trainer does."""
        return tuple(
            node
            for node in self.nodes
            if any(part in node.name for part in LOSS_NAMES) and GRADIENT_NAME not in node.name
        )

    @cached_property
    def parameters(self) -> Mapping[str, Tensor]:
        """Trainable parameters (first input of each optimizer node) by name, in ascending order of name.

        Raises :class:`ModelFormatError` if one is no float32 constant, or shares its name with another.
        """
        constants = Counter(tensor.name for tensor in self.tensors if tensor.data is not None)
        found: dict[str, Tensor] = {}
        for node in self.optimizer_nodes:
            tensor = self.tensors[node.inputs[0]]
            if tensor.data is None or tensor.dtype != np.float32:
                raise ModelFormatError(f"node {node.label} trains {tensor.name!r}, which is no float32 constant")
            if tensor.name in found or constants[tensor.name] > 1:
                raise ModelFormatError(f"the model trains several parameters named {tensor.name!r}, or one twice")
            found[tensor.name] = tensor
        return MappingProxyType({name: found[name] for name in sorted(found, key=str.encode)})

    @cached_property
    def weights(self) -> Mapping[str, NDArray[np.float32]]:
        """The values in the file of :attr:`parameters` and :attr:`statistics`: what clients exchange.

        Read-only float32 views in the tensors' own shapes (KHWC), in ascending order of name.
        """
        found = sorted({**self.parameters, **self.statistics}.items(), key=lambda item: item[0].encode())
        return MappingProxyType({name: tensor.data.view("<f4") for name, tensor in found if tensor.data is not None})

    @cached_property
    def statistics(self) -> Mapping[str, Tensor]:
        """Running means and variances of BatchNorm layers by name, in ascending order of name.

        Training changes them, but no optimizer does. Those of layers with frozen statistics do not count.
        """
        constants = Counter(tensor.name for tensor in self.tensors if tensor.data is not None)
        found = {}
        for tensor in (self.tensors[index] for node in self.nodes for index in moved(node)):
            if tensor.data is None or tensor.dtype != np.float32 or constants[tensor.name] > 1:
                raise ModelFormatError(f"the running statistics {tensor.name!r} are no float32 constant of that name")
            found[tensor.name] = tensor
        return MappingProxyType({name: found[name] for name in sorted(found.keys() - self.parameters, key=str.encode)})

    def to_mindspore(self, values: Mapping[str, NDArray[np.float32]] | None = None) -> dict[str, NDArray[np.float32]]:
        """Return all parameters of the network in MindSpore's order.

        MindSpore holds filters of convolutions as [out, in, height, width], the file as [out, height, width, in].

        ``values`` replace the file's own: in the file's order, flat or shaped, such as :attr:`Result.weights`.
        The graph tells which weights are filters, never their shapes.

        Raises :class:`ModelFormatError` for a name that the network does not have, a wrong number of elements, and a
        weight with an unknown order of dimensions.

        Example:
            >>> LiteModel.load("lenet_train_trained.ms").to_mindspore()["conv1.weight"].shape
            (6, 3, 5, 5)
        """
        return to_mindspore(self, values or {})

    def from_mindspore(self, weights: Mapping[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
        """Return ``weights``, which are in MindSpore's order and shapes, in the order and shapes of the file.

        This is the inverse of :meth:`to_mindspore`, for any of the network's parameters.

        Raises :class:`ModelFormatError` for a name that the network does not have and for a wrong shape.

        Example:
            >>> model = LiteModel.load("lenet_train.ms")
            >>> model.save("started.ms", model.from_mindspore(weights))
        """
        return from_mindspore(self, weights)

    def check_operators(self) -> None:
        """Raise :class:`ModelFormatError` naming the operators that the runtime lacks, if any."""
        refuse_unknown(self, self.nodes)

    def patched(self, values: Mapping[str, NDArray[np.float32]]) -> bytes:
        """Return the file's bytes with the float32 constants named in ``values`` replaced, all else unchanged.

        Raises :class:`ModelFormatError` for a name that is no constant of the file or a wrong number of elements.
        """
        by_name = {tensor.name: tensor for tensor in self.tensors if tensor.data is not None}
        content = bytearray(self.content)
        for name, value in values.items():
            tensor = by_name.get(name)
            if tensor is None or tensor.size != value.size or tensor.dtype != np.float32:
                raise ModelFormatError(f"the model has no float32 constant {name} of {value.size} elements")
            raw = np.ascontiguousarray(value, "<f4").tobytes()
            content[tensor.position : tensor.position + len(raw)] = raw
        return bytes(content)

    def save(self, path: PathLike, values: Mapping[str, NDArray[np.float32]] | None = None) -> None:
        """Write the file, with ``values`` replaced as in :meth:`patched`, atomically."""
        write_atomic(path, self.patched(values or {}))

    def __reduce__(self) -> tuple[Callable[[bytes], LiteModel], tuple[bytes]]:
        """Pickle the file's content: what was derived from it is derived again."""
        return LiteModel.from_bytes, (self.content,)

    def _repr_html_(self) -> str:
        from mindfl.lite.inspection import model_html

        return model_html(self)

    def summary(self) -> str:
        """Return a readable listing of inputs, outputs, nodes, tensors and parameters."""
        lines = [f"{self.name or 'model'} ({self.version}), {len(self.nodes)} nodes, {len(self.tensors)} tensors"]
        for title, indices in (("input", self.inputs), ("output", self.outputs)):
            lines += [f"  {title:<9} {_describe(self.tensors[index])}" for index in indices]
        for node in self.nodes:
            shapes = ", ".join(_shape(self.tensors[index]) for index in node.inputs)
            results = ", ".join(_shape(self.tensors[index]) for index in node.outputs)
            lines.append(f"  {node.index:>3} {node.op:<36} {shapes} -> {results}")
        for tensor in self.tensors:
            kind = "computed" if tensor.data is None else "constant"
            lines.append(f"  tensor {tensor.index:>3} {kind} {_describe(tensor)}")
        lines += [f"  parameter {_describe(tensor)}" for tensor in self.parameters.values()]
        total = sum(tensor.size for tensor in self.parameters.values())
        lines.append(f"  {total:,} trainable parameters, {len(self.content):,} bytes")
        return "\n".join(lines)


def refuse_unknown(model: LiteModel, nodes: Iterable[Node]) -> None:
    """Raise :class:`ModelFormatError` naming the operators of ``nodes`` that the runtime lacks, if any."""
    first = {node.op: node for node in reversed([node for node in nodes if not is_executed(node)])}
    if not first:
        return
    listed = [f"{node.op} (node {node.name or node.index}, {made(model, node)})" for node in reversed(first.values())]
    raise ModelFormatError(f"the model uses {', '.join(listed)}, which the runtime does not have", hint=OWN_OPERATORS)


def made(model: LiteModel, node: Node) -> str:
    """Return a description of a node's first output: its name and shape."""
    if not node.outputs:
        return "no output"
    tensor = model.tensors[node.outputs[0]]
    return f"tensor {'of that name' if tensor.name == node.name else tensor.name or tensor.index}, {_shape(tensor)}"


def _not_a_model(content: bytes) -> ModelFormatError:
    kind = file_kind(content)
    if kind is not None and (kind.is_lite or not content):
        return ModelFormatError(f"the file is {kind.name}", hint=kind.hint)
    what = f": it is {kind.name}" if kind is not None else ""
    hint = (kind.hint if kind is not None else "") or "make one with: mindfl convert"
    return ModelFormatError(f"the file is not a MindSpore Lite model (no MSL2 identifier){what}", hint=hint)


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.dims)) or "scalar"


def _describe(tensor: Tensor) -> str:
    kind = tensor.dtype.name if tensor.dtype is not None else "unknown type"
    return f"{tensor.name} {_shape(tensor)} {kind} {FORMATS.get(tensor.format, tensor.format)}"


def _decode(content: bytes) -> LiteModel:
    root = Table.root(content)
    tensors = tuple(_tensor(index, table) for index, table in enumerate(root.tables(7)))
    nodes = tuple(_node(index, table, len(tensors)) for index, table in enumerate(root.tables(6)))
    return LiteModel(
        content=content,
        name=root.string(0),
        version=root.string(1),
        inputs=_indices(root, 3, len(tensors)),
        outputs=_indices(root, 4, len(tensors)),
        nodes=nodes,
        tensors=tensors,
    )


def _indices(table: Table, slot: int, tensor_count: int) -> tuple[int, ...]:
    vector = table.array(slot, "<u4")
    indices = () if vector is None else tuple(int(item) for item in vector)
    if any(index >= tensor_count for index in indices):
        raise BrokenBufferError("a tensor index is out of range")
    return indices


def _node(index: int, table: Table, tensor_count: int) -> Node:
    primitive = table.table(2)
    tag = primitive.integer(0, "B") if primitive is not None else 0
    operator = OPERATORS.get(tag)
    node = Node(
        index=index,
        name=table.string(0),
        op=operator.name if operator else f"operator#{tag}",
        attributes=operator.read(primitive.table(1)) if operator and primitive else MappingProxyType({}),
        inputs=_indices(table, 3, tensor_count),
        outputs=_indices(table, 4, tensor_count),
    )
    if operator and (len(node.inputs) < operator.inputs or len(node.outputs) < operator.outputs):
        ends = f"{len(node.inputs)} inputs and {len(node.outputs)} outputs"
        raise BrokenBufferError(f"node {node.label} has {ends} only")
    return node


def _tensor(index: int, table: Table) -> Tensor:
    vector = table.array(2, "<i4")
    dims = () if vector is None else tuple(int(item) for item in vector)
    if len(dims) > _MAX_RANK or any(dim < 0 for dim in dims) or math.prod(dims) > 2**40:
        raise BrokenBufferError(f"tensor {index} has impossible dims {dims[:_MAX_RANK]}")
    dtype = DTYPES.get(table.integer(1))
    raw = table.array(6, "u1")
    data: NDArray[np.generic] | None = None
    if raw is not None and raw.size and dtype is not None:
        if raw.size != math.prod(dims) * dtype.itemsize:
            raise BrokenBufferError(f"tensor {index} holds {raw.size} bytes, which does not fit its dims {dims}")
        data = np.frombuffer(table.data, dtype, math.prod(dims), table.position(6)).reshape(dims)
    return Tensor(index, table.string(9), dims, dtype, table.integer(3), data, table.position(6))
