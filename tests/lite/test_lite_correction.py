"""Corrected gradients against float64, and what corrections leave as it is."""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lite_bounds import check_model
from lite_handmade import Window, handmade
from lite_numpy import NumpyModel
from lite_reference import random_batch
from lite_variants import trained_by_adam, trained_by_sgd
from lite_writer import ModelText
from numpy.typing import NDArray

from mindfl.algorithms import Correction, Training
from mindfl.errors import ModelFormatError, OptionError
from mindfl.lite import Executable, LiteModel, Session
from mindfl.lite.companion import Companion

_OPTIMIZERS: dict[str, Callable[[ModelText], None]] = {
    "momentum": lambda m: None,
    "sgd": trained_by_sgd,
    "adam": trained_by_adam,
}


def _model(optimizer: str = "momentum", classes: int = 4) -> LiteModel:
    text = handmade(Window((2, 2)), pool=Window((2, 2), (2, 2)), classes=classes)
    _OPTIMIZERS[optimizer](text)
    return LiteModel.from_bytes(text.write())


def _random(model: LiteModel, seed: int) -> dict[str, NDArray[np.float32]]:
    draw = np.random.default_rng(seed)
    return {name: draw.normal(0, 0.3, tensor.size).astype(np.float32) for name, tensor in model.parameters.items()}


def _all_fields(model: LiteModel) -> Correction:
    return Correction(scale=0.7, shift=_random(model, 1), pull=0.4, towards=_random(model, 2))


