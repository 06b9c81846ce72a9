"""BatchNorm: as MindSpore trains it, gradients against central differences, and running statistics."""

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

from mindfl.lite import LiteModel, Session

Layers = Callable[[Any], list[Any]]
IMAGE = (6, 5, 2)

NETWORKS: dict[str, Layers] = {
    "behind a convolution, before a ReLU": lambda nn: [
        *(nn.Conv2d(2, 5, 3, pad_mode="same"), nn.BatchNorm2d(5), nn.ReLU()),
        *(nn.Conv2d(5, 20, 3, pad_mode="same"), nn.BatchNorm2d(20, momentum=0.7, eps=1e-3), nn.ReLU()),
        *(nn.Flatten(), nn.Dense(600, 4)),
    ],
    "behind a dense layer": lambda nn: [
        *(nn.Flatten(), nn.Dense(60, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Dense(6, 4)),
    ],
    "without gamma and beta": lambda nn: [
        *(nn.Conv2d(2, 5, 3, pad_mode="valid"), nn.BatchNorm2d(5, affine=False), nn.Flatten(), nn.Dense(60, 4)),
    ],
    "with frozen statistics": lambda nn: [
        *(nn.Conv2d(2, 5, 3, pad_mode="valid"), nn.BatchNorm2d(5, use_batch_statistics=False), nn.ReLU()),
        *(nn.Flatten(), nn.Dense(60, 4)),
    ],
}


@pytest.mark.parametrize("name", NETWORKS)
def test_it_trains_as_in_mindspore(name: str, make_pair: MakePair) -> None:
    session, reference = make_pair(small_network(NETWORKS[name]), IMAGE, 5)

    batches = [random_batch(session, seed) for seed in range(20)]
    losses = [(session.train_step(*batch), reference.step(*batch)) for batch in batches]

    np.testing.assert_allclose(*zip(*losses, strict=True), atol=1e-5, rtol=0)
    moving = {} if name == "with frozen statistics" else reference.statistics()
    assert list(session.model.statistics) == sorted(moving)
    _assert_near(session.get_weights(), {**reference.weights(), **moving})
    images, _ = random_batch(session, 20, 12)
    np.testing.assert_allclose(session.predict(images), reference.predict(images), atol=1e-4, rtol=0)
    check_model(session.model)


def _assert_near(found: dict[str, NDArray[np.float32]], expected: dict[str, NDArray[np.float32]]) -> None:
    assert list(found) == sorted(expected)
    for name, value in expected.items():
        scale = np.abs(value).max()
        np.testing.assert_allclose(found[name], value, atol=1e-4 * scale, rtol=0, err_msg=name)


def test_evaluation_uses_the_running_statistics(make_pair: MakePair) -> None:
    session, _ = make_pair(small_network(NETWORKS["behind a dense layer"]), IMAGE, 5)
    images, labels = random_batch(session, 0, 5)
    one_by_one = np.concatenate([session.predict(images[n : n + 1]) for n in range(5)])
    np.testing.assert_array_equal(session.predict(images), one_by_one)
    before = {name: session.get_weights()[name] for name in session.model.statistics}
    assert all((value == (1 if "variance" in name else 0)).all() for name, value in before.items())
    session.train_step(images, labels)
    after = session.get_weights()
    assert before and all((before[name] != after[name]).all() for name in before)
    assert (session.predict(images) != one_by_one).all()


Case = dict[str, NDArray[np.float64]]
EPSILON, MOMENTUM = 1e-3, 0.25


def _network(case: Case, *, frozen: bool) -> LiteModel:
    """Return a model file: 1x1 convolution, BatchNorm, dense layer, loss; each step is w -= gradient."""
    m = Maker(np.random.default_rng(0))
    batch, height, width, inner = case["x"].shape
    channels, classes = len(case["conv"]), len(case["dense"])
    x, labels = m.computed(batch, height, width, inner, name="image"), m.computed(batch, dtype="int32", name="label")
    m.model.inputs = [x, labels]
    weights = {name: m.constant(name, case[name].astype(np.float32)) for name in ("conv", "gamma", "beta", "dense")}
    means, variances = (m.constant(name, case[name].astype(np.float32)) for name in ("mean", "variance"))
    image = (batch, height, width, channels)
    conv = {"kernel_size": (1, 1), "stride": (1, 1), "dilation": (1, 1), "pad_mode": 2, "pad_list": (0, 0, 0, 0)}
    c = m.node("Conv2DFusion", [x, weights["conv"]], m.computed(*image), **conv)
    y = m.node(
        "FusedBatchNorm", [c, weights["gamma"], weights["beta"], means, variances], m.computed(*image),
        epsilon=EPSILON, momentum=MOMENTUM, mode=int(not frozen),
    )  # fmt: skip
    saved = [m.computed(channels) for _ in range(4)]
    m.model.nodes[-1].outputs += saved
    flat = m.node("Flatten", [y], m.computed(batch, height * width * channels), axis=1)
    logits = m.node("MatMulFusion", [flat, weights["dense"]], m.computed(batch, classes), transpose_b=True)
    m.model.outputs = [m.node(LOSS, [logits, labels], m.computed(1, name="loss"))]
    dy = m.node(LOSS, [logits, labels], m.computed(batch, classes), is_grad=True)
    gradients = {"dense": m.node("MatMulFusion", [dy, flat], m.computed(*case["dense"].shape), transpose_a=True)}
    dflat = m.node("MatMulFusion", [dy, weights["dense"]], m.computed(batch, height * width * channels))
    shape = m.constant("", np.array(image, np.int32))
    dbn = m.node("Reshape", [dflat, shape], m.computed(*image))
    statistics = [means, variances] if frozen else saved[2:]
    dc = m.node(
        "BatchNormGrad", [dbn, c, weights["gamma"], *statistics, saved[1]], m.computed(*image),
        epsilon=EPSILON, is_training=not frozen,
    )  # fmt: skip
    gradients["gamma"], gradients["beta"] = m.computed(channels), m.computed(channels)
    m.model.nodes[-1].outputs += [gradients["gamma"], gradients["beta"]]
    conv |= {"stride": (1, 1, 1, 1), "dilation": (1, 1, 1, 1)}
    gradients["conv"] = m.node("Conv2DBackpropFilterFusion", [dc, x], m.computed(*case["conv"].shape), **conv)
    rate, factor = (m.constant(name, np.array(value, np.float32)) for name, value in (("rate", 1), ("momentum", 0)))
    for name, gradient in gradients.items():
        state = m.constant(f"state.{name}", np.zeros(case[name].shape, np.float32))
        m.node("ApplyMomentum", [weights[name], state, rate, gradient, factor], m.computed(1))
    return LiteModel.from_bytes(m.model.write())


def _loss(case: Case, labels: NDArray[np.int64], *, frozen: bool) -> tuple[float, Case]:
    """Return the loss and the running statistics after the step, in float64."""
    c = case["x"] @ case["conv"][:, 0, 0].T
    mean, variance = (case["mean"], case["variance"]) if frozen else (c.mean((0, 1, 2)), c.var((0, 1, 2)))
    y = (c - mean) / np.sqrt(variance + EPSILON) * case["gamma"] + case["beta"]
    logits = y.reshape(len(y), -1) @ case["dense"].T
    shifted = logits - logits.max(1, keepdims=True)
    losses = np.log(np.exp(shifted).sum(1)) - shifted[np.arange(len(y)), labels]
    count = c.size // c.shape[-1]
    unbiased = variance * count / max(count - 1, 1)
    kept = 1 if frozen else 1 - MOMENTUM
    moved = {name: kept * case[name] + (1 - kept) * new for name, new in (("mean", mean), ("variance", unbiased))}
    return float(losses.mean()), moved


sizes = st.tuples(st.sampled_from([1, 2, 3, 16, 17, 20, 32, 33]), *[st.integers(1, 4)] * 2, st.integers(1, 20))


@given(sizes, st.booleans(), st.integers(0, 2**16))
@examples(max_examples=25)
@example((1, 9, 9, 20), False, 1)
@example((40, 3, 30, 17), False, 2)
@example((2, 1, 1, 300), True, 3)
@example((1, 1, 1, 3), False, 4)
def test_gradients_are_central_differences(size: tuple[int, int, int, int], frozen: bool, seed: int) -> None:
    draw = np.random.default_rng(seed)
    batch, height, width, channels = size
    case = {
        "x": draw.uniform(-1, 1, (batch, height, width, 2)),
        "conv": draw.uniform(-1, 1, (channels, 1, 1, 2)),
        "gamma": draw.uniform(-1, 1, channels),
        "beta": draw.uniform(-1, 1, channels),
        "mean": draw.uniform(-1, 1, channels),
        "variance": draw.uniform(0.5, 2, channels),
        "dense": draw.uniform(-1, 1, (3, height * width * channels)),
    }
    case = {name: value.astype(np.float32).astype(np.float64) for name, value in case.items()}
    labels = draw.integers(0, 3, batch)
    model = _network(case, frozen=frozen)
    check_model(model)
    session = Session(model)

    loss = session.train_step(case["x"], labels)

    expected, moved = _loss(case, labels, frozen=frozen)
    np.testing.assert_allclose(loss, expected, atol=1e-4)
    trained = session.get_weights()
    for name in model.statistics:
        np.testing.assert_allclose(trained.pop(name), moved[name], atol=1e-6, err_msg=name)
    for name, value in trained.items():
        direction = draw.standard_normal(value.shape)
        gradient = float((direction * (case[name] - value)).sum())
        ends = [_loss({**case, name: case[name] + h * direction}, labels, frozen=frozen)[0] for h in (1e-5, -1e-5)]
        np.testing.assert_allclose(gradient, (ends[0] - ends[1]) / 2e-5, atol=2e-4, rtol=2e-3, err_msg=name)


@pytest.mark.slow
@pytest.mark.parametrize("trained", [True, False], ids=["trained", "frozen"])
def test_adam_makes_a_bias_before_it_of_rounding(trained: bool, make_pair: MakePair) -> None:
    """The mean takes a bias out again, so its gradient is 0: what float32 leaves of it is rounding, which Adam divides
    by its own size. All else agrees with MindSpore, and everything does where that bias is not trained."""
    torch = pytest.importorskip("torch", reason="benchmarks/requirements-torch.txt")
    network = small_network(
        lambda nn: [
            *(nn.Conv2d(2, 5, 3, pad_mode="valid", has_bias=True), nn.BatchNorm2d(5), nn.Tanh()),
            *(nn.Flatten(), nn.Dense(60, 4)),
        ]
    )
    network[0].bias.requires_grad = trained
    session, reference = make_pair(network, IMAGE, 5, "adam with decoupled decay")
    began = {name: value.copy() for name, value in reference.weights().items()}
    for seed in range(20):
        batch = random_batch(session, seed)
        assert session.train_step(*batch) == pytest.approx(reference.step(*batch), rel=1e-5)

    found, expected = session.get_weights(), reference.weights()
    if trained:
        ours, theirs = found.pop("0.bias"), expected.pop("0.bias")
        assert (ours != theirs).any() and np.abs(ours - began["0.bias"]).max() > 1e-4, "moved by rounding alone"
    _assert_near({name: found[name] for name in sorted(expected)}, expected)

    images, labels = random_batch(session, 0)
    layers = {name: torch.tensor(value, dtype=torch.float64) for name, value in began.items()}
    filters = layers["0.weight"].permute(0, 3, 1, 2)
    bias = torch.zeros(5, dtype=torch.float64, requires_grad=True)
    filters.requires_grad_()
    pixels = torch.tensor(images, dtype=torch.float64).permute(0, 3, 1, 2)
    y = torch.nn.functional.conv2d(pixels, filters, bias)
    y = torch.nn.functional.batch_norm(y, None, None, layers["1.gamma"], layers["1.beta"], training=True)
    scores = torch.nn.functional.linear(torch.tanh(y).flatten(1), layers["4.weight"], layers["4.bias"])
    torch.nn.functional.cross_entropy(scores, torch.tensor(labels).long()).backward()
    assert bias.grad.abs().max() < 1e-12 * filters.grad.abs().max()
