"""Matrix products of any rank, biases of rows, and embeddings: against NumPy in float64, in both layouts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from lite_handmade import Maker
from lite_nodes import run_model, run_node
from numpy.typing import NDArray

from mindfl.errors import ModelFormatError
from mindfl.lite import LiteModel

Dims = tuple[int, ...]
examples = settings(max_examples=25)
#: beside small ones, sizes about whole tiles, vectors and panels
SIZES = st.sampled_from([1, 2, 3, 7, 8, 9, 15, 16, 17, 26, 33, 48, 49, 100])


def drawn(*dims: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng([seed, *dims]).standard_normal(dims).astype(np.float32)


def whole(values: object) -> NDArray[np.int32]:
    return np.array(values, np.int32)


@st.composite
def outer_axes(draw: st.DrawFn) -> tuple[Dims, Dims]:
    """Two shapes that are broadcast against each other."""
    dims = draw(st.lists(st.integers(1, 3), max_size=3))
    first, second = ([1 if draw(st.booleans()) else dim for dim in dims] for _ in range(2))
    return tuple(first), tuple(second[draw(st.integers(0, len(second))) :])


@examples
@given(outer_axes(), SIZES, SIZES, SIZES, *[st.booleans()] * 4, st.sampled_from([0, 1, 3]))
@example(((2,), ()), 9, 50, 1100, False, True, True, True, 0)
@example(((), ()), 20, 20, 513, True, False, False, True, 1)
@example(((2, 2), (2, 2)), 1, 1, 1, False, False, True, False, 0)
@example(((2,), (2,)), 1, 1, 1, False, False, True, False, 0)
@example(((2,), (2,)), 1, 1, 1, False, True, True, False, 0)
@example(((2, 2), ()), 1, 1, 1, False, False, True, False, 0)
@example(((2,), (2,)), 3, 1, 1, True, False, True, True, 0)
def test_products(
    outer: tuple[Dims, Dims], m: int, n: int, k: int, first: bool, second: bool, fed: bool, biased: bool, kind: int
) -> None:
    """``first`` and ``second``: transposed; ``kind``: none, ReLU or ReLU6."""
    a, b, bias = drawn(*outer[0], m, k), drawn(*outer[1], k, n, seed=1), drawn(n, seed=2)
    expected = a.astype(np.float64) @ b + (bias if biased else 0)
    expected = np.clip(expected, 0, 6 if kind == 3 else None) if kind else expected
    turned = np.swapaxes(a, -1, -2) if first else a, np.swapaxes(b, -1, -2) if second else b
    inputs = [*map(np.ascontiguousarray, turned), *([bias] if biased else [])]
    options = {"transpose_a": first, "transpose_b": second, "activation": kind}
    (found,) = run_node("MatMulFusion", inputs, [expected.shape], fed=[0] * fed, **options)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.sqrt(k))


def test_the_bits_of_a_product_do_not_depend_on_its_tile() -> None:
    a, b = drawn(20, 700), drawn(700, 70)
    (whole_product,) = run_node("MatMulFusion", [a, b], [(20, 70)])
    for rows, columns in ((slice(0, 8), slice(0, 48)), (slice(3, 4), slice(40, 47)), (slice(5, 18), slice(1, 64))):
        part = np.ascontiguousarray(a[rows]), np.ascontiguousarray(b[:, columns])
        (found,) = run_node("MatMulFusion", list(part), [whole_product[rows, columns].shape])
        assert np.array_equal(found, whole_product[rows, columns])
        (found,) = run_node(
            "MatMulFusion", [part[0], part[1].T.copy()], [whole_product[rows, columns].shape], transpose_b=True
        )
        assert np.array_equal(found, whole_product[rows, columns])


@examples
@given(st.lists(st.integers(1, 8), min_size=2, max_size=4).map(tuple), st.booleans())
def test_biases_and_their_gradients(dims: Dims, fed: bool) -> None:
    x, bias = drawn(*dims), drawn(dims[-1], seed=1)
    (found,) = run_node("BiasAdd", [x, bias], [dims], fed=[0] * fed)
    assert np.array_equal(found, x + bias)
    (found,) = run_node("BiasAddGrad", [x], [(dims[-1],)], fed=[0] * fed)
    expected = x.astype(np.float64).sum(axis=tuple(range(len(dims) - 1)))
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-4)


@examples
@given(st.data(), st.lists(st.integers(1, 4), min_size=1, max_size=3).map(tuple), st.booleans())
def test_gather(data: st.DataObject, dims: Dims, fed: bool) -> None:
    axis = data.draw(st.integers(-len(dims), len(dims) - 1))
    shape = data.draw(st.lists(st.integers(1, 4), max_size=2).map(tuple))
    numbers = data.draw(st.lists(st.integers(0, dims[axis] - 1), min_size=16, max_size=16))
    chosen = np.resize(whole(numbers), shape)
    x = drawn(*dims)
    expected = np.take(x, chosen, axis)
    (found,) = run_node("Gather", [x, chosen, whole([axis])], [expected.shape], fed=[0] * fed)
    assert np.array_equal(found, expected)


NUMBERS = st.lists(st.sampled_from([0, 1, 4, 5, -1, -5, 2**24, 2**31 - 1, -(2**31)]), min_size=1, max_size=6)


@examples
@given(NUMBERS, st.booleans())
def test_numbers_out_of_range_give_zeros_and_no_gradient(values: list[int], fed: bool) -> None:
    """Class 5 and all others out of 0 to 4; fed as an input of the model or constants of the file."""
    numbers, table = whole(values), drawn(5, 3)
    fits = (numbers >= 0) & (numbers < 5)
    expected = np.where(fits[:, None], table[np.where(fits, numbers, 0)], 0)
    (found,) = run_node("Gather", [table, numbers, whole([0])], [expected.shape], fed=[1] * fed)
    assert np.array_equal(found, expected)
    gradient, dy = np.zeros((5, 3), np.float32), drawn(len(values), 3, seed=1)
    np.add.at(gradient, numbers[fits], dy[fits])
    inputs = [dy, numbers, whole([5])]
    (found,) = run_node("UnsortedSegmentSum", inputs, [(5, 3)], fed=[1] * fed, steps=2)
    np.testing.assert_allclose(found, gradient, rtol=0, atol=1e-5)


def test_numbers_that_are_no_numbers() -> None:
    """As casts of floats may give them."""
    numbers, table = np.float32([np.nan, np.inf, -np.inf, 1.7, -0.5]), drawn(3, 2)
    (found,) = run_node("Gather", [table, numbers, whole([0])], [(5, 2)])
    assert np.array_equal(found, [[0, 0], [0, 0], [0, 0], table[1], [0, 0]])
    (found,) = run_node("UnsortedSegmentSum", [found, numbers, whole([3])], [(3, 2)])
    assert np.array_equal(found, [[0, 0], table[1], [0, 0]])


def test_sums_of_rows_of_several_axes() -> None:
    x, numbers = drawn(2, 3, 4, 2), whole([[0, 2, 0], [2, 2, 5]])
    expected = np.zeros((6, 4, 2), np.float32)
    np.add.at(expected, numbers, x)
    (found,) = run_node("UnsortedSegmentSum", [x, numbers, whole([6])], [(6, 4, 2)], fed=[0])
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


REFUSED: dict[str, tuple[str, list[object], dict[str, object], Dims]] = {
    "unequal depths": ("MatMulFusion", [(2, 3), (4, 5)], {}, (2, 5)),
    "a vector": ("MatMulFusion", [(3,), (3, 5)], {}, (5,)),
    "matrices that do not broadcast": ("MatMulFusion", [(2, 3, 4), (3, 4, 5)], {}, (2, 3, 5)),
    "a bias of another size": ("MatMulFusion", [(2, 3), (3, 4), (3,)], {}, (2, 4)),
    "an activation that is not fused": ("MatMulFusion", [(2, 3), (3, 4)], {"activation": 10}, (2, 4)),
    "a product of another shape": ("MatMulFusion", [(2, 3), (3, 4)], {}, (2, 5)),
    "a row bias of another size": ("BiasAdd", [(2, 3), (4,)], {}, (2, 3)),
    "an axis too far": ("Gather", [(2, 3), [0], [2]], {}, (2, 1)),
    "several axes": ("Gather", [(2, 3), [0], [0, 1]], {}, (1, 3)),
    "an axis that is computed": ("Gather", [(2, 3), [0], (1,)], {}, (1, 3)),
    "rows for other numbers": ("UnsortedSegmentSum", [(2, 3), [0, 1, 1], [4]], {}, (4, 3)),
    "another number of segments": ("UnsortedSegmentSum", [(2, 3), [0, 1], [5]], {}, (4, 3)),
    "no segments": ("UnsortedSegmentSum", [(2, 3), [0, 1], [0]], {}, (0, 3)),
    "very many segments": ("UnsortedSegmentSum", [(2, 3), [0, 1], [2**30]], {}, (2**30, 3)),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_fit_is_refused(name: str) -> None:
    op, inputs, attributes, shape = REFUSED[name]
    arrays = [drawn(*item) if isinstance(item, tuple) else whole(item) for item in inputs]
    with pytest.raises(ModelFormatError):
        run_node(op, arrays, [shape], **attributes)


def sum_of_products(m: Maker, count: int, dims: Dims) -> tuple[int, list[NDArray[np.float64]]]:
    """Add products of constants to a model, and their sum; return both."""
    terms, expected = [], []
    for number in range(count):
        a, b = drawn(9, dims[0], seed=2 * number), drawn(9, dims[1], seed=2 * number + 1)
        places = [m.constant(f"a{number}", a), m.constant(f"b{number}", b)]
        terms.append(m.node("MatMulFusion", places, m.computed(*dims), transpose_a=True))
        expected.append(a.astype(np.float64).T @ b)
    return m.node("AddN", terms, m.computed(*dims)), expected


@pytest.mark.parametrize("read_twice", [False, True])
def test_products_that_are_added_up(read_twice: bool) -> None:
    """In one place; but not one that something else reads too."""
    m = Maker(np.random.default_rng(0))
    m.model.inputs.append(m.computed(1, 1))
    total, expected = sum_of_products(m, 3, (5, 20))
    second = m.model.nodes[1].outputs[0]
    other = m.node("Reshape", [second], m.computed(20, 5)) if read_twice else total
    m.model.outputs = [total]
    found, read = run_model(LiteModel.from_bytes(m.model.write()), [total, other], {0: drawn(1, 1)}, steps=2)
    np.testing.assert_allclose(found, sum(expected), rtol=0, atol=1e-5)
    if read_twice:
        np.testing.assert_allclose(read, expected[1].reshape(20, 5), rtol=0, atol=1e-5)


def test_a_product_that_a_sum_reads_twice() -> None:
    m = Maker(np.random.default_rng(0))
    m.model.inputs.append(m.computed(1, 1))
    total, expected = sum_of_products(m, 2, (3, 4))
    first = m.model.nodes[0].outputs[0]
    m.model.nodes[-1].inputs = [first, first, m.model.nodes[1].outputs[0]]
    m.model.outputs = [total]
    (found,) = run_model(LiteModel.from_bytes(m.model.write()), [total], {0: drawn(1, 1)})
    np.testing.assert_allclose(found, 2 * expected[0] + expected[1], rtol=0, atol=1e-5)
