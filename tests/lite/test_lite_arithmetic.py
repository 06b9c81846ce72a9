"""Arithmetic, functions, activations and reductions: in both layouts, against NumPy in float64."""

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

PAIRS: dict[str, Callable[[Array, Array], Array]] = {
    "AddFusion": np.add,
    "SubFusion": np.subtract,
    "MulFusion": np.multiply,
    "DivFusion": np.divide,
    "RealDiv": np.divide,
    "Maximum": np.maximum,
    "Minimum": np.minimum,
    "SquaredDifference": lambda a, b: (a - b) ** 2,
    "PowFusion": np.power,
    "Equal": np.equal,
    "NotEqual": np.not_equal,
    "Greater": np.greater,
    "GreaterEqual": np.greater_equal,
    "Less": np.less,
    "LessEqual": np.less_equal,
    "LogicalAnd": np.logical_and,
    "LogicalOr": np.logical_or,
}

FUNCTIONS: dict[str, Callable[[Array], Array]] = {
    "Abs": np.abs,
    "Neg": np.negative,
    "NegGrad": np.negative,
    "Square": np.square,
    "Sqrt": np.sqrt,
    "Rsqrt": lambda x: 1 / np.sqrt(x),
    "Reciprocal": lambda x: 1 / x,
    "ExpFusion": np.exp,
    "Log": np.log,
    "Log1p": np.log1p,
    "Erf": special.erf,
    "Cos": np.cos,
    "Sin": np.sin,
    "Floor": np.floor,
    "Ceil": np.ceil,
    "Round": np.round,
    "LogicalNot": np.logical_not,
    "IsFinite": np.isfinite,
}


@st.composite
def _broadcast(draw: st.DrawFn) -> tuple[tuple[int, ...], tuple[int, ...], int]:
    """Two shapes that broadcast, and which of the arrays carries the batch (0, 1, both: 2, neither: 3)."""
    whole = draw(st.lists(st.integers(1, 5), min_size=1, max_size=4).map(tuple))
    whole = (draw(st.sampled_from((1, 2, 3, 5, 16, 17))), *whole[1:])
    fed = draw(st.integers(0, 3))
    shapes = []
    for place in (0, 1):
        carried = fed == 2 or fed == place
        dims = [dim if draw(st.booleans()) else 1 for dim in whole]
        if carried:
            shapes.append((whole[0], *dims[1:]))
        else:
            shapes.append(tuple(dims[draw(st.integers(0, len(dims))) :]))
    return shapes[0], shapes[1], fed


def _numbers(rng: np.random.Generator, dims: tuple[int, ...], *, whole: bool) -> NDArray[np.float32]:
    values = rng.integers(-2, 3, dims) if whole else rng.normal(0, 2, dims)
    return np.asarray(values, np.float32)


@settings(max_examples=40)
@given(op=st.sampled_from(sorted(PAIRS)), shapes=_broadcast(), whole=st.booleans(), seed=st.integers(0, 9))
def test_two_operands_broadcast_as_in_numpy(
    op: str, shapes: tuple[tuple[int, ...], tuple[int, ...], int], whole: bool, seed: int
) -> None:
    first, second, fed = shapes
    rng = np.random.default_rng(seed)
    a, b = _numbers(rng, first, whole=whole), _numbers(rng, second, whole=whole)
    if op == "PowFusion":
        a = np.abs(a)
    with np.errstate(all="ignore"):
        expected = np.asarray(PAIRS[op](a.astype(float), b.astype(float)), float)
    found = run_node(op, [a, b], [expected.shape], {0: [0], 1: [1], 2: [0, 1], 3: []}[fed])[0]
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)


@settings(max_examples=25)
@given(
    op=st.sampled_from(sorted(FUNCTIONS)),
    dims=st.lists(st.integers(1, 17), min_size=1, max_size=3).map(tuple),
    fed=st.booleans(),
    seed=st.integers(0, 9),
)
def test_functions_of_one_operand(op: str, dims: tuple[int, ...], fed: bool, seed: int) -> None:
    x = _numbers(np.random.default_rng(seed), dims, whole=seed == 0)
    if op in ("Sqrt", "Rsqrt", "Reciprocal", "Log", "Log1p"):
        x = np.abs(x) + np.float32(0.01)
    expected = FUNCTIONS[op](x.astype(float))
    found = run_node(op, [x], [dims], [0] if fed else [])[0]
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)


#: the gradient of an operator on (a, b), by its inputs in the order of the file
GRADIENTS: dict[str, Callable[[Array, Array], Array]] = {
    "AbsGrad": lambda x, dy: np.sign(x) * dy,
    "SqrtGrad": lambda y, dy: dy / (2 * y),
    "RsqrtGrad": lambda y, dy: -dy * y**3 / 2,
    "LogGrad": lambda dy, x: dy / x,
}


