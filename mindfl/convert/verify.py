"""Checks that a converted ``.ms`` file contains the model that was converted."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from numpy.typing import NDArray

from mindfl.convert.mindir import Proto, khwc, operators, optimizer_states, parameters
from mindfl.errors import ModelFormatError, VerificationError
from mindfl.lite.model import UNCONVERTED, LiteModel
from mindfl.lite.model_graph import Graph
from mindfl.lite.weight_order import khwc_weights

_HINT = "the converter does not fit this MINDIR; please report it with the output of --verbose"

#: operators that the converter does not fuse with others in a model for inference
KEPT = frozenset(
    (
        *("Adam", "AddN", "ApplyMomentum", "Assign", "AssignAdd", "BiasAdd", "BiasAddGrad", "Constant", "Conv2D"),
        *("Conv2DBackpropFilter", "Conv2DBackpropInput", "Depend", "ExpandDims", "Flatten", "Load", "MakeTuple"),
        *("MatMul", "MaxPool", "MaxPoolGrad", "Mul", "RealDiv", "ReLU", "ReduceMean", "ReluGrad", "Reshape", "SGD"),
        *("SoftmaxCrossEntropyWithLogits", "SparseSoftmaxCrossEntropyWithLogits", "TupleGetItem", "UpdateState"),
    )
)


def verify(content: bytes, source: Proto, *, train: bool) -> LiteModel:
    """Decode ``content`` and compare it with the MINDIR ``source``; return the decoded model.

    A training model must have a loss and one optimizer node per trainable parameter; every parameter, and its
    optimizer state, must hold the MINDIR's values, convolutions turned from KCHW to KHWC. In a model for inference
    with other operators than :data:`KEPT`, such as BatchNorm, values are not compared, as the converter may fuse
    them. Operators that mindfl's runtime lacks are not an error here. Raises :class:`VerificationError`
    naming the first difference.
    """
    try:
        model = LiteModel.from_bytes(content)
        difference = next(_differences(model, source, train), None)
    except ModelFormatError as error:
        raise VerificationError(f"the converted model cannot be used: {error}", hint=_HINT) from None
    if train and _has_no_loss(model):
        raise VerificationError(
            "mindfl finds no loss in the converted model: no input holds labels, and no node has the name of a loss",
            hint=f"call the attribute of the cell that computes the loss _loss_fn, and export again; or {UNCONVERTED}",
        )
    if difference is not None:
        raise VerificationError(f"the converted model is not the one that was exported: {difference}", hint=_HINT)
    return model


def _has_no_loss(model: LiteModel) -> bool:
    """Return whether neither the Lite trainer nor mindfl knows what the loss of a training graph is."""
    try:
        return not model.loss_nodes and Graph(model).loss_part is None
    except ModelFormatError:  # mindfl does not execute it
        return False


def _differences(model: LiteModel, source: Proto, train: bool) -> Iterator[str]:
    states = optimizer_states(source)
    if train:
        if sorted(model.parameters) != sorted(states):
            yield f"it trains {', '.join(model.parameters) or 'nothing'} instead of {', '.join(states)}"
        if len(model.optimizer_nodes) != len(states):
            yield f"it has {len(model.optimizer_nodes)} optimizer nodes for {len(states)} parameters"
    if train or KEPT.issuperset(operators(source).values()):
        yield from _value_differences(model, parameters(source), states)


def _value_differences(
    model: LiteModel, values: dict[str, NDArray[Any]], states: dict[str, tuple[str, ...]]
) -> Iterator[str]:
    constants = {tensor.name: tensor.data for tensor in model.tensors if tensor.data is not None}
    state_names = {name for names in states.values() for name in names}
    turned = khwc_weights(model)
    turned |= {state for name, names in states.items() if name in turned for state in names}
    for name, value in values.items():
        if name not in constants:
            if name in states or name in state_names:
                yield f"parameter {name} is missing"
            continue
        found, expected = constants[name], khwc(value) if name in turned else value
        if name not in state_names and found.shape != expected.shape:
            yield f"parameter {name} has shape {found.shape} instead of {expected.shape}"
        elif found.dtype != expected.dtype or found.tobytes() != expected.tobytes():
            yield f"parameter {name} has other values"
