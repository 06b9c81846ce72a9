"""Samples of several inputs, targets of a regression, classes of tokens: what a session takes, computes and refuses."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import numpy as np
import pytest
from lite_handmade import Maker
from lite_writer import ModelText

from mindfl.errors import DataError, ModelFormatError
from mindfl.lite import LiteModel, Session
from mindfl.lite.model_graph import Graph

BATCH, RATE = 4, 0.1


def regression(*, named: bool = False, reduced: Literal["mean", "sum", "root"] = "mean") -> ModelText:
    """Describe: y = a A + b B of a (float32 [4, 3]) and b (int32 [4, 2]), mean squared error, SGD.

    The product with A is that of matrices, the one with B of numbers. ``reduced`` is how the loss becomes one number,
    not what is trained.
    """
    m = Maker(np.random.default_rng(1))
    a, b = m.computed(BATCH, 3, name="a"), m.computed(BATCH, 2, dtype="int32", name="b")
    targets = m.computed(BATCH, 2, name="targets")
    m.model.inputs = [targets, b, a]
    weights = [m.weight("A", 2, 3), m.weight("B", 2)]
    parts = [
        m.node("MatMulFusion", [a, weights[0]], m.computed(BATCH, 2), transpose_b=True),
        m.node("MulFusion", [b, weights[1]], m.computed(BATCH, 2)),
    ]
    y = m.node("AddFusion", parts, m.computed(BATCH, 2, name="y"))
    apart = m.node("SubFusion", [y, targets], m.computed(BATCH, 2))
    squares = m.node("Square", [apart], m.computed(BATCH, 2))
    axes = m.constant("axes", np.array([0, 1], np.int32))
    loss = m.node("ReduceFusion", [squares, axes], m.computed(1, name="loss"), mode=4 if reduced == "sum" else 0)
    if reduced == "root":
        loss = m.node("Sqrt", [loss], m.computed(1, name="root"))
    if named:
        for node in m.model.nodes[-3:]:
            node.name = f"net/_loss_fn-MSELoss/{node.op}"
    m.model.outputs = [loss]
    scale = m.constant("scale", np.array([2 / (BATCH * 2)], np.float32))
    dy = m.node("MulFusion", [apart, scale], m.computed(BATCH, 2))
    rate, zero = m.constant("rate", np.float32([RATE])), m.constant("momentum", np.float32([0]))
    products, first = m.node("MulFusion", [dy, b], m.computed(BATCH, 2)), m.constant("first", np.int32([0]))
    gradients = [
        m.node("MatMulFusion", [dy, a], m.computed(2, 3), transpose_a=True),
        m.node("ReduceFusion", [products, first], m.computed(2), mode=4),
    ]
    for weight, gradient in zip(weights, gradients, strict=True):
        text = m.model.tensors[weight]
        moment = m.constant(f"moments.{text.name}", np.zeros(text.dims, np.float32))
        m.node("ApplyMomentum", [weight, moment, rate, gradient, zero], m.computed(1), gradient_scale=1.0)
    return m.model


def loaded(text: ModelText) -> LiteModel:
    return LiteModel.from_bytes(text.write())


def samples(count: int, seed: int = 0) -> tuple[tuple[Any, Any], Any]:
    """Return samples in the order of the model's inputs, and targets."""
    rng = np.random.default_rng(seed)
    b, a = rng.integers(-3, 4, (count, 2)).astype(np.int32), rng.normal(size=(count, 3)).astype(np.float32)
    return (b, a), rng.normal(size=(count, 2)).astype(np.float32)


def predicted(weights: dict[str, Any], inputs: tuple[Any, Any]) -> Any:
    return inputs[1] @ weights["A"].T.astype(np.float64) + inputs[0] * weights["B"].astype(np.float64)


@pytest.fixture(scope="module")
def session() -> Session:
    return Session(loaded(regression()))


@pytest.mark.parametrize("count", [1, 3, 4, 6, 9])
def test_a_regression_predicts_and_tells_its_loss(session: Session, count: int) -> None:
    session.reset()
    inputs, targets = samples(count)
    expected = predicted(session.get_weights(), inputs)
    found = session.predict(inputs)
    assert found.shape == (count, 2) and found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert session.loss(inputs, targets) == pytest.approx(np.mean((expected - targets) ** 2), rel=1e-5)


def test_a_table_holds_inputs_of_both_types(session: Session) -> None:
    inputs, _ = samples(6)
    found = session.predict(np.concatenate(inputs, axis=1).astype(np.float32))
    np.testing.assert_array_equal(found, session.predict(inputs))


@pytest.mark.parametrize("count", [2, 5, 8, 9, 13])
def test_the_loss_of_a_part_of_a_batch_is_that_of_its_samples(count: int) -> None:
    """The last batch is filled for the machine, with samples that do not count."""
    inputs, targets = samples(count)
    found = {}
    ways: tuple[Literal["sum", "root"], ...] = ("sum", "root")
    for reduced in ways:
        session = Session(loaded(regression(reduced=reduced)))
        found[reduced] = session.loss(inputs, targets)
    squares = (predicted(session.get_weights(), inputs) - targets) ** 2
    assert found["sum"] == pytest.approx(squares.mean() * BATCH * 2, rel=1e-5), "of a batch, as in training"
    roots = []  # no mean of samples: the last batch has its own samples, repeated
    for first in range(0, count, BATCH):
        own = squares[first : first + BATCH]
        roots.append(np.sqrt(own[np.arange(BATCH) % len(own)].mean()) * len(own))
    assert found["root"] == pytest.approx(np.sum(roots) / count, rel=1e-5)


