"""Calculates the values of a MINDIR of version 1 with NumPy, in float64, for small graphs of dense layers."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mindfl.convert.mindir import Proto, operators

Array = NDArray[Any]


class Graph:
    """The values of a graph with these inputs."""

    def __init__(self, model: Proto, inputs: tuple[Array, ...]) -> None:
        self._operators = operators(model)
        self._attributes = {
            primitive.name: {attribute.name: _attribute(attribute) for attribute in primitive.attribute}
            for primitive in model.primitives
        }
        self._nodes = {name: node for node in model.graph.node for name in node.output}
        self._values: dict[str, Any] = {
            tensor.name: _tensor(tensor).astype(np.float64) for tensor in model.graph.parameter
        }
        self._values |= {value.name: array for value, array in zip(model.graph.input, inputs, strict=True)}
        self.output = model.graph.output[0].name

    def value(self, name: str) -> Any:
        """Return a value; it is calculated once."""
        if name not in self._values:
            node = self._nodes[name]
            operator = self._operators[name]
            if operator == "Constant":
                self._values[name] = _attribute(node.attribute[0])
            else:
                attributes = self._attributes[node.op_type.removeprefix("REF::")]
                read = node.input[:1] if operator in ("Depend", "Load") else node.input
                self._values[name] = FUNCTIONS[operator](attributes, *map(self.value, read))
        return self._values[name]

    def gradients(self) -> dict[str, Array]:
        """Return the gradient that each SGD node gets, by the name of its weight."""
        steps = [node for name, node in self._nodes.items() if self._operators[name] == "SGD"]
        return {node.input[0].rpartition(":")[2]: self.value(node.input[1]) for node in steps}


def _tensor(tensor: Proto) -> Array:
    kinds = {1: np.float32, 6: np.int32, 7: np.int64, 9: np.bool_}
    return np.frombuffer(tensor.raw_data, kinds[tensor.data_type]).reshape(tuple(tensor.dims))


def _attribute(attribute: Proto) -> Any:
    if attribute.type == attribute.TENSORS:
        return _tensor(attribute.tensors[0])
    if attribute.type in (attribute.TUPLE, attribute.LIST):
        return tuple(_attribute(item) for item in attribute.values)
    return {
        attribute.FLOAT: attribute.f,
        attribute.BOOL: bool(attribute.i),
        attribute.STRING: attribute.s.decode(),
    }.get(attribute.type, attribute.ints[0] if attribute.ints else attribute.i)


def _matmul(given: dict[str, Any], a: Array, b: Array) -> Array:
    return (a.T if given["transpose_a"] else a) @ (b.T if given["transpose_b"] else b)


def _softmax(x: Array, axis: Any = -1) -> Array:
    powers = np.exp(x - x.max(axis, keepdims=True))
    return powers / powers.sum(axis, keepdims=True)


def _sparse(given: dict[str, Any], scores: Array, labels: Array) -> Array:
    hot = np.eye(scores.shape[1])[labels]
    if given.get("is_grad"):
        return (_softmax(scores) - hot) / len(scores)
    return -np.log(_softmax(scores)[np.arange(len(scores)), labels]).mean()


def _one_hot_entropy(_: Any, scores: Array, labels: Array) -> tuple[Array, Array]:
    chances = _softmax(scores)
    return -(labels * np.log(chances)).sum(1), chances - labels


def _reduced(function: Callable[..., Array]) -> Callable[..., Array]:
    def reduced(given: dict[str, Any], x: Array, axes: Any) -> Array:
        return function(x, axis=tuple(np.atleast_1d(axes)) or None, keepdims=bool(given["keep_dims"]))

    return reduced


def _masked(given: dict[str, Any], begin: Any, end: Any, step: Any, size: int) -> tuple[Any, ...]:
    assert not given["ellipsis_mask"]
    assert not given["new_axis_mask"]
    places: list[Any] = []
    for i in range(size):
        if given["shrink_axis_mask"] >> i & 1:
            places.append(begin[i])
        else:
            first = None if given["begin_mask"] >> i & 1 else begin[i]
            places.append(slice(first, None if given["end_mask"] >> i & 1 else end[i], step[i]))
    return tuple(places)


def _strided(given: dict[str, Any], x: Array, begin: Any, end: Any, step: Any) -> Array:
    return x[_masked(given, begin, end, step, len(begin))]


def _strided_gradient(given: dict[str, Any], dy: Array, shape: Any, begin: Any, end: Any, step: Any) -> Array:
    dx = np.zeros(shape)
    dx[_masked(given, begin, end, step, len(begin))] = dy
    return dx


def _binary(given: dict[str, Any], p: Array, y: Array) -> Array:
    assert given["reduction"] == "mean"
    return -(y * np.log(p) + (1 - y) * np.log(1 - p)).mean()


def _windows(given: dict[str, Any], x: Array) -> Array:
    """Return the windows of a pooling without border: views [N, C, height, width, kernel height, kernel width]."""
    assert given["pad_mode"] == "VALID"
    (high, wide), (down, right) = given["kernel_size"][2:], given["strides"][2:]
    return np.lib.stride_tricks.sliding_window_view(x, (high, wide), (2, 3), writeable=True)[:, :, ::down, ::right]


def _maxima_gradient(given: dict[str, Any], x: Array, y: Array, dy: Array) -> Array:
    """Return the gradient of maxima that are each in one place."""
    dx = np.zeros_like(x)
    windows, largest = _windows(given, dx), _windows(given, x) == y[..., None, None]
    for place in np.argwhere(largest):
        windows[tuple(place)] += dy[tuple(place[:4])]
    return dx


def _sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def _hard(x: Array) -> Array:
    return np.clip(x / 6 + 0.5, 0, 1)


def _hard_slope(x: Array) -> Array:
    return np.where(np.abs(x) < 3, 1 / 6, 0)


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "Abs": lambda _, x: np.abs(x),
    "Add": lambda _, a, b: a + b,
    "AddN": lambda _, values: sum(values),
    "Argmax": lambda given, x: x.argmax(given["axis"]).astype(np.int32),
    "BatchMatMul": lambda given, a, b: (
        (a.swapaxes(-1, -2) if given["transpose_a"] else a) @ (b.swapaxes(-1, -2) if given["transpose_b"] else b)
    ),
    "BiasAdd": lambda _, x, bias: x + bias,
    "BiasAddGrad": lambda _, dy: dy.sum(0),
    "BinaryCrossEntropy": _binary,
    "BinaryCrossEntropyGrad": lambda _, p, y, dy: dy * (p - y) / (p * (1 - p)) / p.size,
    "BroadcastTo": lambda _, x, shape: np.broadcast_to(x, shape),
    "Cast": lambda _, x, kind: x.astype({35: np.int64, 34: np.int32, 43: np.float64}[int(kind)]),
    "Concat": lambda given, values: np.concatenate(values, given["axis"]),
    "Depend": lambda _, x: x,
    "Div": lambda _, a, b: a / b,
    "Equal": lambda _, a, b: a == b,
    "Erf": lambda _, x: np.vectorize(math.erf)(x),
    "Exp": lambda _, x: np.exp(x),
    "ExpandDims": lambda _, x, axis: np.expand_dims(x, axis),
    "Greater": lambda _, a, b: a > b,
    "GreaterEqual": lambda _, a, b: a >= b,
    "HSigmoid": lambda _, x: _hard(x),
    "HSigmoidGrad": lambda _, dy, x: dy * _hard_slope(x),
    "HSwish": lambda _, x: x * _hard(x),
    "HSwishGrad": lambda _, dy, x: dy * (_hard(x) + x * _hard_slope(x)),
    "Less": lambda _, a, b: a < b,
    "LessEqual": lambda _, a, b: a <= b,
    "Load": lambda _, x: x,
    "Log": lambda _, x: np.log(x),
    "LogicalAnd": lambda _, a, b: a & b,
    "LogSoftmax": lambda given, x: np.log(_softmax(x, given["axis"])),
    "MakeTuple": lambda _, *values: values,
    "MatMul": _matmul,
    "Maximum": lambda _, a, b: np.maximum(a, b),
    "MaxPool": lambda given, x: _windows(given, x).max((4, 5)),
    "MaxPoolGrad": _maxima_gradient,
    "Minimum": lambda _, a, b: np.minimum(a, b),
    "Mul": lambda _, a, b: a * b,
    "Neg": lambda _, x: -x,
    "OneHot": lambda _, index, depth, on, off: np.where(np.eye(int(depth))[index] > 0, on, off),
    "Pow": lambda _, a, b: a**b,
    "RealDiv": lambda _, a, b: a / b,
    "ReduceMax": _reduced(np.max),
    "ReduceMean": _reduced(np.mean),
    "ReduceMin": _reduced(np.min),
    "ReduceSum": _reduced(np.sum),
    "Reshape": lambda _, x, shape: x.reshape(shape),
    "Select": lambda _, mask, a, b: np.where(mask, a, b),
    "Sigmoid": lambda _, x: _sigmoid(x),
    "SigmoidCrossEntropyWithLogits": lambda _, x, y: np.maximum(x, 0) - x * y + np.log1p(np.exp(-np.abs(x))),
    "SigmoidCrossEntropyWithLogitsGrad": lambda _, x, y, dy: (_sigmoid(x) - y) * dy,
    "SigmoidGrad": lambda _, y, dy: dy * y * (1 - y),
    "Slice": lambda _, x, begin, size: x[tuple(slice(b, b + s) for b, s in zip(begin, size, strict=True))],
    "Softmax": lambda given, x: _softmax(x, given["axis"][0]),
    "Softplus": lambda _, x: np.log1p(np.exp(x)),
    "SoftmaxCrossEntropyWithLogits": _one_hot_entropy,
    "SparseSoftmaxCrossEntropyWithLogits": _sparse,
    "Split": lambda given, x: np.split(x, given["output_num"], given["axis"]),
    "Sqrt": lambda _, x: np.sqrt(x),
    "SqrtGrad": lambda _, y, dy: dy / (2 * y),
    "Square": lambda _, x: x * x,
    "Squeeze": lambda given, x: np.squeeze(x, given["axis"]),
    "Stack": lambda given, values: np.stack(values, given["axis"]),
    "StridedSlice": _strided,
    "StridedSliceGrad": _strided_gradient,
    "Sub": lambda _, a, b: a - b,
    "Tile": lambda _, x, times: np.tile(x, times),
    "Transpose": lambda _, x, axes: x.transpose(axes),
    "TupleGetItem": lambda _, values, place: values[place],
    "Unstack": lambda given, x: [np.squeeze(part, given["axis"]) for part in np.split(x, given["num"], given["axis"])],
    "ZerosLike": lambda _, x: np.zeros_like(x),
}
