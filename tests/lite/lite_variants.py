"""Changes that make a handmade graph one that another converter might have written."""

from __future__ import annotations

import numpy as np
from lite_handmade import LOSS
from lite_writer import ModelText, NodeText, TensorText
from numpy.typing import NDArray


def named(m: ModelText, name: str) -> TensorText:
    """Return the tensor of a name."""
    return next(tensor for tensor in m.tensors if tensor.name == name)


def added(m: ModelText, *dims: int, data: NDArray[np.generic] | None = None, name: str = "") -> int:
    """Add a tensor, a constant where ``data`` is given, and return its index."""
    dtype = "float32" if data is None else data.dtype.name
    m.tensors.append(TensorText(name or f"added{len(m.tensors)}", list(dims), dtype, data))
    return len(m.tensors) - 1


def inserted(m: ModelText, tensor: int, op: str, others: list[int], *dims: int, **attributes: object) -> int:
    """Let all readers of ``tensor`` read what ``op`` makes of it and ``others``; return that tensor."""
    out = added(m, *(dims or m.tensors[tensor].dims))
    for node in m.nodes:
        node.inputs = [out if item == tensor else item for item in node.inputs]
    m.nodes.append(NodeText(op, [tensor, *others], [out], attributes, f"Gradients/net/{op}{out}"))
    return out


def score_gradient(m: ModelText) -> int:
    """Return the tensor that holds the gradient of the scores."""
    return next(n.outputs[0] for n in m.nodes if n.op == LOSS and n.attributes.get("is_grad"))


def scaled_by(m: ModelText, scale: NDArray[np.float32], op: str = "MulFusion") -> None:
    """Let the gradient of the scores go through ``op`` with a constant."""
    constant = added(m, *scale.shape, data=scale)
    inserted(m, score_gradient(m), op, [constant])


def tiled_scale(m: ModelText) -> None:
    """What autodiff makes of a mean: one number, repeated, divided by the count, spread over the scores."""
    one, times = added(m, 1, data=np.full(1, 1.5, np.float32)), added(m, 1, data=np.array([3], np.int32))
    repeated, divided, spread = added(m, 3), added(m, 3), added(m, 3, 1)
    count, axis = added(m, 1, data=np.full(1, 3, np.float32)), added(m, 1, data=np.array([-1], np.int32))
    m.nodes.append(NodeText("TileFusion", [one, times], [repeated], {}, "Gradients/tile"))
    m.nodes.append(NodeText("RealDiv", [repeated, count], [divided], {}, "Gradients/div"))
    m.nodes.append(NodeText("ExpandDims", [divided, axis], [spread], {}, "Gradients/dims"))
    inserted(m, score_gradient(m), "MulFusion", [spread])


def bias_gradient_as_a_sum(m: ModelText) -> None:
    """A bias gradient that is a sum over the batch."""
    node = m.node("BiasAddGrad")
    node.op, node.attributes = "ReduceFusion", {"mode": 4}
    node.inputs.append(added(m, 1, data=np.array([0], np.int32)))


def one_hot_input(m: ModelText, *, mean: bool = True) -> None:
    """The loss of one-hot labels, each sample's share of it, its mean, and the gradient divided by the batch."""
    labels = named(m, "label")
    labels.dims, labels.dtype = [3, 4], "float32"
    forward = next(n for n in m.nodes if n.op == LOSS and not n.attributes.get("is_grad"))
    backward = next(n for n in m.nodes if n.op == LOSS and n.attributes.get("is_grad"))
    m.nodes.remove(backward)
    losses, gradient = added(m, 3, 1), added(m, 3, 4)
    forward.op, forward.outputs = "SoftmaxCrossEntropyWithLogits", [losses, gradient]
    share = added(m, 3, 1, data=np.full((3, 1), 1 / 3, np.float32))
    m.nodes.append(NodeText("MulFusion", [gradient, share], backward.outputs, {}, "Gradients/net/mul"))
    if mean:
        axis = added(m, 1, data=np.array([0], np.int32))
        m.nodes.append(NodeText("ReduceFusion", [losses, axis], [*m.outputs], {}, "net/_loss_fn/mean"))
    else:
        m.outputs = [losses]


def one_hot_made(m: ModelText) -> None:
    """Class numbers that the file itself turns into one-hot labels."""
    labels = m.inputs[0]
    one_hot_input(m)
    named(m, "label").dims, named(m, "label").dtype = [3], "int32"
    numbers = [np.array([4], np.int32), np.ones(1, np.float32), np.zeros(1, np.float32)]
    inserted(m, labels, "OneHot", [added(m, 1, data=number) for number in numbers], 3, 4, axis=-1)


def trained_by_sgd(m: ModelText) -> None:
    """SGD with momentum, dampening and a weight decay of its own."""
    for node in [n for n in m.nodes if n.op == "ApplyMomentum"]:
        weight, state, rate, gradient, factor = node.inputs
        first = added(m, *m.tensors[weight].dims, data=np.ones(m.tensors[weight].dims, np.float32))
        node.op, node.inputs = "SGD", [weight, gradient, rate, state, factor, first]
        node.attributes = {"dampening": 0.25, "weight_decay": 0.01}


def trained_by_adam(m: ModelText) -> None:
    """Adam whose powers of beta stay as they are."""
    numbers = [added(m, data=np.array(value, np.float32)) for value in (0.9, 0.999, 0.9, 0.999, 1e-3)]
    power1, power2, beta1, beta2, epsilon = numbers
    for node in [n for n in m.nodes if n.op == "ApplyMomentum"]:
        weight, mean, rate, gradient, _ = node.inputs
        variance = added(m, *m.tensors[weight].dims, data=np.zeros(m.tensors[weight].dims, np.float32))
        node.inputs = [weight, mean, variance, power1, power2, rate, beta1, beta2, epsilon, gradient]
        node.op = "Adam"
