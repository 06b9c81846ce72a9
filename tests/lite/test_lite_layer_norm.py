"""LayerNorm: as MindSpore trains it, and gradients against central differences."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import settings as examples
from hypothesis import strategies as st
from lite_bounds import check_model
from lite_handmade import LOSS, Maker
from lite_reference import MakePair, random_batch, small_network
from numpy.typing import NDArray

from mindfl.errors import ModelFormatError
from mindfl.lite import LiteModel, Session

Layers = Callable[[Any], list[Any]]
IMAGE = (6, 5, 2)

NETWORKS: dict[str, Layers] = {
    "of features": lambda nn: [nn.Flatten(), nn.Dense(60, 37), nn.LayerNorm((37,)), nn.ReLU(), nn.Dense(37, 4)],
    "of whole images, of channels, of rows": lambda nn: [
        *(nn.Conv2d(2, 5, 3, pad_mode="same"), nn.LayerNorm((5, 6, 5), begin_norm_axis=1, begin_params_axis=1)),
        *(nn.ReLU(), nn.LayerNorm((5,), begin_norm_axis=1, begin_params_axis=3, epsilon=1e-3)),
        *(nn.LayerNorm((5,)), nn.Flatten(), nn.Dense(150, 4)),
    ],
}


@pytest.mark.parametrize("name", NETWORKS)
def test_it_trains_as_in_mindspore(name: str, make_pair: MakePair) -> None:
    session, reference = make_pair(small_network(NETWORKS[name]), IMAGE, 5)

    batches = [random_batch(session, seed) for seed in range(20)]
    losses = [(session.train_step(*batch), reference.step(*batch)) for batch in batches]

    np.testing.assert_allclose(*zip(*losses, strict=True), atol=1e-5, rtol=0)
    expected = reference.weights()
    for parameter, value in session.get_weights().items():
        scale = np.abs(expected[parameter]).max()
        np.testing.assert_allclose(value, expected[parameter], atol=1e-4 * scale, rtol=0, err_msg=parameter)
    check_model(session.model)


Case = dict[str, NDArray[np.float64]]
EPSILON = 1e-3


def _network(case: Case, dims: tuple[int, ...], begin: int, begin_parameters: int) -> LiteModel:
    """Return a model file: dense layer, LayerNorm, dense layer, loss; each step is w -= gradient."""
    m = Maker(np.random.default_rng(0))
    (batch, inner), (width, _), classes = case["x"].shape, case["first"].shape, len(case["last"])
    x, labels = m.computed(batch, inner, name="rows"), m.computed(batch, dtype="int32", name="label")
    m.model.inputs = [x, labels]
    weights = {name: m.constant(name, value.astype(np.float32)) for name, value in case.items() if name != "x"}
    shape, flat_shape = (m.constant("", np.array(s, np.int32)) for s in (dims, (batch, width)))
    f = m.node("MatMulFusion", [x, weights["first"]], m.computed(batch, width), transpose_b=True)
    f = m.node("Reshape", [f, shape], m.computed(*dims))
    axes = {"begin_norm_axis": begin, "begin_params_axis": begin_parameters}
    y = m.node(
        "LayerNormFusion", [f, weights["gamma"], weights["beta"]], m.computed(*dims), epsilon=EPSILON,
        elementwise_affine=True, **axes,
    )  # fmt: skip
    mean, variance = (m.computed(*dims[: begin % len(dims)]) for _ in range(2))
    m.model.nodes[-1].outputs += [mean, variance]
    flat = m.node("Reshape", [y, flat_shape], m.computed(batch, width))
    logits = m.node("MatMulFusion", [flat, weights["last"]], m.computed(batch, classes), transpose_b=True)
    m.model.outputs = [m.node(LOSS, [logits, labels], m.computed(1, name="loss"))]
    dy = m.node(LOSS, [logits, labels], m.computed(batch, classes), is_grad=True)
    gradients = {"last": m.node("MatMulFusion", [dy, flat], m.computed(*case["last"].shape), transpose_a=True)}
    dflat = m.node("MatMulFusion", [dy, weights["last"]], m.computed(batch, width))
    dnorm = m.node("Reshape", [dflat, shape], m.computed(*dims))
    df = m.node("LayerNormGrad", [f, dnorm, variance, mean, weights["gamma"]], m.computed(*dims), **axes)
    for name in ("gamma", "beta"):
        gradients[name] = m.computed(*case[name].shape)
        m.model.nodes[-1].outputs.append(gradients[name])
    df = m.node("Reshape", [df, flat_shape], m.computed(batch, width))
    gradients["first"] = m.node("MatMulFusion", [df, x], m.computed(*case["first"].shape), transpose_a=True)
    rate, factor = (m.constant(name, np.array(value, np.float32)) for name, value in (("rate", 1), ("momentum", 0)))
    for name, gradient in gradients.items():
        state = m.constant(f"state.{name}", np.zeros(case[name].shape, np.float32))
        m.node("ApplyMomentum", [weights[name], state, rate, gradient, factor], m.computed(1))
    return LiteModel.from_bytes(m.model.write())


def _loss(case: Case, labels: NDArray[np.int64], dims: tuple[int, ...], begin: int) -> float:
    f = (case["x"] @ case["first"].T).reshape(dims)
    axes = tuple(range(begin % len(dims), len(dims)))
    mean, variance = f.mean(axes, keepdims=True), f.var(axes, keepdims=True)
    y = (f - mean) / np.sqrt(variance + EPSILON) * case["gamma"] + case["beta"]
    logits = y.reshape(len(labels), -1) @ case["last"].T
    shifted = logits - logits.max(1, keepdims=True)
    return float((np.log(np.exp(shifted).sum(1)) - shifted[np.arange(len(labels)), labels]).mean())


sizes = st.tuples(st.sampled_from([1, 2, 3, 16, 17, 20, 32, 33]), *[st.integers(1, 4)] * 2, st.integers(2, 20))


@given(sizes, st.sampled_from([-1, 1, 2, 3, -3]), st.sampled_from([-1, 1, 2, 3]), st.integers(0, 2**16))
@examples(max_examples=25)
@example((3, 1, 1, 312), -1, -1, 1)
@example((70, 2, 2, 5), 3, 2, 2)
@example((5, 2, 3, 16), 1, 3, 3)
def test_gradients_are_central_differences(
    dims: tuple[int, int, int, int], begin: int, begin_parameters: int, seed: int
) -> None:
    draw = np.random.default_rng(seed)
    width = int(np.prod(dims[1:]))
    parameters = dims[begin_parameters % 4 :]
    shapes = {"x": (dims[0], 3), "first": (width, 3), "gamma": parameters, "beta": parameters, "last": (3, width)}
    case = {name: draw.uniform(-1, 1, shape).astype(np.float32).astype(float) for name, shape in shapes.items()}
    labels = draw.integers(0, 3, dims[0])
    model = _network(case, dims, begin, begin_parameters)
    check_model(model)
    session = Session(model)

    loss = session.train_step(case["x"], labels)

    np.testing.assert_allclose(loss, _loss(case, labels, dims, begin), atol=1e-4)
    for name, value in session.get_weights().items():
        direction = draw.standard_normal(value.shape)
        gradient = float((direction * (case[name] - value)).sum())
        ends = [_loss({**case, name: case[name] + h * direction}, labels, dims, begin) for h in (1e-5, -1e-5)]
        np.testing.assert_allclose(gradient, (ends[0] - ends[1]) / 2e-5, atol=2e-4, rtol=2e-3, err_msg=name)


@pytest.mark.parametrize("axes", [(4, 1), (-5, 1), (1, 4)])
def test_an_axis_that_the_value_does_not_have_is_refused(axes: tuple[int, int]) -> None:
    case = {"x": np.ones((2, 3)), "first": np.ones((2, 3)), "last": np.ones((3, 2))}
    case |= {"gamma": np.ones((1, 1, 2)), "beta": np.ones((1, 1, 2))}
    model = _network(case, (2, 1, 1, 2), *axes) if axes != (-5, 1) else _network(case, (2, 1, 1, 2), 1, -5)
    with pytest.raises(ModelFormatError, match=r"\(LayerNormFusion\) uses axes"):
        Session(model)
