"""A slow executor of ``.ms`` graphs in plain numpy and float64: the meaning of each operator, without the runtime."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mindfl.algorithms import Correction
from mindfl.lite import LiteModel, Node
from mindfl.lite.ops.registry import RELU6

Array = NDArray[Any]
SAME, VALID = 1, 2
_NONE = Correction()


class NumpyModel:
    """Values of one model's float constants, changed by :meth:`step` as training changes them.

    ``margin``: how far the last step was from another gradient, see :func:`_margin`. Where that is no more than a
    rounding error, float32 may train otherwise and be right.

    ``rounded``: inputs of activations as float32 has them. Where one lies on the other side of a kink, it counts, so
    that the gradients are those of the same piece of the function; ``crossed`` counts them, and ``farthest`` is how far
    one lay from float64's.
    """

    def __init__(self, model: LiteModel) -> None:
        self.model = model
        self.margin = np.inf
        self.rounded: dict[int, Array] = {}
        self.crossed, self.farthest = 0, 0.0
        self._producers = {out: node for node in model.nodes for out in node.outputs}
        self.constants = {
            t.index: np.array(t.data, np.float64 if t.dtype == np.float32 else np.int64)
            for t in model.tensors
            if t.data is not None
        }

    def weights(self) -> dict[str, Array]:
        return {name: self.constants[tensor.index] for name, tensor in self.model.parameters.items()}

    def adopt(self, weights: Mapping[str, Array]) -> None:
        """Take over the runtime's weights, rounded as they are."""
        for name, value in self.weights().items():
            value[...] = weights[name]

    def _loss(self) -> int:
        """The output that no optimizer makes, else what the loss node makes."""
        outputs = [out for out in self.model.outputs if self._producers[out].op not in CHANGES]
        return outputs[0] if outputs else self.model.loss_nodes[0].outputs[0]

    def predict(self, images: Array) -> Array:
        """Return the logits, for an inference model its output."""
        losses = [node for node in self.model.loss_nodes if "CrossEntropy" in node.op]
        goal = losses[0].inputs[0] if losses else self.model.outputs[0]
        return self._evaluator(images, None)(goal)

    def step(self, images: Array, labels: Array, correction: Correction = _NONE) -> float:
        """Run one training step: all values are computed before any constant changes."""
        self.margin = np.inf
        evaluate = self._evaluator(images, labels)
        loss = float(np.mean(evaluate(self._loss())))
        changing = [node for node in self.model.nodes if node.op in CHANGES]
        arguments = [[evaluate(tensor) for tensor in node.inputs] for node in changing]
        for node, values in zip(changing, arguments, strict=True):
            if node.op in GRADIENTS:
                name, place = self.model.tensors[node.inputs[0]].name, GRADIENTS[node.op]
                values[place] = _corrected(correction, name, values[place], values[0])
            CHANGES[node.op](node, values)
        return loss

    def _evaluator(self, images: Array, labels: Array | None) -> Callable[[int], Array]:
        values: dict[int, Array] = dict(self.constants)
        for index in self.model.inputs:
            tensor = self.model.tensors[index]
            if tensor.dtype != np.float32:
                values[index] = np.asarray(labels)
            elif any(node.op == ONE_HOT_LOSS and node.inputs[1] == index for node in self.model.nodes):
                values[index] = np.zeros(tensor.dims)
                if labels is not None:
                    values[index].reshape(len(labels), -1)[np.arange(len(labels)), labels] = 1
            else:
                values[index] = np.asarray(images).reshape(tensor.dims)

        def evaluate(tensor: int) -> Array:
            if tensor not in values:
                node = self._producers[tensor]
                arguments = [evaluate(i) for i in node.inputs]
                if node.op in SEVERAL:
                    results = SEVERAL[node.op](node, arguments)
                else:
                    results = [OPERATORS[node.op](node, arguments, self.model.tensors[tensor].dims)]
                for out, result in zip(node.outputs, results, strict=False):
                    values[out] = self._on_its_side(out, result.reshape(self.model.tensors[out].dims))
                self.margin = min(self.margin, _margin(node, arguments[0], values[tensor]))
            return values[tensor]

        return evaluate

    def _on_its_side(self, tensor: int, value: Array) -> Array:
        if tensor not in self.rounded:
            return value
        (node,) = (node for node in self.model.nodes if node.op == "Activation" and node.inputs[0] == tensor)
        given = self.rounded[tensor]
        other = np.any([np.sign(given - kink) != np.sign(value - kink) for kink in _kinks(node)], axis=0)
        self.crossed += int(other.sum())
        self.farthest = max(self.farthest, float(np.abs(given - value).max(where=other, initial=0)))
        return np.where(other, given, value)


