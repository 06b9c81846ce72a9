"""LSTM layers: against a program in float64 that only goes forward, and its central differences."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from lite_handmade import Maker
from lite_nodes import run_model
from numpy.typing import NDArray

from mindfl.errors import ModelFormatError
from mindfl.lite import LiteModel

Wide = NDArray[np.float64]
Sizes = tuple[int, int, int, int]
#: inputs whose gradients LSTMGrad computes, in its order
_INPUTS = ("x", "h0", "c0", "weights")
_OUTPUTS = ("y", "hn", "cn")


def _drawn(sizes: Sizes, biased: bool, scale: float = 0.5) -> dict[str, NDArray[np.float32]]:
    time, batch, inputs, hidden = sizes
    state, sequence = (1, batch, hidden), (time, batch, hidden)
    shapes = {
        **{"x": (time, batch, inputs), "h0": state, "c0": state},
        "weights": (4 * hidden * (inputs + hidden + biased), 1, 1),
        **{"dy": sequence, "dhn": state, "dcn": state},
    }
    draw = np.random.default_rng(sum(sizes))
    return {name: (scale * draw.normal(size=shape)).astype(np.float32) for name, shape in shapes.items()}


def _model(values: dict[str, NDArray[np.float32]], sizes: Sizes, biased: bool) -> tuple[Maker, list[int]]:
    """Describe a layer and its gradient, all of whose inputs are constants; also the tensors to look at."""
    time, batch, inputs, hidden = sizes
    m = Maker(np.random.default_rng(0))
    attributes = {"input_size": inputs, "hidden_size": hidden, "num_layers": 1, "has_bias": biased}
    places = {name: m.constant(name, value) for name, value in values.items()}
    y, hn, cn = (m.computed(*values[name].shape) for name in ("dy", "dhn", "dcn"))
    kept = m.computed(6 * time * batch * hidden)
    m.node("LSTM", [places[name] for name in _INPUTS], y, **attributes)
    m.model.nodes[0].outputs = [y, hn, cn, kept]
    slopes = [m.computed(*values[name].shape) for name in _INPUTS]
    given = [*(places[name] for name in _INPUTS), y, hn, cn, *(places[name] for name in ("dy", "dhn", "dcn")), kept]
    m.node("LSTMGrad", given, slopes[0], **attributes)
    m.model.nodes[1].outputs = slopes
    m.model.inputs, m.model.outputs = [m.computed(1, 1)], [y]
    return m, [y, hn, cn, *slopes]


def _run(m: Maker, tensors: list[int]) -> list[NDArray[np.float32]]:
    model = LiteModel.from_bytes(m.model.write())
    return run_model(model, tensors, {m.model.inputs[0]: np.zeros((1, 1), np.float32)})  # type: ignore[return-value]


def _sigmoid(x: Wide) -> Wide:
    return 0.5 + 0.5 * np.tanh(x / 2)


def _forward(values: dict[str, Wide], sizes: Sizes, biased: bool) -> tuple[Wide, Wide, Wide]:
    """Return all hidden states, and the last hidden and cell state."""
    time, _, inputs, hidden = sizes
    flat = values["weights"].ravel()
    of_input = flat[: 4 * hidden * inputs].reshape(4 * hidden, inputs)
    of_state = flat[4 * hidden * inputs :][: 4 * hidden * hidden].reshape(4 * hidden, hidden)
    bias = flat[4 * hidden * (inputs + hidden) :] if biased else np.zeros(4 * hidden)
    h, c = values["h0"][0], values["c0"][0]
    states = []
    for step in range(time):
        enter, forget, new, show = np.split(values["x"][step] @ of_input.T + h @ of_state.T + bias, 4, axis=1)
        c = c * _sigmoid(forget) + np.tanh(new) * _sigmoid(enter)
        h = np.tanh(c) * _sigmoid(show)
        states.append(h)
    return np.stack(states), h[None], c[None]


def _check(sizes: Sizes, biased: bool) -> None:
    values = _drawn(sizes, biased)
    wide = {name: value.astype(np.float64) for name, value in values.items()}
    found = _run(*_model(values, sizes, biased))
    for name, got, expected in zip(_OUTPUTS, found, _forward(wide, sizes, biased), strict=False):
        np.testing.assert_allclose(got, expected, rtol=0, atol=3e-6, err_msg=name)

    def total(changed: dict[str, Wide]) -> float:
        outputs = _forward({**wide, **changed}, sizes, biased)
        return sum(float((output * wide[f"d{name}"]).sum()) for name, output in zip(_OUTPUTS, outputs, strict=True))

    draw = np.random.default_rng(1)
    for name, slope in zip(_INPUTS, found[3:], strict=True):
        for _ in range(2):
            way = draw.normal(size=slope.shape)
            difference = total({name: wide[name] + 1e-5 * way}) - total({name: wide[name] - 1e-5 * way})
            scale = float(np.abs(slope * way).sum()) + 1e-3
            assert abs(float((slope * way).sum()) - difference / 2e-5) < 1e-5 * scale, name


@settings(max_examples=15, deadline=None)
@given(st.tuples(st.integers(1, 6), st.integers(1, 21), st.integers(1, 40), st.integers(1, 40)), st.booleans())
@example((1, 1, 1, 1), False)
@example((3, 10, 33, 16), True)
@example((13, 11, 5, 32), True)  # more than a block of time x batch
@example((2, 18, 150, 64), True)  # more than a block of inputs
def test_states_and_gradients_are_those_of_the_definition(sizes: Sizes, biased: bool) -> None:
    _check(sizes, biased)


def test_large_gates_saturate_and_nan_stays() -> None:
    sizes = (4, 3, 5, 7)
    values = _drawn(sizes, True, 200)
    found = _run(*_model(values, sizes, True))
    assert all(np.isfinite(value).all() for value in found)
    expected = _forward({name: value.astype(np.float64) for name, value in values.items()}, sizes, True)
    np.testing.assert_allclose(found[0], expected[0], rtol=0, atol=1e-5)
    values["x"][2, 1, 3] = np.nan
    states = _run(*_model(values, sizes, True))[0]
    assert np.isnan(states[2:, 1]).all() and np.isfinite(states[:2]).all() and np.isfinite(states[:, [0, 2]]).all()


def test_the_same_bits_each_time() -> None:
    sizes = (5, 10, 8, 24)
    values = _drawn(sizes, True)
    first, second = (_run(*_model(values, sizes, True)) for _ in range(2))
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


#: name -> attributes, number of the input that is made a scalar, and what the refusal says
REFUSED: dict[str, tuple[dict[str, object], int | None, str]] = {
    "two directions": ({"bidirectional": True}, None, "several layers or directions"),
    "two layers": ({"num_layers": 2}, None, "several layers or directions"),
    "dropout between layers": ({"dropout": 0.5}, None, "dropout"),
    "a projection": ({"proj_size": 3}, None, "projection"),
    "another input size": ({"input_size": 6}, None, "sizes"),
    "no hidden units": ({"hidden_size": 0}, None, "sizes"),
    "a negative number of units": ({"hidden_size": -7}, None, "sizes"),
    "gigantic units": ({"hidden_size": 2**62}, None, "weights"),
    "weights of another size": ({"has_bias": False}, None, "weights"),
    "a sequence without axes": ({}, 0, "an input of shape"),
    "another first state": ({}, 1, "input 1 of shape"),
    "another first cell state": ({}, 2, "input 2 of shape"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_it_does_not_do_is_refused(name: str) -> None:
    attributes, scalar, reason = REFUSED[name]
    sizes = (2, 3, 5, 7)
    m, tensors = _model(_drawn(sizes, True), sizes, True)
    m.model.nodes[0].attributes |= attributes
    if scalar is not None:
        m.model.nodes[0].inputs[scalar] = m.constant("one", np.ones((1,), np.float32))
    with pytest.raises(ModelFormatError, match=reason):
        _run(m, tensors)


def test_the_gradient_needs_a_layer_of_its_own() -> None:
    sizes = (2, 3, 5, 7)
    m, tensors = _model(_drawn(sizes, True), sizes, True)
    m.model.nodes[1].inputs[10] = m.model.nodes[1].inputs[7]
    with pytest.raises(ModelFormatError, match="no LSTM before it kept"):
        _run(m, tensors)
