"""Dropout: which elements it drops, and that training, gradient and prediction agree on them."""

from __future__ import annotations

import numpy as np
import pytest
from lite_bounds import check_model
from lite_handmade import LOSS, Maker
from lite_nodes import run_node
from numpy.typing import NDArray

from mindfl.errors import ModelFormatError
from mindfl.lite import LiteModel, Session

_BITS = 2**64 - 1
KEEP, BATCH, UNITS, CLASSES = 0.75, 5, 24, 3
Floats = NDArray[np.float32]


def _mixed(state: int) -> int:
    state = (state ^ state >> 30) * 0xBF58476D1CE4E5B9 & _BITS
    state = (state ^ state >> 27) * 0x94D049BB133111EB & _BITS
    return state ^ state >> 31


def _expected(seed: int, step: int, node: int, shape: tuple[int, ...], keep: float) -> Floats:
    """The mask by its definition; steps count from 1."""
    apart = 0x9E3779B97F4A7C15
    start = _mixed(_mixed(seed + apart & _BITS) ^ (step << 32 | node))
    draws = [_mixed(start + number * apart & _BITS) >> 32 for number in range(int(np.prod(shape)))]
    return np.array([draw < keep * 2**32 for draw in draws], np.float32).reshape(shape)


@pytest.mark.parametrize("fed", [(), (0, 1)])
def test_the_mask_is_a_function_of_the_place_in_the_file_s_order(fed: tuple[int, ...]) -> None:
    """In both layouts."""
    x = np.random.default_rng(0).normal(size=(5, 3, 7)).astype(np.float32)
    y, mask = run_node("Dropout", [x], [x.shape, x.shape], fed[:1], keep_prob=KEEP)
    np.testing.assert_array_equal(mask, _expected(0, 1, 0, x.shape, KEEP))
    np.testing.assert_allclose(y, x * mask / KEEP, rtol=1e-6)
    (dx,) = run_node("DropoutGrad", [x, mask], [x.shape], fed, keep_prob=KEEP)
    np.testing.assert_allclose(dx, x * mask / KEEP, rtol=1e-6)


def test_all_are_kept_with_a_chance_of_1() -> None:
    x = np.random.default_rng(0).normal(size=(4, 9)).astype(np.float32)
    y, mask = run_node("Dropout", [x], [x.shape, x.shape], (0,), keep_prob=1.0)
    assert (mask == 1).all() and np.array_equal(y, x)


@pytest.mark.parametrize("keep", [-0.5, 1.5, float("nan"), float("inf")])
def test_a_chance_that_is_none_is_refused(keep: float) -> None:
    x = np.ones((2, 3), np.float32)
    with pytest.raises(ModelFormatError, match="keep_prob"):
        run_node("Dropout", [x], [x.shape, x.shape], keep_prob=keep)
    with pytest.raises(ModelFormatError, match="keep_prob"):
        run_node("DropoutGrad", [x, x], [x.shape], keep_prob=keep)


def test_a_mask_of_another_size_is_refused() -> None:
    with pytest.raises(ModelFormatError, match="a mask of shape"):
        run_node("DropoutGrad", [np.ones((2, 3), np.float32), np.ones(5, np.float32)], [(2, 3)], keep_prob=KEEP)


def _model(rate: float = 1.0) -> LiteModel:
    """Dense, dropout, dense, loss, and SGD whose step is the gradient."""
    m = Maker(np.random.default_rng(0))
    x, labels = m.computed(BATCH, 6, name="x"), m.computed(BATCH, dtype="int32", name="labels")
    m.model.inputs = [x, labels]
    first, second = m.weight("first.weight", UNITS, 6), m.weight("second.weight", CLASSES, UNITS)
    hidden = m.node("MatMulFusion", [x, first], m.computed(BATCH, UNITS), transpose_b=True)
    kept, mask = m.node("Dropout", [hidden], m.computed(BATCH, UNITS), keep_prob=KEEP), m.computed(BATCH, UNITS)
    m.model.nodes[-1].outputs.append(mask)
    scores = m.node("MatMulFusion", [kept, second], m.computed(BATCH, CLASSES), transpose_b=True)
    m.model.outputs = [m.node(LOSS, [scores, labels], m.computed(1, name="loss"))]
    dscores = m.node(LOSS, [scores, labels], m.computed(BATCH, CLASSES), is_grad=True)
    dsecond = m.node("MatMulFusion", [dscores, kept], m.computed(CLASSES, UNITS), transpose_a=True)
    dkept = m.node("MatMulFusion", [dscores, second], m.computed(BATCH, UNITS))
    dhidden = m.node("DropoutGrad", [dkept, mask], m.computed(BATCH, UNITS), keep_prob=KEEP)
    dfirst = m.node("MatMulFusion", [dhidden, x], m.computed(UNITS, 6), transpose_a=True)
    numbers = [m.constant(name, np.array(number, np.float32)) for name, number in (("rate", rate), ("momentum", 0))]
    for weight, gradient in ((first, dfirst), (second, dsecond)):
        arrays = [m.constant(f"{kind}{weight}", np.zeros(m.model.tensors[weight].dims, np.float32)) for kind in "as"]
        m.node("SGD", [weight, gradient, numbers[0], arrays[0], numbers[1], arrays[1]], m.computed(1))
    return LiteModel.from_bytes(m.model.write())


