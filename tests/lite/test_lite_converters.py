"""Files as other converters than MindSpore Lite 2.0.0's write them: the same network in other words."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from lite_bounds import check_model
from lite_handmade import Window, handmade
from lite_numpy import NumpyModel
from lite_reference import random_batch
from lite_variants import (
    added,
    bias_gradient_as_a_sum,
    inserted,
    named,
    one_hot_input,
    one_hot_made,
    scaled_by,
    score_gradient,
    tiled_scale,
)
from lite_writer import ModelText, NodeText, TensorText
from numpy.typing import NDArray

from mindfl.errors import ModelFormatError
from mindfl.lite import Executable, LiteModel, Session
from mindfl.lite.ops import EXECUTED
from mindfl.lite.ops.optimizer import optimizer_of
from mindfl.lite.schema import OPERATORS

Change = Callable[[ModelText], object]


def _base() -> ModelText:
    return handmade(Window((3, 3)), Window((2, 2), mode=1), Window((2, 2), (2, 2)))


def _output(m: ModelText, op: str, number: int = 0) -> TensorText:
    return m.tensors[m.node(op, number).outputs[0]]


def _shaped(tensor: TensorText, *dims: int) -> None:
    tensor.dims = list(dims)
    tensor.data = None if tensor.data is None else tensor.data.reshape(dims)


def _ones_everywhere(m: ModelText) -> None:
    """Dimensions of 1 at every tensor that is no image: before those without the batch, behind the others."""
    for tensor in m.tensors:
        if len(tensor.dims) < 4 and tensor.dtype == "float32":
            first = tensor.dims[:1] == [3]
            _shaped(tensor, *([*tensor.dims, 1, 1] if first else [1, *tensor.dims]))


def _weight_gradient(m: ModelText) -> int:
    return next(n.outputs[0] for n in m.nodes if n.attributes.get("transpose_a"))


def _scaled_from_the_left(m: ModelText) -> None:
    scaled_by(m, np.array([1], np.float32))
    m.nodes[-1].inputs.reverse()


def _without_attributes(m: ModelText) -> None:
    """Leave out what has a default: strides and dilations of 1, no padding, the window's size, a ReLU's limits."""
    for node in m.nodes:
        if node.op.startswith("Conv2D"):
            size = node.attributes["pad_mode"]
            node.attributes = {"pad_mode": size} if size == 1 else {}


def _reshaped_on_the_way(m: ModelText) -> None:
    flat, batch = _output(m, "Flatten").dims[1], 3
    inserted(m, m.node("Flatten").outputs[0], "ExpandDims", [added(m, 1, data=np.array([1], np.int32))], batch, 1, flat)
    inserted(m, m.nodes[-1].outputs[0], "Squeeze", [], batch, flat, axis=(1,))
    inserted(m, m.node("BiasAdd").outputs[0], "Depend", [m.node("Flatten").outputs[0]])
    m.node("Reshape").op = "FlattenGrad"


def _shuffled(m: ModelText) -> None:
    random.Random(5).shuffle(m.nodes)


def _unread(m: ModelText) -> None:
    """A node that nothing needs, of an operator that the runtime does not have."""
    m.nodes.insert(0, NodeText("GRU", [m.node("Flatten").outputs[0]], [added(m, 3, 4)], {}, "unread"))


SAME: dict[str, Change] = {
    "a bias gradient [1, n]": lambda m: _shaped(_output(m, "BiasAddGrad"), 1, 4),
    "a bias gradient [1, 1, 1, n]": lambda m: _shaped(_output(m, "BiasAddGrad"), 1, 1, 1, 4),
    "a bias [1, n]": lambda m: (
        _shaped(named(m, "fc.bias"), 1, 4),
        _shaped(named(m, "state.fc.bias"), 4, 1),
    ),
    "a weight [1, n, m]": lambda m: _shaped(named(m, "fc.weight"), 1, *named(m, "fc.weight").dims),
    "flat samples [batch, n, 1, 1]": lambda m: _shaped(_output(m, "Flatten"), *_output(m, "Flatten").dims, 1, 1),
    "scores [batch, 1, n]": lambda m: _shaped(_output(m, "BiasAdd"), 3, 1, 4),
    "scores [1, batch, n]": lambda m: _shaped(_output(m, "BiasAdd"), 1, 3, 4),
    "a gradient of the scores [1, batch, n, 1]": lambda m: _shaped(m.tensors[score_gradient(m)], 1, 3, 4, 1),
    "labels [batch, 1]": lambda m: _shaped(named(m, "label"), 3, 1),
    "a loss without dims": lambda m: _shaped(named(m, "loss")),
    "a loss [1, 1]": lambda m: _shaped(named(m, "loss"), 1, 1),
    "a rate [1, 1] and a momentum [1]": lambda m: (
        _shaped(named(m, "rate"), 1, 1),
        _shaped(named(m, "momentum"), 1),
    ),
    "dimensions of 1 everywhere": _ones_everywhere,
    "a scale of 1 without dims": lambda m: scaled_by(m, np.array(1, np.float32)),
    "a scale of 1 [1]": lambda m: scaled_by(m, np.ones(1, np.float32)),
    "a scale of 1 [1, 1]": lambda m: scaled_by(m, np.ones((1, 1), np.float32)),
    "a scale of 1 for each sample": lambda m: scaled_by(m, np.ones((3, 1), np.float32)),
    "a scale of 1 for each score": lambda m: scaled_by(m, np.ones(4, np.float32)),
    "a scale of 1 for each element": lambda m: scaled_by(m, np.ones((3, 4), np.float32)),
    "a scale of 1 as the first operand": _scaled_from_the_left,
    "a division by 1": lambda m: scaled_by(m, np.ones(1, np.float32), "RealDiv"),
    "a sum with 0": lambda m: scaled_by(m, np.zeros((3, 1), np.float32), "AddFusion"),
    "a difference with 0": lambda m: scaled_by(m, np.zeros(4, np.float32), "SubFusion"),
    "absent attributes": _without_attributes,
    "an activation of no kind": lambda m: inserted(m, m.node("Flatten").outputs[0], "Activation", []),
    "other shapes on the way": _reshaped_on_the_way,
    "nodes in another order": _shuffled,
    "nodes from back to front": lambda m: m.nodes.reverse(),
    "an unread node of an unknown operator": _unread,
}


def _trained(content: bytes, steps: int = 3) -> tuple[list[float], dict[str, NDArray[np.float32]], NDArray[np.float32]]:
    session = Session(check_model(LiteModel.from_bytes(content)))
    losses = [session.train_step(*random_batch(session, step)) for step in range(steps)]
    weights = {name: value.ravel() for name, value in session.get_weights().items()}
    return losses, weights, session.predict(random_batch(session, 9, 5)[0])


@pytest.mark.parametrize("name", SAME)
def test_the_same_network_in_other_words_trains_to_the_same_bits(name: str) -> None:
    changed = _base()
    SAME[name](changed)

    (losses, weights, scores), (expected_losses, expected, expected_scores) = map(
        _trained, (changed.write(), _base().write())
    )

    assert losses == expected_losses
    assert weights.keys() == expected.keys()
    assert all(np.array_equal(weights[key], value) for key, value in expected.items())
    assert np.array_equal(scores, expected_scores)


COMPUTED: dict[str, Change] = {
    "a loss scale of 1024, undone by the rate": lambda m: (
        scaled_by(m, np.full(1, 1024, np.float32)),
        scaled_by(m, np.full(1, 1024, np.float32), "DivFusion"),
    ),
    "a weight for each sample": lambda m: scaled_by(m, np.array([[0.5], [2], [1]], np.float32)),
    "a weight for each class": lambda m: scaled_by(m, np.array([0.5, 2, 1, 0], np.float32)),
    "a tiled scale": tiled_scale,
    "a bias gradient that is a sum": bias_gradient_as_a_sum,
    "one-hot labels": one_hot_input,
    "one-hot labels without a mean": lambda m: one_hot_input(m, mean=False),
    "one-hot labels that the file makes": one_hot_made,
}


@pytest.mark.parametrize("name", COMPUTED)
def test_what_other_converters_write_is_computed_as_numpy_does(name: str) -> None:
    text = _base()
    COMPUTED[name](text)
    model = LiteModel.from_bytes(text.write())
    session, expected = Session(check_model(model)), NumpyModel(model)
    for step in range(3):
        images, labels = random_batch(session, step)
        assert session.train_step(images, labels) == pytest.approx(expected.step(images, labels), abs=1e-5)
    for key, value in expected.weights().items():
        np.testing.assert_allclose(session.get_weights()[key], value, atol=1e-5, err_msg=key)
    images = random_batch(session, 9)[0]
    np.testing.assert_allclose(session.predict(images), expected.predict(images), atol=1e-5)


@pytest.mark.parametrize(
    "name", ["one-hot labels", "one-hot labels without a mean", "one-hot labels that the file makes"]
)
def test_one_hot_labels_train_as_class_numbers_do(name: str) -> None:
    text = _base()
    COMPUTED[name](text)
    (losses, weights, scores), (expected_losses, expected, expected_scores) = map(
        _trained, (text.write(), _base().write())
    )
    np.testing.assert_allclose(losses, expected_losses, rtol=1e-6)
    for key, value in expected.items():
        np.testing.assert_allclose(weights[key], value, atol=1e-6, err_msg=key)
    np.testing.assert_allclose(scores, expected_scores, atol=1e-6)


def test_labels_may_be_given_one_hot_to_any_model() -> None:
    one_hot = _base()
    one_hot_input(one_hot)
    for content in (_base().write(), one_hot.write()):
        session, other = Session(LiteModel.from_bytes(content)), Session(LiteModel.from_bytes(content))
        images, labels = random_batch(session, 1, 7)
        losses = session.train(images, labels)
        assert losses.tolist() == other.train(images, np.eye(4, dtype=np.float32)[labels]).tolist()


REFUSED: dict[str, tuple[Change, str]] = {
    "a gradient in the other order": (
        lambda m: (inserted(m, _weight_gradient(m), "Reshape", [], *reversed(named(m, "fc.weight").dims)),),
        r"ApplyMomentum.* a gradient of shape \(\d+, 4\) for a weight of shape \(4, \d+\)",
    ),
    "a scale for another number of classes": (
        lambda m: scaled_by(m, np.ones(3, np.float32)),
        r"MulFusion\d+ \(MulFusion\) uses operands of shapes \(3, 4\) and \(3,\)",
    ),
    "a bias gradient of other size": (
        lambda m: _shaped(_output(m, "BiasAddGrad"), 1, 5),
        r"BiasAddGrad.* a sum of 5",
    ),
    "a reduction of another kind": (
        lambda m: (bias_gradient_as_a_sum(m), m.node("ReduceFusion").attributes.update(mode=9)),
        r"node net/BiasAddGrad\d+ \(ReduceFusion\) uses reduction mode 9.* \(tensor t\d+, 4\)",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_compute_is_refused_by_node_operator_and_tensor(name: str) -> None:
    change, text = REFUSED[name]
    model = _base()
    change(model)
    with pytest.raises(ModelFormatError, match=text):
        Session(LiteModel.from_bytes(model.write()))


def test_each_operator_that_is_lacking_is_named_with_its_node_and_tensor() -> None:
    text = _base()
    text.node("BiasAdd").op, text.node("Activation").op = "InstanceNorm", "Elu"
    with pytest.raises(ModelFormatError) as caught:
        Session(LiteModel.from_bytes(text.write()))
    for part in (r"InstanceNorm (node net/BiasAdd", r"Elu (node net/Activation", "tensor t", "does not have"):
        assert part in str(caught.value)


def test_every_operator_of_the_schema_has_its_name() -> None:
    assert sorted(OPERATORS) == list(range(1, 221))
    names = {tag: OPERATORS[tag].name for tag in (1, 44, 75, 87, 118, 139, 162, 186, 220)}
    assert names == {
        1: "Abs",
        44: "Depend",
        75: "LayerNormFusion",
        87: "LSTM",
        118: "ReduceFusion",
        139: "SoftmaxCrossEntropyWithLogits",
        162: "Transpose",
        186: "LayerNormGrad",
        220: "AdamWeightDecay",
    }
    assert EXECUTED.keys() < {operator.name for operator in OPERATORS.values()}


def test_absent_attributes_have_the_defaults_of_the_schema() -> None:
    dropout, flatten = (next(o for o in OPERATORS.values() if o.name == name) for name in ("Dropout", "Flatten"))
    assert dict(dropout.read(None)) == {"keep_prob": 0.5}
    assert dict(flatten.read(None)) == {"axis": 1}


@pytest.mark.parametrize("name", ["momentum", "adam"])
def test_lenet_with_gradients_of_one_more_dimension_and_a_loss_scale_trains_to_the_same_bits(
    name: str, converted: Callable[..., Path]
) -> None:
    model = LiteModel.load(converted(name))
    text = ModelText.of(model)
    for node in text.nodes:
        if node.op == "BiasAddGrad":
            _shaped(text.tensors[node.outputs[0]], 1, *text.tensors[node.outputs[0]].dims)
    scaled_by(text, np.ones(1, np.float32))
    again = LiteModel.from_bytes(text.write())
    sessions = Session(model), Session(again)
    batch = random_batch(sessions[0], 3, 64)
    assert sessions[0].train(*batch).tolist() == sessions[1].train(*batch).tolist()
    for key, value in sessions[0].get_weights().items():
        assert np.array_equal(value, sessions[1].get_weights()[key])


def test_weights_are_read_from_a_file_whose_optimizer_cannot_be_executed() -> None:
    text = _base()
    for node in text.nodes:
        if node.op == "ApplyMomentum":
            node.op, node.attributes = "AdamWeightDecay", {}
    model = LiteModel.from_bytes(text.write())
    expected = LiteModel.from_bytes(_base().write()).weights
    assert all(np.array_equal(model.weights[name], value) for name, value in expected.items())
    with pytest.raises(ModelFormatError, match=r"\(AdamWeightDecay\) uses 5 inputs"):
        Session(model)
    predicting = Session(Executable(model, training=False))
    images = random_batch(predicting, 1)[0]
    assert np.array_equal(predicting.predict(images), Session(LiteModel.from_bytes(_base().write())).predict(images))


def test_adam_with_weight_decay_trains_as_in_numpy() -> None:
    """Against its formula in float64, with the gradients that plain momentum gets."""
    text = _base()
    plain = Session(LiteModel.from_bytes(text.write()))
    numbers = [added(text, data=np.array(value, np.float32)) for value in (0.01, 0.9, 0.99, 1e-6, 0.1)]
    for node in [node for node in text.nodes if node.op == "ApplyMomentum"]:
        weight, mean, _, gradient, _ = node.inputs
        dims = text.tensors[weight].dims
        variance = added(text, *dims, data=np.zeros(dims, np.float32))
        node.op, node.attributes = "AdamWeightDecay", {}
        node.inputs = [weight, mean, variance, *numbers, gradient]
    session = Session(check_model(LiteModel.from_bytes(text.write())))
    assert session.executable.learning_rates
    exact = {name: [value.astype(float), 0.0, 0.0] for name, value in session.get_weights().items()}
    plain.set_learning_rate(1)
    for step in range(3):
        before = session.get_weights()
        plain.reset()
        plain.set_learning_rate(1)
        plain.set_weights(before)
        batch = random_batch(session, step)
        plain.train_step(*batch)
        session.train_step(*batch)
        for name, value in session.get_weights().items():
            slope = before[name].astype(float) - plain.get_weights()[name]
            weight, mean, variance = exact[name]
            mean, variance = 0.9 * mean + 0.1 * slope, 0.99 * variance + 0.01 * slope**2
            weight = weight - 0.01 * (mean / (np.sqrt(variance) + 1e-6) + 0.1 * weight)
            exact[name] = [weight, mean, variance]
            large = np.abs(slope) > 1e-4  # others are lost in the rounding of the weights
            np.testing.assert_allclose(value[large], weight[large], atol=2e-4, err_msg=name)
    optimizer = optimizer_of(session.model)
    assert optimizer is not None
    assert (optimizer.name, optimizer.weight_decay) == ("adam_weight_decay", pytest.approx(0.1))
