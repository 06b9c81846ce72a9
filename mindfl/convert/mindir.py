"""Reads MINDIR files, MindSpore's protobuf form of a computation graph, without importing MindSpore."""

from __future__ import annotations

import importlib.util
import math
import sys
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from mindfl.errors import MindirError
from mindfl.filekind import file_kind
from mindfl.files import PathLike

# A MINDIR message (``ModelProto``, ``GraphProto``, ...); the generated classes have no static types.
Proto = Any

_PROTO_MODULE = "mindspore.train.mind_ir_pb2"

#: optimizer -> the inputs that hold its state, element by element beside the weight, which is input 0
OPTIMIZER_STATE = {"Adam": (1, 2), "AdamWeightDecay": (1, 2), "ApplyMomentum": (1,), "SGD": (3, 5)}

#: TensorProto.data_type -> NumPy type, for the types that parameters of the supported operators have
_DTYPES: dict[int, DTypeLike] = {1: np.float32, 6: np.int32, 7: np.int64, 9: np.bool_, 10: np.float16, 11: np.float64}


@cache
def mindir_protocol() -> ModuleType:
    """Return the generated protobuf module of the installed MindSpore.

    Loaded by file path: ``import mindspore`` takes seconds and brings in a library whose name clashes with the
    converter's. A copy that MindSpore has already loaded is used as it is.
    """
    if _PROTO_MODULE in sys.modules:
        return sys.modules[_PROTO_MODULE]
    package = importlib.util.find_spec("mindspore")
    if package is None or not package.submodule_search_locations:
        raise MindirError("MINDIR files cannot be read: MindSpore is not installed", hint="pip install mindspore")
    source = Path(package.submodule_search_locations[0], "train", "mind_ir_pb2.py")
    spec = importlib.util.spec_from_file_location("mindfl_mind_ir_pb2", source)
    if spec is None or spec.loader is None or not source.is_file():
        raise MindirError(f"MINDIR files cannot be read: this MindSpore has no {source}", hint="reinstall mindspore")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def read_mindir(path: PathLike) -> Proto:
    """Parse the MINDIR file ``path`` and check that it is complete.

    Returns the ``ModelProto``. Raises :class:`MindirError` if the file is missing, unreadable, empty, truncated, not a
    MINDIR, or its graph refers to undefined values.
    """
    file = Path(path)
    if file.exists() and not file.is_file():
        raise MindirError(f"{file} is not a regular file", hint="name the .mindir file itself")
    try:
        content = file.read_bytes()
    except OSError as error:
        raise MindirError(f"cannot read {file}: {error.strerror}", hint="check --modelFile") from None
    if not content:
        raise MindirError(f"{file} is empty", hint="export it again")
    model = parse_mindir(content, str(file))
    check_graph(model, str(file))
    return model


def parse_mindir(content: bytes, name: str) -> Proto:
    """Return the ``ModelProto`` in ``content``; raise :class:`MindirError` that names ``name`` if there is none."""
    from google.protobuf.message import DecodeError

    model = mindir_protocol().ModelProto()
    try:
        model.ParseFromString(content)
    except (DecodeError, ValueError, RecursionError):  # the latter two: protobuf's pure Python decoder
        raise _no_mindir(content, name, "or is cut off") from None
    if not model.graph.node or not model.graph.output:
        raise _no_mindir(content, name, "it holds no graph")
    if _holds_broken_text(model):
        raise MindirError(f"{name} is damaged: it holds text that is not UTF-8", hint="export it again")
    return model


def _no_mindir(content: bytes, name: str, otherwise: str) -> MindirError:
    kind = file_kind(content)
    if kind is not None and not kind.is_mindir:
        return MindirError(f"{name} is not a MINDIR file but {kind.name}", hint="name the exported .mindir file")
    return MindirError(f"{name} is not a MINDIR file, {otherwise}", hint="export it again")