@pytest.mark.parametrize("op", GRADIENTS)
@pytest.mark.parametrize("fed", [(), (0, 1), (0,)])
def test_gradients_of_functions(op: str, fed: tuple[int, ...]) -> None:
    rng = np.random.default_rng(1)
    a, b = (np.float32(rng.uniform(0.5, 2, (5, 3)) * rng.choice((-1, 1), (5, 3))) for _ in range(2))
    expected = GRADIENTS[op](a.astype(float), b.astype(float))
    np.testing.assert_allclose(run_node(op, [a, b], [(5, 3)], fed)[0], expected, rtol=1e-6)


#: gradient -> the operator's function, and the places of dy, a and b
BROADCAST: dict[str, tuple[Callable[[Array, Array], Array], tuple[int, int, int]]] = {
    "AddGrad": (np.add, (0, 1, 2)),
    "SubGrad": (np.subtract, (0, 1, 2)),
    "MulGrad": (np.multiply, (0, 1, 2)),
    "DivGrad": (np.divide, (0, 1, 2)),
    "MaximumGrad": (np.maximum, (2, 0, 1)),
    "MinimumGrad": (np.minimum, (2, 0, 1)),
}


@pytest.mark.parametrize("op", BROADCAST)
@pytest.mark.parametrize("dims", [((4, 3), (4, 3)), ((4, 3), (3,)), ((1, 3), (4, 1)), ((2, 1, 3), (4, 1))])
def test_gradients_of_broadcast_arithmetic(op: str, dims: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    """Each is the slope in float64 by central differences, element by element."""
    function, places = BROADCAST[op]
    rng = np.random.default_rng(1)
    a, b = (rng.uniform(0.5, 2, each).astype(np.float32) for each in dims)
    dy = rng.normal(size=np.broadcast_shapes(*dims)).astype(np.float32)
    inputs = [np.zeros(1, np.float32)] * 3
    for place, array in zip(places, (dy, a, b), strict=True):
        inputs[place] = array
    found = run_node(op, inputs, [*dims])
    exact = [a.astype(float), b.astype(float)]
    for number in (0, 1):
        slopes = np.zeros(dims[number])
        for place in np.ndindex(dims[number]):
            totals = []
            for step in (1e-6, -1e-6):
                moved = [each.copy() for each in exact]
                moved[number][place] += step
                totals.append(float((dy * function(*moved)).sum()))
            slopes[place] = (totals[0] - totals[1]) / 2e-6
        np.testing.assert_allclose(found[number], slopes, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("scale", "shift", "exponent"), [(1, 0, 3), (1, 0, 2), (2, 0.5, -1), (0.5, 1, 1.5)])
def test_power_and_its_gradient(scale: float, shift: float, exponent: float) -> None:
    x, dy = np.random.default_rng(1).uniform(0.5, 2, (2, 5, 3)).astype(np.float32)
    base = scale * x.astype(float) + shift
    y = run_node("PowFusion", [x, np.float32(exponent)], [(5, 3)], [0], scale=scale, shift=shift)[0]
    np.testing.assert_allclose(y, base**exponent, rtol=1e-6)
    settings_ = {"power": exponent, "scale": scale, "shift": shift}
    dx = run_node("PowerGrad", [dy, x], [(5, 3)], [0, 1], **settings_)[0]
    np.testing.assert_allclose(dx, dy * exponent * scale * base ** (exponent - 1), rtol=1e-6)


@pytest.mark.parametrize(("base", "scale", "shift"), [(-1, 1, 0), (2, 1, 0), (10, 0.5, 0.25)])
def test_powers_of_a_base(base: float, scale: float, shift: float) -> None:
    x = np.linspace(-2, 2, 15, dtype=np.float32).reshape(5, 3)
    y = run_node("ExpFusion", [x], [(5, 3)], [0], base=base, scale=scale, shift=shift)[0]
    np.testing.assert_allclose(y, (np.e if base == -1 else base) ** (scale * x.astype(float) + shift), rtol=1e-6)


def _sigmoid(x: Array) -> Array:
    return np.asarray(special.expit(x))


def _gelu(x: Array) -> Array:
    return x * special.ndtr(x)


def _gelu_by_tanh(x: Array) -> Array:
    return x / 2 * (1 + np.tanh((2 / np.pi) ** 0.5 * (x + 0.044715 * x**3)))


#: activation -> its number, attributes, function, and whether its gradient reads the output
ACTIVATIONS: dict[str, tuple[int, dict[str, object], Callable[[Array], Array], bool]] = {
    "relu": (1, {}, lambda x: np.maximum(x, 0), True),
    "sigmoid": (2, {}, _sigmoid, True),
    "relu6": (3, {}, lambda x: np.clip(x, 0, 6), False),
    "elu": (4, {"alpha": 0.7}, lambda x: np.where(x > 0, x, 0.7 * np.expm1(x)), True),
    "leaky relu": (5, {"alpha": 0.1}, lambda x: np.where(x > 0, x, 0.1 * x), False),
    "softplus": (9, {}, lambda x: np.logaddexp(x, 0), False),
    "tanh": (10, {}, np.tanh, True),
    "hard swish": (12, {}, lambda x: x * np.clip(x + 3, 0, 6) / 6, False),
    "hard sigmoid": (13, {}, lambda x: np.clip(x + 3, 0, 6) / 6, False),
    "swish": (18, {}, lambda x: x * _sigmoid(x), False),
    "gelu": (19, {"approximate": False}, _gelu, False),
    "gelu by tanh": (19, {"approximate": True}, _gelu_by_tanh, False),
}


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("fed", [(), (0, 1)])
def test_activations_and_their_gradients(name: str, fed: tuple[int, ...]) -> None:
    """The gradient is the slope in float64 by central differences."""
    kind, attributes, function, reads_output = ACTIVATIONS[name]
    rng = np.random.default_rng(1)
    x, dy = rng.normal(0, 4, (17, 5)).astype(np.float32), rng.normal(size=(17, 5)).astype(np.float32)
    y = run_node("Activation", [x], [(17, 5)], fed[:1], type=kind, **attributes)[0]
    np.testing.assert_allclose(y, function(x.astype(float)), rtol=2e-6, atol=2e-6)
    exact = x.astype(float)
    slope = (function(exact + 1e-6) - function(exact - 1e-6)) / 2e-6
    attributes = {key: value for key, value in attributes.items() if key == "alpha"}
    read = np.asarray(y, np.float32) if reads_output else x
    inputs = [dy, read, y] if name == "gelu by tanh" else [dy, read]
    if name in ("sigmoid", "tanh"):  # in MindSpore's order
        inputs.reverse()
    dx = run_node("ActivationGrad", inputs, [(17, 5)], fed, type=kind, **attributes)[0]
    np.testing.assert_allclose(dx, dy * slope, rtol=1e-5, atol=1e-5)


SPECIAL = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 1e-40, 3e38, -3e38, 6, -3, 3], np.float32)


