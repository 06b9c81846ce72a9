"""ONNX's declaration of a network's outputs, which MindSpore writes with the batch size that it exported with."""

from __future__ import annotations

from functools import cache
from typing import Any

from mindfl.protobuf import message_class

_MESSAGES = {
    "Model": ((7, "graph", "Graph", "optional"),),
    "Graph": ((12, "output", "Value", "repeated"),),
    "Value": ((2, "type", "Type", "optional"),),
    "Type": ((1, "tensor", "TensorType", "optional"),),
    "TensorType": ((2, "shape", "Shape", "optional"),),
    "Shape": ((1, "dim", "Dim", "repeated"),),
    "Dim": ((1, "value", "int64", "optional"), (2, "symbol", "string", "optional")),
}


def with_symbolic_batch(content: bytes, symbol: str) -> bytes:
    """Return the ONNX model ``content`` with ``symbol`` as the first dimension of each output."""
    model = _model_class()()
    model.ParseFromString(content)
    for output in model.graph.output:
        batch = output.type.tensor.shape.dim[0]
        batch.ClearField("value")
        batch.symbol = symbol
    changed: bytes = model.SerializeToString()
    return changed


@cache
def _model_class() -> Any:
    return message_class("mindfl.onnx", _MESSAGES, "Model")
