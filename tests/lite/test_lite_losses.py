"""Softmax over any axis, and losses of rows and of single scores: against NumPy in float64."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lite_nodes import run_node
from numpy.typing import NDArray
from scipy import special

from mindfl.errors import ModelFormatError

Array = NDArray[np.float64]


@settings(max_examples=40)
@given(
    dims=st.lists(st.integers(1, 7), min_size=1, max_size=4),
    batch=st.sampled_from((1, 2, 5, 16, 17)),
    place=st.integers(0, 3),
    fed=st.booleans(),
    log=st.booleans(),
)
def test_softmax_over_any_axis(dims: list[int], batch: int, place: int, fed: bool, log: bool) -> None:
    x = np.random.default_rng(1).normal(0, 5, (batch, *dims)).astype(np.float32)
    axis = place % x.ndim - (x.ndim if place > 1 else 0)
    function = special.log_softmax if log else special.softmax
    attribute: object = axis if log else (axis,)
    found = run_node("LogSoftmax" if log else "Softmax", [x], [x.shape], [0] if fed else [], axis=attribute)[0]
    np.testing.assert_allclose(found, function(x.astype(float), axis=axis), rtol=2e-6, atol=2e-6)


def test_softmax_of_large_and_infinite_scores() -> None:
    x = np.array([[1e30, 1e30, 0], [-1e30, 0, 1], [-np.inf, 0, 0], [np.nan, 0, 0], [np.inf, 0, 0]], np.float32)
    with np.errstate(all="ignore"):
        expected = special.softmax(x.astype(float), axis=1)
    for transposed in (False, True):
        inputs = np.ascontiguousarray(x.T if transposed else x)
        found = run_node("Softmax", [inputs], [inputs.shape], axis=(0 if transposed else 1,))[0]
        np.testing.assert_allclose(found.T if transposed else found, expected, atol=1e-6)


def _loss(scores: Array, labels: NDArray[np.int32]) -> float:
    return float(-special.log_softmax(scores, axis=-1)[np.arange(len(labels)), labels].mean())


@pytest.mark.parametrize("rows", [1, 5, 33])
def test_the_loss_of_rows(rows: int) -> None:
    """Its gradient is the slope in float64 by central differences."""
    rng = np.random.default_rng(1)
    scores, labels = rng.normal(0, 3, (rows, 7)).astype(np.float32), rng.integers(0, 7, rows).astype(np.int32)
    op = "SparseSoftmaxCrossEntropyWithLogits"
    loss = run_node(op, [scores, labels], [(1,)])[0]
    assert loss[0] == pytest.approx(_loss(scores.astype(float), labels), rel=1e-6)
    slopes = np.zeros(scores.shape)
    for place in np.ndindex(scores.shape):
        step = np.zeros(scores.shape)
        step[place] = 1e-5
        slopes[place] = (_loss(scores + step, labels) - _loss(scores - step, labels)) / 2e-5
    gradient = run_node(op, [scores, labels], [scores.shape], is_grad=True)[0]
    np.testing.assert_allclose(gradient, slopes, atol=1e-7)


def test_a_label_beyond_the_classes_has_no_loss_and_no_gradient() -> None:
    scores = np.random.default_rng(1).normal(size=(4, 3)).astype(np.float32)
    labels = np.array([0, 3, -1, 2], np.int32)
    op = "SparseSoftmaxCrossEntropyWithLogits"
    expected = _loss(scores[[0, 3]].astype(float), labels[[0, 3]]) / 2
    assert run_node(op, [scores, labels], [(1,)])[0][0] == pytest.approx(expected, rel=1e-6)
    gradient = run_node(op, [scores, labels], [scores.shape], is_grad=True)[0]
    assert not gradient[1:3].any() and gradient[0].any() and gradient[3].any()


def test_the_loss_of_rows_with_shares_of_classes() -> None:
    rng = np.random.default_rng(1)
    scores, labels = rng.normal(0, 3, (6, 7)).astype(np.float32), rng.dirichlet(np.ones(7), 6).astype(np.float32)
    loss, gradient = run_node("SoftmaxCrossEntropyWithLogits", [scores, labels], [(6,), (6, 7)])
    exact = special.log_softmax(scores.astype(float), axis=1)
    np.testing.assert_allclose(loss, -(labels * exact).sum(1), rtol=1e-6)
    np.testing.assert_allclose(gradient, np.exp(exact) - labels, atol=1e-6)


@pytest.mark.parametrize("axis", [-1, 0, 1])
def test_one_hot_of_any_indices(axis: int) -> None:
    indices = np.array([[0, 2, 9], [-1, 1, 3]], np.int32)
    numbers = [np.array(4, np.int32), np.array(0.5, np.float32), np.array(-1, np.float32)]
    hot = np.where(np.arange(4) == indices[..., None], 0.5, -1)
    expected = np.moveaxis(hot, -1, axis)
    assert np.array_equal(run_node("OneHot", [indices, *numbers], [expected.shape], axis=axis)[0], expected)


@pytest.mark.parametrize("reduction", [0, 1, 2])
def test_likelihood(reduction: int) -> None:
    rng = np.random.default_rng(1)
    scores, labels = rng.normal(size=(5, 4)).astype(np.float32), np.array([0, 3, 1, 1, 7], np.int32)
    weights = rng.uniform(0.5, 2, 4).astype(np.float32)
    found = np.append(weights, 0)[np.minimum(labels, 4)].astype(float)
    each = -found * np.append(scores, np.zeros((5, 1)), 1)[np.arange(5), np.minimum(labels, 4)]
    expected = (each.sum(), each.sum() / found.sum(), each)[reduction]
    shape = (5,) if reduction == 2 else (1,)
    loss, total = run_node("NLLLoss", [scores, labels, weights], [shape, (1,)], reduction=reduction)
    np.testing.assert_allclose(loss, np.reshape(expected, shape), rtol=1e-6)
    assert total[0] == pytest.approx(found.sum())
    share = rng.uniform(0.5, 2, shape).astype(np.float32)
    inputs = [scores, share, labels, weights, np.asarray(total, np.float32)]
    gradient = run_node("NLLLossGrad", inputs, [(5, 4)], reduction=reduction)[0]
    slopes = np.where(np.arange(4) == labels[:, None], -found[:, None], 0) / (found.sum() if reduction == 1 else 1)
    np.testing.assert_allclose(gradient, slopes * share[:, None], rtol=1e-6)


#: loss -> its function of scores and labels, and attributes
ELEMENTS: dict[str, tuple[Callable[[Array, Array], Array], dict[str, object]]] = {
    "SigmoidCrossEntropyWithLogits": (lambda x, z: np.logaddexp(0, x) - x * z, {}),
    "BinaryCrossEntropy": (lambda x, z: -(z * np.log(x) + (1 - z) * np.log(1 - x)), {}),
    "SmoothL1Loss": (
        lambda x, z: np.where(abs(x - z) < 0.3, (x - z) ** 2 / 0.6, abs(x - z) - 0.15),
        {"beta": 0.3},
    ),
}


@pytest.mark.parametrize("op", ELEMENTS)
@pytest.mark.parametrize("fed", [(), (0,)])
def test_losses_of_single_scores(op: str, fed: tuple[int, ...]) -> None:
    """Of each element, and their mean; the gradient is the slope in float64 by central differences."""
    function, attributes = ELEMENTS[op]
    rng = np.random.default_rng(1)
    x, labels = rng.uniform(0.05, 0.95, (2, 5, 3)).astype(np.float32)
    exact, wanted = x.astype(float), labels.astype(float)
    each = run_node(op, [x, labels], [(5, 3)], fed, **attributes)[0]
    np.testing.assert_allclose(each, function(exact, wanted), rtol=1e-5, atol=1e-6)
    slopes = (function(exact + 1e-6, wanted) - function(exact - 1e-6, wanted)) / 2e-6
    share = rng.normal(size=(5, 3)).astype(np.float32)
    places = (2,) if fed else ()
    gradient = run_node(f"{op}Grad", [x, labels, share], [(5, 3)], places, **attributes)[0]
    np.testing.assert_allclose(gradient, slopes * share, rtol=1e-4, atol=1e-5)
    if op == "BinaryCrossEntropy":
        mean = run_node(op, [x, labels], [(1,)], fed, reduction=1)[0]
        assert mean[0] == pytest.approx(function(exact, wanted).mean(), rel=1e-6)
        one = np.array([2], np.float32)
        gradient = run_node("BinaryCrossEntropyGrad", [x, labels, one], [(5, 3)], fed, reduction=1)[0]
        np.testing.assert_allclose(gradient, slopes * 2 / 15, rtol=1e-4, atol=1e-6)


def test_binary_cross_entropy_at_its_ends() -> None:
    """Logarithms are of 1e-12 at least."""
    x, labels = np.array([0, 1, 0, 1], np.float32), np.array([0, 1, 1, 0], np.float32)
    loss = run_node("BinaryCrossEntropy", [x, labels], [(4,)], reduction=2)[0]
    np.testing.assert_allclose(loss, [0, 0, -np.log(1e-12), -np.log(1e-12)], rtol=1e-6)


@pytest.mark.parametrize(
    ("op", "shapes", "attributes", "problem"),
    [
        ("Softmax", [(5, 3)], {"axis": (0, 1)}, "2 axes"),
        ("LogSoftmax", [(5, 3)], {"axis": 2}, "axis 2"),
        ("SparseSoftmaxCrossEntropyWithLogits", [(5, 3), (4,)], {}, "labels of shape"),
        ("SoftmaxCrossEntropyWithLogits", [(5, 3), (5,)], {}, "labels of shape"),
        ("SmoothL1Loss", [(5, 3), (5, 3)], {"beta": 0.0}, "a beta of 0"),
        ("NLLLoss", [(5, 3), (5,), (4,)], {}, "weights of shape"),
        ("NLLLoss", [(5, 3), (5,), (3,)], {"reduction": 3}, "reduction 3"),
    ],
)
def test_what_cannot_be_is_refused(
    op: str, shapes: list[tuple[int, ...]], attributes: dict[str, object], problem: str
) -> None:
    with pytest.raises(ModelFormatError, match=problem):
        run_node(op, [np.ones(shape, np.float32) for shape in shapes], [(5, 3)], **attributes)