@pytest.mark.parametrize("name", [name for name in ACTIVATIONS if "gelu" not in name])
def test_activations_of_numbers_that_are_not_finite(name: str) -> None:
    kind, attributes, function, _ = ACTIVATIONS[name]
    with np.errstate(all="ignore"):
        expected = function(SPECIAL.astype(float)).astype(np.float32)
    found = run_node("Activation", [SPECIAL], [SPECIAL.shape], type=kind, **attributes)[0]
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("op", ["Sqrt", "Rsqrt", "Reciprocal", "ExpFusion", "Log", "Erf", "Abs", "Round"])
def test_functions_of_numbers_that_are_not_finite(op: str) -> None:
    with np.errstate(all="ignore"):
        expected = FUNCTIONS[op](SPECIAL.astype(float)).astype(np.float32)
    np.testing.assert_allclose(run_node(op, [SPECIAL], [SPECIAL.shape])[0], expected, rtol=1e-6, atol=1e-38)


#: mode of the file -> NumPy's
REDUCTIONS: tuple[Callable[..., Array], ...] = (
    *(np.mean, np.max, np.min, np.prod, np.sum),
    lambda x, **axes: np.sum(x**2, **axes),
    lambda x, **axes: np.sum(np.abs(x), **axes),
    lambda x, **axes: np.all(x != 0, **axes),
    lambda x, **axes: np.sqrt(np.sum(x**2, **axes)),
)