X = np.random.default_rng(1).normal(size=(4 * BATCH, 6)).astype(np.float32)
Y = np.arange(4 * BATCH, dtype=np.int32) % CLASSES


def _bits(session: Session) -> bytes:
    return b"".join(value.tobytes() for value in session.get_weights().values())


def test_prediction_drops_nothing() -> None:
    session = Session(check_model(_model()))
    weights = session.get_weights()
    expected = X @ weights["first.weight"].T @ weights["second.weight"].T
    np.testing.assert_allclose(session.predict(X), expected, rtol=0, atol=1e-5)


def test_losses_are_those_of_the_masked_network() -> None:
    session = Session(_model(rate=0))
    session.set_seed(seed := 0xFEDCBA9876543210)
    weights = {name: value.astype(np.float64) for name, value in session.get_weights().items()}
    number = next(node.index for node in session.model.nodes if node.op == "Dropout")
    for step, loss in enumerate(session.train(X, Y)):
        rows = slice(step * BATCH, (step + 1) * BATCH)
        mask = _expected(seed, step + 1, number, (BATCH, UNITS), KEEP)
        scores = X[rows] @ weights["first.weight"].T * mask / KEEP @ weights["second.weight"].T
        chosen = scores[np.arange(BATCH), Y[rows]]
        assert loss == pytest.approx(np.mean(np.log(np.exp(scores).sum(1)) - chosen), abs=1e-5)


def test_the_gradient_has_the_mask_of_the_loss() -> None:
    """Central differences of losses with one seed."""
    session = Session(_model())
    start = session.get_weights()

    def loss(weights: dict[str, Floats]) -> float:
        session.set_weights(weights)
        session.set_seed(7)
        return session.train_step(X[:BATCH], Y[:BATCH])

    loss(start)
    trained = session.get_weights()
    draw = np.random.default_rng(2)
    for name, weight in start.items():
        way = draw.normal(size=weight.shape).astype(np.float32)
        ends = [loss({**start, name: weight + side * np.float32(0.01) * way}) for side in (1, -1)]
        slope = float(((weight - trained[name]).astype(np.float64) * way).sum())
        assert slope == pytest.approx((ends[0] - ends[1]) / 0.02, abs=2e-4), name


def test_the_seed_decides_and_steps_count_on() -> None:
    first, second, halves = (Session(_model()) for _ in range(3))
    for session in (first, second):
        session.set_seed(11)
        session.train(X, Y)
    halves.set_seed(11)
    halves.train(X[: 2 * BATCH], Y[: 2 * BATCH])
    halves.predict(X)
    halves.train(X[2 * BATCH :], Y[2 * BATCH :])
    assert _bits(first) == _bits(second) == _bits(halves)
    second.reset()
    second.set_seed(12)
    second.train(X, Y)
    assert _bits(first) != _bits(second)
    second.reset()
    second.set_seed(11)
    second.train(X, Y)
    assert _bits(first) == _bits(second)


def test_the_share_that_is_kept_and_that_masks_of_steps_are_independent() -> None:
    """Of 20,000 elements: 5 standard deviations of a fair draw."""
    shape = (1, 20_000)
    x = np.ones(shape, np.float32)
    masks = [run_node("Dropout", [x], [shape, shape], steps=steps, keep_prob=KEEP)[1].ravel() for steps in range(1, 6)]
    masks += [run_node("Dropout", [x], [shape, shape], steps=1, keep_prob=0.5)[1].ravel()]
    for mask, chance in zip(masks, [KEEP] * 5 + [0.5], strict=True):
        assert abs(mask.mean() - chance) < 5 * np.sqrt(chance * (1 - chance) / mask.size)
        assert abs(np.corrcoef(mask[1:], mask[:-1])[0, 1]) < 5 / np.sqrt(mask.size)
    for one in range(5):
        for other in range(one):
            assert abs(np.corrcoef(masks[one], masks[other])[0, 1]) < 5 / np.sqrt(x.size)
