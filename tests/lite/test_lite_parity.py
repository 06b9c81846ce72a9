"""LeNet in the runtime against LeNet in MindSpore: the same weights and batches, 20 steps."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from lite_reference import OPTIMIZERS, MakePair, Reference, random_batch

from mindfl.lite import Session
from mindfl.models import model_spec

STEPS = 20
TOLERANCE = 1e-5


def _lenet(classes: int, channels: int, seed: int = 1) -> Any:
    return model_spec("lenet").build(classes, channels, init="lecun", seed=seed)


def _assert_parity(session: Session, reference: Reference, steps: int = STEPS, *, equal_channels: bool = False) -> None:
    losses = []
    for step in range(steps):
        images, labels = random_batch(session, step)
        if equal_channels:
            images = np.repeat(images[..., :1], images.shape[-1], axis=-1)
        losses.append((session.train_step(images, labels), reference.step(images, labels)))
    np.testing.assert_allclose(*zip(*losses, strict=True), atol=TOLERANCE, rtol=0)
    expected = reference.weights()
    assert sorted(expected) == list(session.get_weights())
    for name, value in session.get_weights().items():
        np.testing.assert_allclose(value, expected[name], atol=TOLERANCE, rtol=0, err_msg=name)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_each_optimizer_trains_lenet_as_mindspore_does(optimizer: str, make_pair: MakePair) -> None:
    _assert_parity(*make_pair(_lenet(62, 3), (32, 32, 3), 32, optimizer))


@pytest.mark.parametrize("optimizer", ["momentum", "sgd with momentum"])
def test_one_hot_labels_train_lenet_as_in_mindspore(optimizer: str, make_pair: MakePair) -> None:
    session, reference = make_pair(_lenet(62, 3), (32, 32, 3), 32, optimizer, 62)
    model = session.model
    assert [model.tensors[index].dims for index in model.inputs] == [(32, 32, 32, 3), (32, 62)]
    assert {"SoftmaxCrossEntropyWithLogits", "ReduceFusion"} <= {node.op for node in model.nodes}
    _assert_parity(session, reference)


def test_one_hot_labels_train_with_adam_as_class_numbers_do_in_mindspore(make_pair: MakePair) -> None:
    """After 20 steps MindSpore's own kernel for one-hot labels is 3e-5 away from float64, its other one 3e-6."""
    session, _ = make_pair(_lenet(62, 3), (32, 32, 3), 32, "adam", 62)
    _assert_parity(session, Reference(_lenet(62, 3), "adam"))


@pytest.mark.parametrize("batch", [1, 5])
def test_one_hot_labels_train_any_batch_of_ten_grey_classes_as_in_mindspore(batch: int, make_pair: MakePair) -> None:
    _assert_parity(*make_pair(_lenet(10, 1), (32, 32, 1), batch, "momentum", 10), 5)


@pytest.mark.parametrize("batch", [1, 4, 16, 33])
def test_each_batch_size_trains_a_ten_class_grey_lenet_as_mindspore_does(batch: int, make_pair: MakePair) -> None:
    _assert_parity(*make_pair(_lenet(10, 1), (32, 32, 1), batch))


def test_equal_channels_train_as_in_mindspore_and_may_alternate_with_colour(make_pair: MakePair) -> None:
    session, reference = make_pair(_lenet(62, 3), (32, 32, 3), 4)

    _assert_parity(session, reference, 8, equal_channels=True)
    _assert_parity(session, reference, 4)
    _assert_parity(session, reference, 8, equal_channels=True)


def test_logits_are_those_of_mindspore_for_any_number_of_images(make_pair: MakePair) -> None:
    session, reference = make_pair(_lenet(62, 3), (32, 32, 3), 4)
    for count in (1, 4, 6):
        images = random_batch(session, count, count)[0]
        np.testing.assert_allclose(session.predict(images), reference.predict(images), atol=1e-5, rtol=0)