def test_it_trains_as_numpy_does(session: Session) -> None:
    session.reset()
    inputs, targets = samples(6)
    weights = {name: value.astype(np.float64) for name, value in session.get_weights().items()}
    losses = session.train(session.batches(inputs, steps=5), targets, steps=5)
    for step in range(5):
        rows = np.arange(step * BATCH, (step + 1) * BATCH) % 6
        b, a = inputs[0][rows], inputs[1][rows]
        apart = predicted(weights, (b, a)) - targets[rows]
        assert losses[step] == pytest.approx(np.mean(apart**2), rel=1e-5)
        gradient = apart * 2 / (BATCH * 2)
        weights = {"A": weights["A"] - RATE * gradient.T @ a, "B": weights["B"] - RATE * (gradient * b).sum(0)}
    for name, value in session.get_weights().items():
        np.testing.assert_allclose(value, weights[name], atol=1e-5)


@pytest.mark.parametrize("named", [False, True])
def test_labels_and_predictions_are_found_by_name_and_by_structure(named: bool) -> None:
    graph = Graph(loaded(regression(named=named)))
    assert graph.labels is not None
    found = (graph.labels.name, graph.label_kind, graph.logits.name, [tensor.name for tensor in graph.samples])
    assert found == ("targets", "targets", "y", ["b", "a"])
    assert (graph.outputs, graph.classes) == (2, 2)


def test_labels_of_a_type_that_the_runtime_lacks_are_refused() -> None:
    content = bytearray(regression().write())
    model = LiteModel.from_bytes(bytes(content))
    tensors = [replace(each, dtype=None) if each.name == "targets" else each for each in model.tensors]
    with pytest.raises(ModelFormatError, match="input targets holds labels of a type"):
        Graph(replace(model, tensors=tuple(tensors))).samples  # noqa: B018


def test_a_loss_with_two_inputs_of_its_own_is_refused() -> None:
    text = regression()
    scale = next(index for index, tensor in enumerate(text.tensors) if tensor.name == "scale")
    text.tensors[scale].data = None  # an input that scales the errors
    text.inputs.append(scale)
    squares = text.node("Square")
    squares.op, squares.inputs = "MulFusion", [text.node("SubFusion").outputs[0], scale]
    with pytest.raises(ModelFormatError, match="the loss reads the inputs targets, scale"):
        Graph(loaded(text)).samples  # noqa: B018


REFUSED: dict[str, tuple[Any, str]] = {
    "half of a whole number in a table": (np.full((4, 5), 0.5, np.float32), r"input b takes whole numbers .*, not 0.5"),
    "a table of two columns too few": (np.zeros((4, 3), np.float32), r"samples have shape \(3,\)"),
    "too few arrays": ((np.zeros((4, 2), np.int32),), "there are 1 arrays of samples, the model has the inputs b, a"),
    "another shape": (
        (np.zeros((4, 3), np.int32), np.zeros((4, 3), np.float32)),
        r"input b: samples have shape \(3,\), the model takes \(2,\)",
    ),
    "other counts": (
        (np.zeros((4, 2), np.int32), np.zeros((5, 3), np.float32)),
        "input a has 5 samples, b has 4",
    ),
    "numbers that are not whole": (
        (np.zeros((4, 2), np.float32), np.zeros((4, 3), np.float32)),
        r"input b takes whole numbers \(int32\), not float32",
    ),
    "numbers beyond int32": (
        (np.full((4, 2), 2**40), np.zeros((4, 3), np.float32)),
        "input b: 1099511627776 is out of range",
    ),
    "texts": ((np.zeros((4, 2), np.int32), np.full((4, 3), "x")), "input a takes numbers, not <U1"),
    "no samples": ((np.zeros((0, 2), np.int32), np.zeros((0, 3), np.float32)), "there are no samples"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_unusable_samples_are_refused(session: Session, name: str) -> None:
    given, message = REFUSED[name]
    with pytest.raises(DataError, match=message):
        session.batches(given)


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        (np.zeros((3, 2), np.float32), r"labels of shape \(3, 2\) .* the model takes numbers of shape \(4, 2\)"),
        (np.zeros(4, np.int32), r"labels of shape \(4,\)"),
        (np.full((4, 2), np.nan, np.float32), "a number that is not finite"),
        (np.full((4, 2), "x"), "labels of shape"),
    ],
)
def test_unusable_targets_are_refused(session: Session, targets: Any, message: str) -> None:
    inputs, _ = samples(4)
    with pytest.raises(DataError, match=message):
        session.train(inputs, targets)


def test_a_classifier_has_no_loss_of_its_own(tiny: Session) -> None:
    with pytest.raises(ModelFormatError, match="the model is no regression that trains"):
        tiny.loss(np.zeros((3, 9, 8, 2), np.float32), np.zeros(3, np.int32))


@pytest.fixture(scope="module")
def tiny() -> Session:
    from lite_handmade import Window, handmade

    return Session(loaded(handmade(Window((3, 3)))))