@settings(max_examples=60)
@given(
    mode=st.integers(0, 8),
    dims=st.lists(st.integers(1, 6), min_size=1, max_size=4),
    batch=st.sampled_from((1, 2, 5, 16, 33)),
    axes=st.sets(st.integers(0, 3)),
    fed=st.booleans(),
    keep=st.booleans(),
)
def test_reductions_over_any_axes(
    mode: int, dims: list[int], batch: int, axes: set[int], fed: bool, keep: bool
) -> None:
    x = np.random.default_rng(1).normal(0, 1, (batch, *dims)).astype(np.float32)
    chosen = tuple(axis for axis in axes if axis < x.ndim)
    expected = np.asarray(REDUCTIONS[mode](x.astype(float), axis=chosen or None, keepdims=keep), float)
    inputs = [x, np.array(chosen, np.int32)] if chosen else [x]
    found = run_node("ReduceFusion", inputs, [expected.shape], [0] if fed else [], mode=mode, keep_dims=keep)[0]
    np.testing.assert_allclose(found, expected, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("dims", [(3, 100_000), (100_000, 3), (17, 50, 130)])
@pytest.mark.parametrize("fed", [True, False])
def test_long_sums_keep_their_precision(dims: tuple[int, ...], fed: bool) -> None:
    fed = fed and dims[0] < 100
    x = np.random.default_rng(1).uniform(0, 1, dims).astype(np.float32)
    for axis in range(len(dims)):
        expected = x.astype(float).sum(axis)
        inputs = [x, np.array([axis], np.int32)]
        found = run_node("ReduceFusion", inputs, [expected.shape], [0] if fed else [], mode=4)[0]
        np.testing.assert_allclose(found, expected, rtol=2e-6)


def test_a_reduction_to_the_end_is_scaled() -> None:
    x = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    inputs = [x, np.array([1], np.int32)]
    found = run_node("ReduceFusion", inputs, [(2,)], [0], mode=4, reduce_to_end=True, coeff=0.5)[0]
    assert found.tolist() == [x[0].sum() / 2, x[1].sum() / 2]


@pytest.mark.parametrize("fed", [(), (0,), (0, 1, 2), (1,)])
def test_select(fed: tuple[int, ...]) -> None:
    rng = np.random.default_rng(1)
    condition = rng.integers(0, 2, (5, 3)).astype(np.float32)
    a, b = rng.normal(size=(5, 3)).astype(np.float32), rng.normal(size=(5, 3)).astype(np.float32)
    assert np.array_equal(run_node("Select", [condition, a, b], [(5, 3)], fed)[0], np.where(condition, a, b))
    b = b[:1]
    fed = tuple(place for place in fed if place < 2)
    assert np.array_equal(run_node("Select", [condition, a, b], [(5, 3)], fed)[0], np.where(condition, a, b))


@pytest.mark.parametrize("fed", [(), (0,)])
def test_small_ones(fed: tuple[int, ...]) -> None:
    x = np.linspace(-2, 2, 15, dtype=np.float32).reshape(5, 3)
    assert np.array_equal(run_node("Clip", [x], [(5, 3)], fed, min=-1.0, max=0.5)[0], np.clip(x, -1, 0.5))
    assert np.array_equal(run_node("OnesLike", [x], [(5, 3)], fed)[0], np.ones((5, 3)))
    assert np.array_equal(run_node("AddN", [x, x, x], [(5, 3)], fed)[0], x + x + x)


@pytest.mark.parametrize("axis", [-1, 0, 1])
@pytest.mark.parametrize("fed", [(), (0,)])
def test_places_of_extremes(axis: int, fed: tuple[int, ...]) -> None:
    x = np.random.default_rng(1).integers(0, 4, (5, 7, 3)).astype(np.float32)
    largest, smallest = x.argmax(axis), x.argmin(axis)
    assert np.array_equal(run_node("ArgMaxFusion", [x], [largest.shape], fed, axis=axis)[0], largest)
    assert np.array_equal(run_node("ArgMinFusion", [x], [smallest.shape], fed, axis=axis)[0], smallest)


@pytest.mark.parametrize("activation", [1, 3])
def test_activations_fused_into_arithmetic(activation: int) -> None:
    x = np.linspace(-9, 9, 20, dtype=np.float32).reshape(5, 4)
    found = run_node("AddFusion", [x, np.ones(4, np.float32)], [(5, 4)], [0], activation=activation)[0]
    np.testing.assert_allclose(found, np.clip(x + 1, 0, np.inf if activation == 1 else 6), rtol=1e-6)


@pytest.mark.parametrize(
    ("op", "shapes", "attributes", "problem"),
    [
        ("AddFusion", [(5, 3), (4,)], {}, r"operands of shapes \(5, 3\) and \(4,\)"),
        ("AddFusion", [(5, 3), (3,)], {"activation": 7}, "a fused activation 7"),
        ("Activation", [(5, 3)], {"type": 20}, "activation 20"),
        ("ActivationGrad", [(5, 3), (5, 3)], {"type": 7}, "the gradient of activation 7"),
        ("ActivationGrad", [(5, 3), (3, 5)], {"type": 1}, "shapes"),
        ("ReduceFusion", [(5, 3)], {"mode": 9}, "reduction mode 9"),
        ("AddN", [(5, 3), (3,)], {}, "shapes"),
        ("ExpFusion", [(5, 3)], {"base": -3.0}, "the base -3.0"),
    ],
)
def test_what_cannot_be_is_refused(
    op: str, shapes: list[tuple[int, ...]], attributes: dict[str, object], problem: str
) -> None:
    with pytest.raises(ModelFormatError, match=problem):
        run_node(op, [np.ones(shape, np.float32) for shape in shapes], [(5, 3)], **attributes)