def _windows(node: Node, inner: tuple[int, ...], out: tuple[int, ...], pool: bool) -> tuple[list[list[int]], int, int]:
    """Return the first row and column of each window (negative above the image), per axis, and the dilation."""
    kernel = node.integers("kernel_size")
    stride = node.integers("strides" if pool else "stride")[-2:]
    dilation = (1, 1) if pool else node.integers("dilation")[-2:]
    firsts = []
    for axis in (0, 1):
        before = 0
        if node.integer("pad_mode") == SAME:
            reach = dilation[axis] * (kernel[axis] - 1) + 1
            before = max((out[axis] - 1) * stride[axis] + reach - inner[axis], 0) // 2
        elif node.integer("pad_mode") != VALID and not pool:
            before = node.integers("pad_list")[2 * axis]
        firsts.append([position * stride[axis] - before for position in range(out[axis])])
    return firsts, dilation[0], dilation[1]


def _taps(node: Node, inner: tuple[int, ...], out: tuple[int, ...]) -> Any:
    """Yield (output row, output column, tap row, tap column, image row, image column) for taps inside the image."""
    (rows, columns), dr, dc = _windows(node, inner, out, pool=True)
    kernel = node.integers("kernel_size")
    for (i, row), (j, column) in product(enumerate(rows), enumerate(columns)):
        for r, c in product(range(kernel[0]), range(kernel[1])):
            y, x = row + r * dr, column + c * dc
            if 0 <= y < inner[0] and 0 <= x < inner[1]:
                yield i, j, r, c, y, x


def _parts(node: Node, inner: tuple[int, ...], out: tuple[int, ...]) -> Any:
    """Yield, for each tap of a convolution's window, the tap, the positions in the output, and those in the image."""
    (rows, columns), dr, dc = _windows(node, inner, out, pool=False)
    for r, c in product(*map(range, node.integers("kernel_size"))):
        inside = [
            [(at, first + step) for at, first in enumerate(firsts) if 0 <= first + step < size]
            for firsts, step, size in ((rows, r * dr, inner[0]), (columns, c * dc, inner[1]))
        ]
        if all(inside):
            made, read = (np.ix_(*([pair[side] for pair in axis] for axis in inside)) for side in (0, 1))
            yield (slice(None), r, c), (slice(None), *made), (slice(None), *read)


def _fused_activation(node: Node, y: Array) -> Array:
    kind = node.integer("activation")
    return np.clip(y, 0, 6 if kind == RELU6 else None) if kind else y


def _add(node: Node, a: list[Array], dims: tuple[int, ...]) -> Array:
    return _fused_activation(node, a[0] + a[1])


