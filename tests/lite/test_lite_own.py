"""Operators of users in graphs written by hand: optimizers, constants, labels, several outputs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from lite_handmade import Window, handmade
from lite_reference import random_batch
from lite_variants import added, inserted
from lite_writer import ModelText, NodeText

from mindfl.algorithms import Correction
from mindfl.errors import OptionError
from mindfl.lite import LiteModel, Node, Operator, Session, use_operators
from mindfl.lite.ops.registry import OWN


@pytest.fixture(autouse=True)
def _no_operators_left() -> Iterator[None]:
    yield
    OWN.clear()


class Decayed(Operator):
    """A plain step with a decay of the weight."""

    op = "AdamWeightDecay"

    def run(self, node: Node, weight: Any, mean: Any, variance: Any, rate: Any, decay: Any, gradient: Any) -> None:
        mean += 1
        weight -= rate * (gradient.reshape(weight.shape) + decay * weight)


def _trained_by_decayed(m: ModelText) -> None:
    decay = added(m, data=np.array(0.5, np.float32))
    for node in [n for n in m.nodes if n.op == "ApplyMomentum"]:
        weight, mean, rate, gradient, _ = node.inputs
        variance = added(m, *m.tensors[weight].dims, data=np.zeros(m.tensors[weight].dims, np.float32))
        node.op, node.inputs = "AdamWeightDecay", [weight, mean, variance, rate, decay, gradient]


def test_an_own_optimizer_changes_its_inputs_in_place() -> None:
    text = handmade(Window((2, 2)))
    plain = Session(LiteModel.from_bytes(text.write()))
    _trained_by_decayed(text)
    use_operators(Decayed)
    session = Session(LiteModel.from_bytes(text.write()))
    images, labels = random_batch(session, 1)
    start = session.get_weights()
    session.train_step(images, labels)
    plain.train_step(images, labels)  # the first step of momentum is a plain one
    for name, value in plain.get_weights().items():
        expected = value - np.float32(0.1) * np.float32(0.5) * start[name]
        np.testing.assert_allclose(session.get_weights()[name], expected, atol=1e-7, err_msg=name)
    with pytest.raises(OptionError, match="an operator of your own trains weight"):
        session.set_correction(Correction(scale=0.5))


class Weighed(Operator):
    """Scales the scores' gradient by a number for each class of the labels, which it is given."""

    op = "GatherD"

    def run(self, node: Node, gradient: Any, factors: Any, labels: Any) -> Any:
        assert labels.dtype == np.int32 and factors.dtype == np.int32
        return gradient * factors[labels][:, None]


def test_an_operator_is_given_constants_and_labels_of_each_batch() -> None:
    text = handmade(Window((2, 2)))
    plain = LiteModel.from_bytes(text.write())
    loss = next(node for node in text.nodes if node.attributes.get("is_grad"))
    factors = added(text, 4, data=np.array([1, 0, 1, 0], np.int32))
    inserted(text, loss.outputs[0], "GatherD", [factors, text.inputs[0]])
    use_operators(Weighed())
    session, expected = Session(LiteModel.from_bytes(text.write())), Session(plain)
    images, _ = random_batch(session, 1, 6)
    session.train(images, np.array([0, 2, 0, 1, 3, 1], np.int32))
    expected.train(images[:3], np.array([0, 2, 0], np.int32))
    momentum = {t.name: t.index for t in plain.tensors if t.name.startswith("state.")}
    for name, index in momentum.items():
        own = next(t.index for t in session.model.tensors if t.name == name)
        np.testing.assert_allclose(session._view(own), np.float32(0.9) * expected._view(index), rtol=1e-6, atol=1e-9)


class Halves(Operator):
    """A node with two outputs: both halves of the scores' gradient."""

    op = "Split"

    def run(self, node: Node, x: Any) -> Any:
        return x / 4, x * 3 / 4


def test_an_operator_may_have_several_outputs() -> None:
    text = handmade(Window((2, 2)))
    expected = Session(LiteModel.from_bytes(text.write()))
    loss = next(node for node in text.nodes if node.attributes.get("is_grad"))
    whole, first, second = added(text, 3, 4), added(text, 3, 4), added(text, 3, 4)
    readers = [node for node in text.nodes if loss.outputs[0] in node.inputs]
    for node in readers:
        node.inputs = [whole if item == loss.outputs[0] else item for item in node.inputs]
    text.nodes.append(NodeText("Split", loss.outputs, [first, second], {}, "Gradients/net/split"))
    text.nodes.append(NodeText("AddN", [first, second], [whole], {}, "Gradients/net/sum"))
    use_operators([Halves])
    session = Session(LiteModel.from_bytes(text.write()))
    images, labels = random_batch(session, 1)
    assert session.train_step(images, labels) == expected.train_step(images, labels)
    for name, value in expected.get_weights().items():
        np.testing.assert_allclose(session.get_weights()[name], value, atol=1e-7, err_msg=name)
    assert np.array_equal(session.predict(images).shape, (3, 4))