def _holds_broken_text(message: Proto) -> bool:
    """Return whether any text is not UTF-8; some protobuf decoders return ``bytes`` then instead of an error."""
    for field, value in message.ListFields():
        if field.type not in (field.TYPE_STRING, field.TYPE_MESSAGE):
            continue
        items = [value] if isinstance(value, str | bytes) or hasattr(value, "ListFields") else value
        if field.type == field.TYPE_STRING and any(isinstance(item, bytes) for item in items):
            return True
        if field.type == field.TYPE_MESSAGE and any(_holds_broken_text(item) for item in items):
            return True
    return False


def parameter_name(tensor: Proto) -> str:
    """Return the name that the network gives a parameter; MINDIR puts the graph's name and a colon before it."""
    return str(tensor.name).rpartition(":")[2]


def parameters(model: Proto) -> dict[str, NDArray[Any]]:
    """Return the parameters, weights and optimizer state alike, by name. Arrays are read-only views of the message."""
    return {parameter_name(tensor): _values(tensor) for tensor in model.graph.parameter}


def operators(model: Proto) -> dict[str, str]:
    """Return the operator of each node, such as ``MatMul`` or ``Constant``, by the name of its first output."""
    types = {primitive.name: primitive.op_type for primitive in model.primitives}
    return {node.output[0]: types.get(node.op_type.removeprefix("REF::"), node.op_type) for node in model.graph.node}


def optimizer_states(model: Proto) -> dict[str, tuple[str, ...]]:
    """Return the names of the state parameters of each trainable parameter: those that an optimizer node updates."""
    types = operators(model)
    states: dict[str, tuple[str, ...]] = {}
    for node in model.graph.node:
        positions = OPTIMIZER_STATE.get(types[node.output[0]])
        if positions is not None and len(node.input) > max(positions):
            names = [value.rpartition(":")[2] for value in node.input]
            states[names[0]] = tuple(names[position] for position in positions)
    return states


def other_optimizer(model: Proto) -> tuple[str, str] | None:
    """Return the operator of an optimizer that is none of :data:`OPTIMIZER_STATE`, with its node; None without one.

    Its first two inputs are a parameter and the state of that.
    """
    types, names = operators(model), {tensor.name for tensor in model.graph.parameter}
    for node in model.graph.node:
        operator = types[node.output[0]]
        if operator not in OPTIMIZER_STATE and len(node.input) > 2 and names.issuperset(node.input[:2]):
            return operator, str(node.domain or node.name)
    return None


def khwc(value: NDArray[Any]) -> NDArray[Any]:
    """Transpose [out, in, height, width] to [out, height, width, in]; other shapes are unchanged."""
    return np.ascontiguousarray(value.transpose(0, 2, 3, 1)) if value.ndim == 4 else value


def _values(tensor: Proto) -> NDArray[Any]:
    dtype = _DTYPES.get(tensor.data_type)
    if dtype is None:
        raise MindirError(f"parameter {parameter_name(tensor)} has an unsupported data type ({tensor.data_type})")
    return np.frombuffer(tensor.raw_data, dtype).reshape(tuple(tensor.dims))


def check_graph(model: Proto, name: str) -> None:
    """Raise :class:`MindirError` if the graph reads undefined values, or a parameter is incomplete."""
    graph = model.graph
    known = {value.name for value in graph.input} | {tensor.name for tensor in graph.parameter}
    known |= {function.name for function in model.functions}
    for node in graph.node:
        if not node.output or (node.op_type == "Constant" and not node.attribute):
            raise MindirError(f"{name} is damaged: node {node.name} has no output")
        known.update(node.output)
    for node in graph.node:
        for value in node.input:
            if value not in known:
                raise MindirError(f"{name} is damaged: node {node.name} reads {value}, which is not defined")
    for tensor in graph.parameter:
        dtype = _DTYPES.get(tensor.data_type)
        if dtype is None:
            continue
        expected = math.prod(tensor.dims) * np.dtype(dtype).itemsize
        if len(tensor.raw_data) != expected or any(size < 0 for size in tensor.dims):
            what = f"parameter {parameter_name(tensor)} has {len(tensor.raw_data)} bytes, not {expected}"
            raise MindirError(
                f"{name} is damaged: {what}",
                hint="weights kept in separate files are not supported" if tensor.HasField("external_data") else "",
            )