def _by_group(node: Node, values: Array) -> Array:
    """Return values (..., channels) as a matrix for each group: (groups, all others, channels of the group)."""
    count = max(node.integer("group"), 1)
    groups: Array = values.reshape(-1, count, values.shape[-1] // count).swapaxes(0, 1)
    return groups


def _side_by_side(groups: Array, shape: tuple[int, ...]) -> Array:
    """Return the groups' results as values of the ``shape`` that they had, but for the channels."""
    joined: Array = groups.swapaxes(0, 1).reshape(*shape[:-1], -1)
    return joined


def _conv(node: Node, a: list[Array], dims: tuple[int, ...]) -> Array:
    result = np.zeros(dims)
    for tap, made, read in _parts(node, a[0].shape[1:3], dims[1:3]):
        x = a[0][read]
        weight = a[1][tap].reshape(max(node.integer("group"), 1), -1, a[1].shape[3])
        result[made] += _side_by_side(_by_group(node, x) @ weight.swapaxes(1, 2), x.shape)
    result += a[2] if len(a) == 3 else 0
    return _fused_activation(node, result)


def _conv_input_grad(node: Node, a: list[Array], dims: tuple[int, ...]) -> Array:
    result = np.zeros(dims)
    for tap, made, read in _parts(node, dims[1:3], a[0].shape[1:3]):
        dy = a[0][made]
        weight = a[1][tap].reshape(max(node.integer("group"), 1), -1, a[1].shape[3])
        result[read] += _side_by_side(_by_group(node, dy) @ weight, dy.shape)
    return result


def _conv_filter_grad(node: Node, a: list[Array], dims: tuple[int, ...]) -> Array:
    result = np.zeros(dims)
    for tap, made, read in _parts(node, a[1].shape[1:3], a[0].shape[1:3]):
        product_of_group = _by_group(node, a[0][made]).swapaxes(1, 2) @ _by_group(node, a[1][read])
        result[tap] += product_of_group.reshape(dims[0], dims[3])
    return result


def _batch_norm(node: Node, a: list[Array]) -> list[Array]:
    """Return the result, and the statistics of the batch twice, as MindSpore's operator does."""
    assert node.integer("mode"), "the statistics are those of the batch"
    x, gamma, beta = a[:3]
    axes = tuple(range(x.ndim - 1))
    mean, variance = x.mean(axes), x.var(axes)
    return [(x - mean) / np.sqrt(variance + node.real("epsilon")) * gamma + beta, mean, variance, mean, variance]


def _batch_norm_grad(node: Node, a: list[Array]) -> list[Array]:
    dy, x, gamma = a[:3]
    axes = tuple(range(x.ndim - 1))
    scale = 1 / np.sqrt(x.var(axes) + node.real("epsilon"))
    normal = (x - x.mean(axes)) * scale
    dgamma, dbeta = (dy * normal).sum(axes), dy.sum(axes)
    return [gamma * scale * (dy - dy.mean(axes) - normal * (dy * normal).mean(axes)), dgamma, dbeta]


def _kinks(node: Node) -> tuple[float, ...]:
    """Return the values at which the slope of an activation jumps."""
    return {0: (), RELU6: (0.0, 6.0)}.get(node.integer("type"), (0.0,))


def _activation(node: Node, a: list[Array], dims: tuple[int, ...]) -> Array:
    kinks = _kinks(node)
    return np.clip(a[0], kinks[0], kinks[1] if len(kinks) > 1 else None) if kinks else a[0]


def _activation_grad(node: Node, a: list[Array], dims: tuple[int, ...]) -> Array:
    kinks = _kinks(node)
    return np.where((a[1] > 0) & (len(kinks) < 2 or a[1] < kinks[-1]), a[0], 0) if kinks else a[0]


def _average_pool(node: Node, a: list[Array], dims: tuple[int, ...]) -> Array:
    result, count = np.zeros(dims), np.zeros(dims)
    for i, j, _, _, y, x in _taps(node, a[0].shape[1:3], dims[1:3]):
        result[:, i, j] += a[0][:, y, x]
        count[:, i, j] += 1
    return result / count


def _average_pool_grad(node: Node, a: list[Array], dims: tuple[int, ...]) -> Array:
    taps = list(_taps(node, dims[1:3], a[2].shape[1:3]))
    count = Counter((i, j) for i, j, *_ in taps)
    result = np.zeros(dims)
    for i, j, _, _, y, x in taps:
        result[:, y, x] += a[2][:, i, j] / count[i, j]
    return result


def _pool(node: Node, a: list[Array], dims: tuple[int, ...]) -> Array:
    result = np.full(dims, -np.inf)
    for i, j, _, _, y, x in _taps(node, a[0].shape[1:3], dims[1:3]):
        result[:, i, j] = np.maximum(result[:, i, j], a[0][:, y, x])
    return result


def _margin(node: Node, x: Array, y: Array) -> float:
    """Return the least distance of a ReLU's input from zero, of a pooled value from its maximum, relative to the
    largest value. Values that are exactly equal are so in any precision: borders of zeros, and zeros of a ReLU."""
    if node.op == "Activation":
        distances = np.min([np.abs(x - kink) for kink in _kinks(node) or (np.inf,)], axis=0)
    elif node.op == "MaxPoolFusion":
        taps = _taps(node, x.shape[1:3], y.shape[1:3])
        distances = np.stack([y[:, i, j] - x[:, row, column] for i, j, _, _, row, column in taps])
    else:
        return np.inf
    return float(np.min(distances, where=distances > 0, initial=np.inf) / np.abs(x).max())


def _pool_grad(node: Node, a: list[Array], dims: tuple[int, ...]) -> Array:
    x, y, dy = a
    result, given = np.zeros(dims), np.zeros(y.shape, bool)
    for i, j, _, _, row, column in _taps(node, x.shape[1:3], y.shape[1:3]):
        hit = (x[:, row, column] == y[:, i, j]) & ~given[:, i, j]
        result[:, row, column] += np.where(hit, dy[:, i, j], 0)
        given[:, i, j] |= hit
    return result


def _matmul(node: Node, a: list[Array], dims: tuple[int, ...]) -> Array:
    left = a[0].T if node.flag("transpose_a") else a[0]
    result = left @ (a[1].T if node.flag("transpose_b") else a[1]) + (a[2] if len(a) == 3 else 0)
    return np.maximum(result, 0) if node.integer("activation") else result


def _one_hot_loss(node: Node, a: list[Array]) -> list[Array]:
    logits = a[0].reshape(len(a[0]), -1)
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    softmax = exponentials / exponentials.sum(axis=1, keepdims=True)
    labels = a[1].reshape(logits.shape)
    return [-(labels * np.log(softmax)).sum(axis=1), softmax - labels]


def _reduce(node: Node, a: list[Array], dims: tuple[int, ...]) -> Array:
    axes = tuple(int(axis) for axis in a[1]) if len(a) > 1 else None
    return np.asarray((a[0].sum if node.integer("mode") else a[0].mean)(axis=axes))


def _loss(node: Node, a: list[Array], dims: tuple[int, ...]) -> Array:
    logits, labels = a
    shifted = logits - logits.max(axis=1, keepdims=True)
    logs = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    rows = np.arange(len(labels))
    if node.flag("is_grad"):
        gradient = np.exp(logs)
        gradient[rows, labels] -= 1
        return gradient / len(labels)
    return np.array([-logs[rows, labels].mean()])


def _corrected(correction: Correction, name: str, gradient: Array, weight: Array) -> Array:
    flat = correction.scale * gradient.ravel() + correction.shift.get(name, np.zeros(1))
    if name in correction.towards:
        flat += correction.pull * (weight.ravel() - correction.towards[name])
    return flat.reshape(gradient.shape)


def _momentum(node: Node, a: list[Array]) -> None:
    weight, state, rate, gradient, factor = a
    state[...] = state * factor + gradient.reshape(state.shape)
    weight -= rate * state.reshape(weight.shape)


def _sgd(node: Node, a: list[Array]) -> None:
    weight, gradient, rate, state, factor, first = a
    slope = gradient + weight * node.real("weight_decay")
    if factor > 0:
        later = state * factor + slope * (1 - node.real("dampening"))
        state[...] = slope = np.where(first > 0, slope, later)
        first[...] = 0
    weight -= rate * slope


def _adam(node: Node, a: list[Array]) -> None:
    weight, mean, variance, power1, power2, rate, beta1, beta2, epsilon, gradient = a
    mean += (gradient.reshape(mean.shape) - mean) * (1 - beta1)
    variance += (gradient.reshape(mean.shape) ** 2 - variance) * (1 - beta2)
    step = rate * np.sqrt(1 - power2) / (1 - power1) * mean / (np.sqrt(variance) + epsilon)
    weight -= step.reshape(weight.shape)


def _assign(node: Node, a: list[Array]) -> None:
    a[0][...] = a[1].reshape(a[0].shape)


ONE_HOT_LOSS = "SoftmaxCrossEntropyWithLogits"

#: operators of several outputs
SEVERAL = {ONE_HOT_LOSS: _one_hot_loss, "FusedBatchNorm": _batch_norm, "BatchNormGrad": _batch_norm_grad}

#: which input of an optimizer is the gradient
GRADIENTS = {"ApplyMomentum": 3, "SGD": 1, "Adam": 9}

CHANGES = {"ApplyMomentum": _momentum, "SGD": _sgd, "Adam": _adam, "Assign": _assign}

OPERATORS: dict[str, Callable[[Node, list[Array], tuple[int, ...]], Array]] = {
    "Activation": _activation,
    "ActivationGrad": _activation_grad,
    "AddFusion": _add,
    "AddN": lambda node, a, dims: np.sum(a, axis=0),
    "AvgPoolFusion": _average_pool,
    "AvgPoolGrad": _average_pool_grad,
    "BiasAdd": lambda node, a, dims: (a[0].reshape(-1, a[1].size) + a[1].ravel()).reshape(a[0].shape),
    "BiasAddGrad": lambda node, a, dims: a[0].reshape(-1, np.prod(dims)).sum(axis=0),
    "Conv2DBackpropFilterFusion": _conv_filter_grad,
    "Conv2DBackpropInputFusion": _conv_input_grad,
    "Conv2DFusion": _conv,
    "Depend": lambda node, a, dims: a[0],
    "DivFusion": lambda node, a, dims: a[0] / a[1],
    "ExpandDims": lambda node, a, dims: a[0].reshape(dims),
    "Flatten": lambda node, a, dims: a[0].reshape(dims),
    "FlattenGrad": lambda node, a, dims: a[0].reshape(dims),
    "MatMulFusion": _matmul,
    "MaxPoolFusion": _pool,
    "MaxPoolGrad": _pool_grad,
    "MulFusion": lambda node, a, dims: a[0] * a[1],
    "OneHot": lambda node, a, dims: np.eye(int(a[1].ravel()[0]))[a[0].ravel()],
    "RealDiv": lambda node, a, dims: a[0] / a[1],
    "ReduceFusion": _reduce,
    "Reshape": lambda node, a, dims: a[0].reshape(dims),
    "Squeeze": lambda node, a, dims: a[0].reshape(dims),
    "SubFusion": lambda node, a, dims: a[0] - a[1],
    "TileFusion": lambda node, a, dims: np.tile(a[0], a[1]),
    "Unsqueeze": lambda node, a, dims: a[0].reshape(dims),
    "SparseSoftmaxCrossEntropyWithLogits": _loss,
    "Transpose": lambda node, a, dims: a[0].transpose(a[1]),
}