@pytest.mark.parametrize("optimizer", _OPTIMIZERS)
def test_every_optimizer_uses_the_corrected_gradient(optimizer: str) -> None:
    model = _model(optimizer)
    session, expected, correction = Session(check_model(model)), NumpyModel(model), _all_fields(model)
    session.set_correction(correction)
    for step in range(5):
        images, labels = random_batch(session, step)
        loss, expected_loss = session.train_step(images, labels), expected.step(images, labels, correction)
        assert loss == pytest.approx(expected_loss, rel=2e-6)
    for name, value in expected.weights().items():
        np.testing.assert_allclose(session.get_weights()[name], value, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("optimizer", _OPTIMIZERS)
def test_weights_move_after_the_step_of_every_optimizer(optimizer: str) -> None:
    model = _model(optimizer)
    session, expected = Session(model), NumpyModel(model)
    moves = {name: 0.1 * values for name, values in _random(model, 3).items() if "bias" not in name}
    correction = Correction(scale=0.7, after=moves)
    session.set_correction(correction)
    for step in range(4):
        images, labels = random_batch(session, step)
        session.train_step(images, labels)
        expected.step(images, labels, correction)
        expected.adopt(
            {name: w + moves[name].reshape(w.shape) if name in moves else w for name, w in expected.weights().items()}
        )
    for name, value in expected.weights().items():
        np.testing.assert_allclose(session.get_weights()[name], value, atol=1e-6, err_msg=name)


def _trained(session: Session, correction: Correction | None, steps: int = 4) -> bytes:
    session.reset()
    session.set_correction(correction)
    images, labels = random_batch(session, 3, steps * session.batch_size)
    losses = session.train(images, labels)
    return losses.tobytes() + b"".join(value.tobytes() for value in session.get_weights().values())


@pytest.mark.parametrize("optimizer", _OPTIMIZERS)
def test_what_corrects_nothing_and_an_ended_correction_train_with_plain_bits(optimizer: str) -> None:
    model = _model(optimizer)
    session = Session(model)
    plain = _trained(Session(model), None)
    assert _trained(session, Correction(after=_random(model, 1))) != plain
    neutral = Correction(towards=_random(model, 1))
    assert _trained(session, _all_fields(model)) != plain
    assert _trained(session, neutral) == plain
    assert _trained(session, _all_fields(model)) != plain
    assert _trained(session, None) == plain


@given(st.data())
@settings(max_examples=25, deadline=None)
def test_weights_that_are_not_named_are_not_corrected(data: st.DataObject) -> None:
    model = _model(data.draw(st.sampled_from(list(_OPTIMIZERS))), data.draw(st.integers(2, 20)))
    names = st.sets(st.sampled_from(sorted(model.parameters)))
    shifted, pulled = data.draw(names), data.draw(names)
    arrays = _random(model, 1)
    correction = Correction(
        scale=data.draw(st.sampled_from((1.0, 0.5))),
        shift={name: arrays[name] for name in shifted},
        pull=0.3 if pulled else 0.0,
        towards={name: arrays[name] for name in pulled},
    )
    session, expected = Session(check_model(model)), NumpyModel(model)
    session.set_correction(correction)
    images, labels = random_batch(session, 1)
    session.train_step(images, labels)
    expected.step(images, labels, correction)
    for name, value in expected.weights().items():
        np.testing.assert_allclose(session.get_weights()[name], value, atol=1e-6, err_msg=name)


def test_one_step_is_the_formula_in_float32_to_the_bit() -> None:
    model = _model()
    plain, corrected, correction = Session(model), Session(model), _all_fields(model)
    corrected.set_correction(correction)
    images, labels = random_batch(plain, 1)
    before = {name: value.ravel() for name, value in plain.get_weights().items()}
    plain.train_step(images, labels)
    corrected.train_step(images, labels)
    state = {t.name.removeprefix("state."): t.index for t in model.tensors if t.name.startswith("state.")}
    for name, weight in before.items():
        gradient = plain._view(state[name]).ravel()  # the first step's momentum is the gradient
        pulled = np.float32(0.4) * (weight - correction.towards[name])
        expected = np.float32(0.7) * gradient + correction.shift[name] + pulled
        assert np.array_equal(corrected._view(state[name]).ravel(), expected), name


def test_a_strong_pull_holds_the_weights() -> None:
    model = _model("momentum")
    session = Session(model)
    start = session.get_weights()
    images, labels = random_batch(session, 1)
    moved = {}
    for pull in (0.0, 18.0):  # with a rate of 0.1 and momentum 0.9, steps are stable below 38
        session.reset()
        session.set_correction(Correction(pull=pull, towards=start))
        session.train(images, labels, steps=200)
        moved[pull] = max(float(np.abs(value - start[name]).max()) for name, value in session.get_weights().items())
    assert moved[18.0] < 0.1 < 0.5 < moved[0.0]


def test_a_correction_holds_when_channels_become_unequal(lenet: LiteModel) -> None:
    session = Session(lenet)
    before = session.get_weights()
    images, labels = random_batch(session, 1)
    session.set_correction(Correction(scale=0))
    for batch in (np.repeat(images[..., :1], 3, axis=-1), images):
        session.train_step(batch, labels)
        assert all(np.array_equal(value, before[name]) for name, value in session.get_weights().items())


def test_threads_have_corrections_of_their_own() -> None:
    model = _model()
    corrections = [None, _all_fields(model), Correction(scale=0.1), Correction(shift=_random(model, 5))]
    expected = [_trained(Session(model), correction) for correction in corrections]
    shared, found = Executable(model), dict[int, bytes]()
    threads = [
        threading.Thread(target=lambda n=n, c=c: found.update({n: _trained(Session(shared), c)}))
        for n, c in enumerate(corrections)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[n] for n in range(4)] == expected
    assert len(set(expected)) == 4


@pytest.mark.parametrize(
    ("correction", "message"),
    [
        (Correction(shift={"fc.wight": np.zeros(4)}), "shift has 'fc.wight', which is no trained weight"),
        (Correction(pull=1, towards={"fc.bias": np.zeros(5)}), "towards has 5 values for weight fc.bias, which has 4"),
        (Correction(after={"fc.bias": np.zeros(5)}), "after has 5 values for weight fc.bias, which has 4"),
        (Correction(pull=1), "pull 1.0 without towards"),
        (Correction(pull=-0.5), "pull -0.5"),
        (Correction(scale=float("nan")), "scale nan must be finite"),
        (Correction(scale=None), "scale None and pull 0.0 must be numbers"),  # type: ignore[arg-type]
        (Correction(shift=[1]), "shift is list, not arrays by name"),  # type: ignore[arg-type]
        (Correction(after={"fc.bias": [[1], [1, 2]]}), "after of weight fc.bias is no array of numbers"),  # type: ignore[dict-item]
    ],
)
def test_a_wrong_correction_is_refused_and_changes_nothing(correction: Correction, message: str) -> None:
    model = _model()
    session, other = Session(model), Session(model)
    session.set_correction(_all_fields(model))
    other.set_correction(_all_fields(model))
    with pytest.raises(OptionError, match=message):
        session.set_correction(correction)
    images, labels = random_batch(session, 1)
    session.train_step(images, labels)
    other.train_step(images, labels)
    assert all(np.array_equal(value, other.get_weights()[name]) for name, value in session.get_weights().items())


def test_a_model_that_only_predicts_takes_no_correction() -> None:
    session = Session(Executable(_model(), training=False))
    with pytest.raises(ModelFormatError, match="not a training model"):
        session.set_correction(Correction(scale=0.5))


@pytest.mark.parametrize("optimizer", _OPTIMIZERS)
def test_two_models_in_turn_are_those_of_float64(optimizer: str) -> None:
    """The second takes its gradients at a mixture, and the first has the bits of training alone."""
    model, share, scale = _model(optimizer), 0.3, 0.7
    session, alone, start = Session(model), Session(model), _random(model, 5)
    rate = float(session.executable.constants[session.executable.learning_rates[0]])
    rows = np.arange(3 * session.batch_size) % (3 * session.batch_size - 1)  # a last batch that is filled up
    images, labels = random_batch(session, 4, rows.max() + 1)
    companion = Companion(
        session, Session(model), Training(start=start, correction=Correction(scale=scale), share=share)
    )
    companion.begin(rate)
    losses = [companion.train(session.batches(images), labels) for _ in range(2)]
    assert np.array_equal(losses, [alone.train(images, labels) for _ in range(2)])
    assert all(np.array_equal(alone.get_weights()[name], w) for name, w in session.get_weights().items())
    common, mixed = NumpyModel(model), NumpyModel(model)
    own = {name: values.astype(np.float64).reshape(common.weights()[name].shape) for name, values in start.items()}
    for batch in [*rows.reshape(3, -1)] * 2:
        mixture = {name: share * v + (1 - share) * common.weights()[name] for name, v in own.items()}
        mixed.adopt(mixture)
        mixed.step(images[batch], labels[batch], Correction(scale=scale))
        own = {name: v + mixed.weights()[name] - mixture[name] for name, v in own.items()}
        common.step(images[batch], labels[batch])
    for name, value in own.items():
        np.testing.assert_allclose(companion.weights[name], value.ravel(), atol=2e-6, err_msg=name)


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan"), None])
def test_a_share_out_of_range_is_refused(share: float | None) -> None:
    model = _model()
    with pytest.raises(OptionError, match="must be between 0 and 1"):
        Companion(Session(model), Session(model), Training(share=share))  # type: ignore[arg-type]
