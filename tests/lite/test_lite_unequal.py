"""Tensors whose shapes do not fit one another: refused when planning, or computed as NumPy broadcasts them."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import numpy as np
import pytest
from lite_bounds import check_model
from lite_handmade import LOSS, Maker, Window, handmade
from lite_nodes import run_model, run_node
from lite_writer import ModelText, NodeText, TensorText

from mindfl.errors import DataError, ModelFormatError
from mindfl.lite import LiteModel, Operator, Session, use_operators
from mindfl.lite.ops.registry import OWN


def _counting(*shape: int) -> np.ndarray:
    return np.arange(1, 1 + int(np.prod(shape)), dtype=np.float32).reshape(shape)


@pytest.mark.parametrize(("first", "second"), [((3, 1), (1, 3)), ((2, 3, 1), (2, 1, 3))])
def test_operands_that_differ_in_dimensions_of_1_are_broadcast(first: tuple[int, ...], second: tuple[int, ...]) -> None:
    a, b = _counting(*first), _counting(*second)
    (found,) = run_node("MulFusion", [a, b], [np.broadcast_shapes(first, second)])
    np.testing.assert_array_equal(found, a * b)


_LIMIT = np.full((1, 1, 1, 1), 2, np.float32)
_X = _counting(4, 2) / 9


@pytest.mark.parametrize(
    "run",
    [
        lambda: run_node("Clip", [_counting(4, 3), _LIMIT, _LIMIT], [(4, 3)], fed=[0]),
        lambda: run_node("BinaryCrossEntropy", [_X[:, :1], _X[:, :1], _counting(1, 4)], [(1,)], fed=[0], reduction=1),
        lambda: run_node("BinaryCrossEntropy", [_X[:, :1], _X[:, :1], _counting(1, 4)], [(1,)], reduction=1),
        lambda: run_node("BinaryCrossEntropy", [_X, _X, _counting(8)], [(1,)], fed=[0], reduction=1),
        lambda: run_node("BinaryCrossEntropyGrad", [_X, _X, _LIMIT], [(4, 2)], fed=[0, 1], reduction=1),
    ],
)
def test_operands_larger_than_the_result_are_refused(run: Callable[[], object]) -> None:
    with pytest.raises(ModelFormatError, match="shape"):
        run()


def _lstm(m: Maker, sizes: tuple[int, ...], tag: str) -> tuple[list[int], dict[str, object]]:
    steps, batch, width, hidden = sizes
    shapes = {"x": (steps, batch, width), "h": (1, batch, hidden), "c": (1, batch, hidden)}
    inputs = [m.weight(tag + name, *shape) for name, shape in shapes.items()]
    zeros = {"dropout": 0.0, "zoneout_cell": 0.0, "zoneout_hidden": 0.0}
    whole = {"input_size": width, "hidden_size": hidden, "num_layers": 1, "num_directions": 1}
    weight = m.weight(tag + "w", 4 * hidden * (width + hidden + 1), 1, 1)
    return [*inputs, weight], {"bidirectional": False, "has_bias": True, **whole, **zeros}


def test_the_gradient_of_an_lstm_of_other_sizes_is_refused() -> None:
    m = Maker(np.random.default_rng(0))
    inputs, attributes = _lstm(m, (2, 1, 2, 2), "small")
    outputs = [m.computed(2, 1, 2), m.computed(1, 1, 2), m.computed(1, 1, 2), m.computed(1)]
    m.node("LSTM", inputs, outputs[0], **attributes)
    m.model.nodes[-1].outputs = outputs
    steps, batch, width, hidden = sizes = (40, 4, 3, 5)
    inputs, attributes = _lstm(m, sizes, "large")
    states = [(steps, batch, hidden), (1, batch, hidden), (1, batch, hidden)]
    kept = [m.weight(f"k{index}", *shape) for index, shape in enumerate(states * 2)]
    gradients = [m.computed(steps, batch, width), *(m.computed(1, batch, hidden) for _ in range(2))]
    gradients.append(m.computed(4 * hidden * (width + hidden + 1), 1, 1))
    m.node("LSTMGrad", [*inputs, *kept, outputs[3]], gradients[0], **attributes)
    m.model.nodes[-1].outputs = gradients
    m.model.inputs.append(m.computed(1, 1))
    m.model.outputs = [gradients[0]]
    feeds = {m.model.inputs[0]: np.zeros((1, 1), np.float32)}
    with pytest.raises(ModelFormatError, match="no LSTM before it kept"):
        run_model(LiteModel.from_bytes(m.model.write()), gradients, feeds)


def _node(model: ModelText, op: str) -> NodeText:
    return next(node for node in model.nodes if node.op == op)


def _tensor(model: ModelText, name: str, dims: list[int], dtype: str = "float32", data: object = None) -> int:
    model.tensors.append(TensorText(name, dims, dtype) if data is None else TensorText(name, dims, dtype, data))
    return len(model.tensors) - 1


def _input(model: ModelText, *dims: int) -> int:
    model.inputs.append(_tensor(model, f"input{len(model.inputs)}", list(dims)))
    return model.inputs[-1]


@pytest.mark.parametrize("before", [False, True])
def test_a_pooling_gradient_of_another_image_is_refused(before: bool) -> None:
    """``before``: also the tensors that the pooling reads are said to be larger."""
    model = handmade(Window((2, 2)), pool=Window((2, 2), (2, 2)), image=(9, 9, 2), batch=3)
    check_model(LiteModel.from_bytes(model.write()))
    filters, pool, relu = (_node(model, op) for op in ("Conv2DBackpropFilterFusion", "MaxPoolGrad", "ActivationGrad"))
    model.tensors[relu.outputs[0]].dims = [3, 20, 20, 3]
    if before:
        model.tensors[pool.inputs[0]].dims = model.tensors[pool.outputs[0]].dims = [3, 20, 20, 3]
        pool.inputs[2] = _input(model, 3, 10, 10, 3)
    filters.inputs[1] = _input(model, 3, 21, 21, 2)
    with pytest.raises(ModelFormatError):
        check_model(LiteModel.from_bytes(model.write()))


def _regression(batch: int, *, labels: str, mean: bool) -> ModelText:
    """Return two convolutions and a dense layer with a squared loss; ``mean``: of each sample's mean output.

    The gradient is written as (prediction - label) * number; with ``mean`` it stays that of a cross entropy.
    """
    model = handmade(Window((3, 3)), Window((3, 3)), batch=batch, filters=3, image=(9, 8, 2))
    target, loss = model.inputs[0], model.outputs[0]
    model.tensors[target].dtype, model.tensors[target].dims = labels, [batch] if mean else [batch, 4]
    losses = [node for node in model.nodes if node.op == LOSS]
    forward = next(node for node in losses if not node.attributes.get("is_grad"))
    gradient = next(node for node in losses if node.attributes.get("is_grad"))
    prediction = forward.inputs[0]
    model.nodes.remove(forward)
    shape = [batch] if mean else [batch, 4]
    if mean:
        axis, rows = _tensor(model, "axis", [1], "int32", np.array([1], np.int32)), _tensor(model, "rows", shape)
        model.nodes.append(NodeText("ReduceFusion", [prediction, axis], [rows], {"mode": 0}, "net/mean"))
        prediction = rows
    difference, square = _tensor(model, "difference", shape), _tensor(model, "square", shape)
    axes = _tensor(model, "axes", [len(shape)], "int32", np.arange(len(shape), dtype=np.int32))
    model.nodes += [
        NodeText("SubFusion", [prediction, target], [difference], {}, "net/_loss_fn/sub"),
        NodeText("Square", [difference], [square], {}, "net/_loss_fn/square"),
        NodeText("ReduceFusion", [square, axes], [loss], {"mode": 0}, "net/_loss_fn/mean"),
    ]
    if not mean:
        model.nodes.remove(gradient)
        number = _tensor(model, "number", [1], "float32", np.array([2 / (4 * batch)], np.float32))
        model.nodes.append(NodeText("MulFusion", [difference, number], gradient.outputs, {}, "Gradients/mul"))
        first = next(node for node in model.nodes if node.op == "Conv2DFusion" and node.inputs[0] == model.inputs[1])
        bias = _tensor(model, "bias", [3], "float32", np.full(3, 0.7, np.float32))
        first.inputs = [*first.inputs, bias]
    return model


@pytest.mark.parametrize("batch", [3, 12, 16])
def test_lanes_behind_the_batch_do_not_count_in_gradients(batch: int) -> None:
    """The difference of a bias and no label is not 0 there, and filter gradients sum over whole vectors."""
    session = Session(LiteModel.from_bytes(_regression(batch, labels="float32", mean=False).write()))
    rng = np.random.default_rng(0)
    images = rng.normal(size=(batch, *session.image_shape)).astype(np.float32)
    targets = rng.normal(size=(batch, 4)).astype(np.float32)
    weights = {name: values + np.float32(0.3) for name, values in session.get_weights().items()}

    def loss(changed: dict[str, np.ndarray]) -> float:
        session.reset()
        session.set_weights(changed)
        return session.train_step(images, targets)

    loss(weights)
    gradients = {name: (weights[name] - values) / 0.1 for name, values in session.get_weights().items()}
    values = weights["conv2.weight"]
    for place in range(0, values.size, values.size // 6):
        ends = []
        for step in (1e-3, -1e-3):  # larger ones cross kinks of ReLU
            changed = {**weights, "conv2.weight": values.copy()}
            changed["conv2.weight"].reshape(-1)[place] += step
            ends.append(loss(changed))
        assert gradients["conv2.weight"].reshape(-1)[place] == pytest.approx((ends[0] - ends[1]) / 2e-3, rel=2e-2)


def test_labels_that_are_no_classes_index_nothing() -> None:
    """A file may read whole-number targets of a regression as classes: of any size, they address no memory."""
    model = LiteModel.from_bytes(_regression(3, labels="int32", mean=True).write())
    check_model(model)
    Session(model).train_step(np.ones((3, 9, 8, 2), np.float32), np.array([50_000_000, -50_000_000, 2], np.int32))


def test_targets_beyond_int32_are_refused() -> None:
    text = _regression(3, labels="int32", mean=True)
    text.nodes = [node for node in text.nodes if node.op != LOSS]
    with pytest.raises((ModelFormatError, DataError)):
        Session(LiteModel.from_bytes(text.write())).train_step(
            np.ones((3, 9, 8, 2), np.float32), np.array([2**40, 1, 2])
        )


class _Seen(Operator):
    op = "Abs"
    inputs: ClassVar[list[np.ndarray]] = []

    def run(self, node: object, x: np.ndarray) -> np.ndarray:
        self.inputs.append(x.copy())
        return np.zeros((2, 3), np.float32)


def test_a_users_operator_reads_token_ids() -> None:
    m = Maker(np.random.default_rng(0))
    ids = m.computed(2, 3, dtype="int32")
    m.model.inputs.append(ids)
    m.model.outputs = [m.computed(2, 3)]
    m.node("Abs", [ids], m.model.outputs[0])
    use_operators(_Seen)
    try:
        Session(LiteModel.from_bytes(m.model.write())).predict(np.array([[7, 8, 9], [10, 11, 12]], np.int32))
    finally:
        OWN.clear()
    assert _Seen.inputs[0].tolist() == [[7, 8, 9], [10, 11, 12]]
