"""Describes the content of model files, ``.mindir`` and ``.ms``, without importing MindSpore."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mindfl.convert.mindir import (
    Proto,
    operators,
    optimizer_states,
    other_optimizer,
    parameter_name,
    parameters,
    read_mindir,
)
from mindfl.convert.rewrite import rewrite
from mindfl.errors import MindirError, StorageError
from mindfl.filekind import HEAD, file_kind
from mindfl.files import PathLike, open_file
from mindfl.lite.inspection import LOSSES, Inspection, NodeInfo, TensorInfo, inspect_ms

_DTYPES = {1: "float32", 6: "int32", 7: "int64", 9: "bool", 10: "float16", 11: "float64"}
#: operator -> name, and the positions of its inputs learning rate and momentum
_OPTIMIZERS: dict[str, tuple[str, int, int | None]] = {
    "Adam": ("adam", 5, None),
    "AdamWeightDecay": ("adam_weight_decay", 3, None),
    "ApplyMomentum": ("momentum", 2, 4),
    "SGD": ("sgd", 2, 4),
}


def inspect_model(path: PathLike) -> Inspection:
    """Return the description of a ``.ms`` or ``.mindir`` file; its type is detected from its content.

    Args:
        path: the file.

    Returns:
        Nodes, parameters, optimizer and inputs; ``summary()`` is the text that ``mindfl inspect`` prints.

    Raises:
        StorageError: the file cannot be read.
        MindirError, ModelFormatError: it is of another type, which the message names, or damaged.

    Example:
        >>> inspect_model("lenet_train.ms").batch_size
        32
    """
    try:
        with open_file(path) as file:
            kind = file_kind(file.read(HEAD))
    except OSError as error:
        raise StorageError.from_os_error(error, "read", path) from None
    return inspect_mindir(path) if kind is not None and kind.is_mindir else inspect_ms(path)


def inspect_mindir(path: PathLike) -> Inspection:
    """Return the description of the MINDIR ``path``; ``lacking`` lists the reasons why mindfl cannot convert it.

    Raises :class:`MindirError` if it cannot be read or is not a MINDIR.
    """
    model = read_mindir(path)
    types = operators(model)
    inputs = tuple(_value(value) for value in model.graph.input)
    batches = [tensor.shape[0] for tensor in inputs if tensor.shape]
    return Inspection(
        kind="mindir",
        name=str(model.graph.name),
        writer=f"{model.producer_name} {model.model_version}, MINDIR version {model.mind_ir_version}".strip(),
        inputs=inputs,
        outputs=tuple(_value(value) for value in model.graph.output),
        parameters=tuple(_parameters(model)),
        optimizer=_optimizer(model, types),
        batch_size=batches[0] if batches else None,
        loss=next((LOSSES[operator] for operator in types.values() if operator in LOSSES), None),
        nodes=tuple(_nodes(model, types)),
        lacking=tuple(_lacking(model)),
    )


def _value(value: Proto) -> TensorInfo:
    tensor = value.tensor[0] if value.tensor else None
    shape = tuple(tensor.dims) if tensor is not None else ()
    dtype = _DTYPES.get(tensor.data_type, "unknown") if tensor is not None else "unknown"
    return TensorInfo(_short(value.name), shape, dtype, "NCHW" if len(shape) == 4 else "")


def _short(name: str) -> str:
    return name.rpartition(":")[2] or name


def _parameters(model: Proto) -> Iterator[TensorInfo]:
    trained = optimizer_states(model)
    tensors = {parameter_name(tensor): tensor for tensor in model.graph.parameter}
    for name in sorted(trained):
        if (tensor := tensors.get(name)) is not None:
            shape = tuple(tensor.dims)
            dtype = _DTYPES.get(tensor.data_type, "unknown")
            yield TensorInfo(name, shape, dtype, "KCHW" if len(shape) == 4 else "")


def _optimizer(model: Proto, types: dict[str, str]) -> dict[str, Any] | None:
    try:
        values = parameters(model)
    except MindirError:  # of a type that mindfl does not read
        values = {}
    for node in model.graph.node:
        if (form := _OPTIMIZERS.get(types[node.output[0]])) is not None:
            name, rate, momentum = form
            settings = {
                "optimizer": name,
                "learning_rate": _number(values, node, rate),
                "momentum": _number(values, node, momentum),
            }
            return {key: value for key, value in settings.items() if value is not None}
    other = other_optimizer(model)
    return None if other is None else {"optimizer": other[0]}


def _number(values: dict[str, NDArray[np.generic]], node: Proto, place: int | None) -> float | None:
    if place is None or place >= len(node.input):
        return None
    value = values.get(_short(node.input[place]))
    return float(str(value.reshape(-1)[0])) if value is not None and value.size == 1 else None


def _nodes(model: Proto, types: dict[str, str]) -> Iterator[NodeInfo]:
    for node in model.graph.node:
        inputs, outputs = (tuple(map(_short, names)) for names in (node.input, node.output))
        yield NodeInfo(str(node.domain or node.name), types[node.output[0]], inputs, outputs)


def _lacking(model: Proto) -> Iterator[str]:
    if not optimizer_states(model):
        other = other_optimizer(model)
        yield f"cannot train: {'the graph has no optimizer node' if other is None else f'devices have no {other[0]}'}"
    try:
        rewrite(model)
    except MindirError as error:
        yield f"cannot be converted for training: {error}"
