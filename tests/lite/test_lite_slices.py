"""Operators that copy elements to other places, in both layouts, against NumPy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lite_nodes import run_node
from numpy.typing import NDArray

from mindfl.errors import ModelFormatError

Dims = tuple[int, ...]
DIMS = st.lists(st.integers(1, 5), min_size=1, max_size=4).map(tuple)
LAYOUT = st.booleans()
examples = settings(max_examples=30)


def numbers(dims: Dims) -> NDArray[np.float32]:
    return np.arange(1, np.prod(dims, dtype=int) + 1, dtype=np.float32).reshape(dims)


def whole(values: object) -> NDArray[np.int32]:
    return np.array(values, np.int32)


@examples
@given(st.data(), st.lists(st.sampled_from([1, 2, 3, 16, 17]), min_size=1, max_size=5).map(tuple), LAYOUT)
def test_transpose(data: st.DataObject, dims: Dims, fed: bool) -> None:
    x, order = numbers(dims), data.draw(st.permutations(range(len(dims))))
    expected = x.transpose(order)
    (found,) = run_node("Transpose", [x, whole(order)], [expected.shape], fed=[0] * fed)
    assert np.array_equal(found, expected)


def test_a_single_number_has_no_axes_to_turn() -> None:
    """The converter turns the gradient of a scalar as if it were an image."""
    (found,) = run_node("Transpose", [np.float32(3.5), whole((0, 2, 3, 1))], [()])
    assert found.item() == 3.5


@examples
@given(st.data(), DIMS, LAYOUT, LAYOUT)
def test_concat_and_its_inverse_split(data: st.DataObject, dims: Dims, first_fed: bool, second_fed: bool) -> None:
    axis = data.draw(st.integers(-len(dims), len(dims) - 1))
    longer = data.draw(st.integers(1, 4)) if axis % len(dims) else dims[0]
    other = tuple(longer if place == axis % len(dims) else dim for place, dim in enumerate(dims))
    parts = [numbers(dims), -numbers(other)]
    joined = np.concatenate(parts, axis)
    fed = [0] * first_fed + [1] * second_fed
    (found,) = run_node("Concat", parts, [joined.shape], fed=fed, axis=axis)
    assert np.array_equal(found, joined)
    sizes = (dims[axis], data.draw(st.sampled_from([-1, other[axis]])))
    again = run_node("Split", [joined], [dims, other], fed=[0] * first_fed, axis=axis, size_splits=sizes)
    assert all(map(np.array_equal, again, parts))


@examples
@given(st.data(), DIMS, LAYOUT)
def test_stack_and_its_inverse_unstack(data: st.DataObject, dims: Dims, fed: bool) -> None:
    axis = data.draw(st.integers(-len(dims) - 1, len(dims)))
    parts = [numbers(dims) * scale for scale in (1, -1, 2)]
    joined = np.stack(parts, axis)
    (found,) = run_node("Stack", parts, [joined.shape], fed=[0, 1, 2] if fed else [2], axis=axis)
    assert np.array_equal(found, joined)
    again = run_node("Unstack", [joined], [dims] * 3, fed=[0] * fed, axis=axis)
    assert all(map(np.array_equal, again, parts))


def test_equal_parts() -> None:
    x = numbers((4, 6))
    found = run_node("Split", [x], [(4, 2)] * 3, fed=[0], axis=1, output_num=3)
    assert all(map(np.array_equal, found, np.split(x, 3, 1)))


@st.composite
def slices(draw: st.DrawFn) -> tuple[Dims, list[object]]:
    """A shape, and NumPy's index of it: slices, elements, new axes, an ellipsis."""
    dims = draw(DIMS)
    index: list[object] = []
    for dim in dims:
        first, last = draw(st.integers(0, dim - 1)), draw(st.integers(0, dim - 1))
        kind = draw(st.sampled_from(["all", "element", "forwards", "backwards", "open"]))
        if kind == "element":
            index.append(draw(st.integers(-dim, dim - 1)))
        elif kind == "forwards":
            index.append(slice(min(first, last) - dim, max(first, last) + 1, draw(st.integers(1, 3))))
        elif kind == "backwards":
            index.append(slice(max(first, last), min(first, last) - dim - 1, draw(st.integers(-3, -1))))
        else:
            index.append(slice(None) if kind == "all" else slice(None, None, 2))
    if draw(st.booleans()):
        index.insert(draw(st.integers(0, len(index))), None)
    if draw(st.booleans()):
        place = draw(st.integers(0, len(dims)))
        index[place : place + draw(st.integers(0, 2))] = [Ellipsis]
    return dims, index


def strided(index: list[object]) -> tuple[list[NDArray[np.int32]], dict[str, int]]:
    """Return an index of NumPy as StridedSlice has it: begin, end, strides, and masks."""
    rows, masks = [], dict.fromkeys(("begin_mask", "end_mask", "ellipsis_mask", "new_axis_mask", "shrink_axis_mask"), 0)
    for place, item in enumerate(index):
        row = (0, 0, 1)
        if isinstance(item, slice):
            row = (item.start or 0, item.stop or 0, item.step or 1)
            masks["begin_mask"] |= (item.start is None) << place
            masks["end_mask"] |= (item.stop is None) << place
        elif isinstance(item, int):
            row = (item, item + 1, 1)
            masks["shrink_axis_mask"] |= 1 << place
        else:
            masks["new_axis_mask" if item is None else "ellipsis_mask"] |= 1 << place
        rows.append(row)
    return [whole(column) for column in zip(*rows, strict=True)], masks


@examples
@given(slices(), LAYOUT)
def test_strided_slice_and_its_gradient(case: tuple[Dims, list[object]], fed: bool) -> None:
    dims, index = case
    x = numbers(dims)
    expected = x[tuple(index)]
    bounds, masks = strided(index)
    (found,) = run_node("StridedSlice", [x, *bounds], [expected.shape], fed=[0] * fed, **masks)
    assert np.array_equal(found, expected)
    gradient = np.zeros(dims, np.float32)
    gradient[tuple(index)] = -expected
    carries = fed and expected.ndim > 0
    arrays = [-expected, whole(dims), *bounds]
    (found,) = run_node("StridedSliceGrad", arrays, [dims], fed=[0] * carries, steps=2, **masks)
    assert np.array_equal(found, gradient)


@examples
@given(st.data(), DIMS, LAYOUT)
def test_slice(data: st.DataObject, dims: Dims, fed: bool) -> None:
    axes = data.draw(st.permutations(range(len(dims)))) if data.draw(st.booleans()) else list(range(len(dims)))
    begin = [data.draw(st.integers(0, dims[axis] - 1)) for axis in axes]
    size = [data.draw(st.integers(1, dims[axis] - first)) for axis, first in zip(axes, begin, strict=True)]
    index = [slice(None)] * len(dims)
    for axis, first, count in zip(axes, begin, size, strict=True):
        index[axis] = slice(first, first + count)
    x = numbers(dims)
    expected = x[tuple(index)]
    asked = [-1 if first + count == dims[axis] else count for axis, first, count in zip(axes, begin, size, strict=True)]
    arrays = [x, whole(begin), whole(asked)]
    (found,) = run_node("SliceFusion", arrays, [expected.shape], fed=[0] * fed, axes=axes)
    assert np.array_equal(found, expected)


@examples
@given(st.data(), DIMS, LAYOUT, LAYOUT)
def test_tile_broadcast_and_pad(data: st.DataObject, dims: Dims, fed: bool, given_as_input: bool) -> None:
    x = numbers(dims)
    times = data.draw(st.lists(st.integers(1, 3), min_size=len(dims), max_size=5))
    expected = np.tile(x, times)
    inputs = [x, whole(times)] if given_as_input else [x]
    (found,) = run_node("TileFusion", inputs, [expected.shape], fed=[0] * fed, dims=() if given_as_input else times)
    assert np.array_equal(found, expected)

    wanted = tuple(data.draw(st.integers(1, 3)) if dim == 1 else dim for dim in dims)
    wanted = (*data.draw(st.lists(st.integers(1, 3), max_size=2)), *wanted)
    (found,) = run_node("BroadcastTo", [x], [wanted], fed=[0] * fed, shape=wanted)
    assert np.array_equal(found, np.broadcast_to(x, wanted))

    pads = [(data.draw(st.integers(0, 2)), data.draw(st.integers(0, 2))) for _ in dims]
    number = data.draw(st.sampled_from([0.0, -1.5]))
    expected = np.pad(x, pads, constant_values=number)
    (found,) = run_node("PadFusion", [x, whole(pads)], [expected.shape], fed=[0] * fed, steps=2, constant_value=number)
    assert np.array_equal(found, expected)


@examples
@given(st.data(), DIMS)
def test_a_reshape_across_the_batch(data: st.DataObject, dims: Dims) -> None:
    x = numbers(dims)
    wanted = data.draw(st.sampled_from([(x.size,), (1, x.size), (x.size, 1), dims[::-1], (*dims, 1)]))
    (found,) = run_node("Reshape", [x, whole(wanted)], [wanted], fed=[0])
    assert np.array_equal(found, x.reshape(wanted))


def test_shapes_and_fills() -> None:
    x = numbers((3, 2, 5))
    assert run_node("Shape", [x], [(3,)], fed=[0])[0].tolist() == [3, 2, 5]
    (found,) = run_node("Fill", [np.float32([2.5]), whole([2, 3])], [(2, 3)])
    assert (found == 2.5).all()


def test_large_arrays_need_no_table() -> None:
    x = np.arange(2**20, dtype=np.float32).reshape(64, 128, 128)
    (found,) = run_node("Transpose", [x, whole([2, 0, 1])], [(128, 64, 128)])
    assert np.array_equal(found, x.transpose(2, 0, 1))


REFUSED: dict[str, tuple[str, list[object], dict[str, object], list[Dims]]] = {
    "an order of other axes": ("Transpose", [(2, 3), [0, 2]], {}, [(2, 3)]),
    "an axis too far": ("Concat", [(2, 3), (2, 3)], {"axis": 2}, [(4, 3)]),
    "parts of unequal shape": ("Concat", [(2, 3), (2, 4)], {"axis": 0}, [(4, 3)]),
    "parts of unequal shape in a stack": ("Stack", [(2, 3), (3, 2)], {"axis": 0}, [(2, 2, 3)]),
    "parts too large": ("Split", [(4, 2)], {"axis": 0, "size_splits": (2, 3)}, [(2, 2), (3, 2)]),
    "a negative part": ("Split", [(4, 2)], {"axis": 0, "size_splits": (5, -2)}, [(5, 2), (2, 2)]),
    "more outputs than elements": ("Unstack", [(3, 2)], {"axis": 0}, [(2,)] * 2),
    "an element too far": ("StridedSlice", [(3,), [3], [4], [1]], {"shrink_axis_mask": 1}, [()]),
    "an empty slice": ("StridedSlice", [(3,), [2], [1], [1]], {}, [(1,)]),
    "a stride of 0": ("StridedSlice", [(3,), [0], [1], [0]], {}, [(1,)]),
    "too many slices": ("StridedSlice", [(3,), [0, 0], [1, 1], [1, 1]], {}, [(1,)]),
    "several ellipses": ("StridedSlice", [(3,), [0, 0], [1, 1], [1, 1]], {"ellipsis_mask": 3}, [(3,)]),
    "fewer ends": ("StridedSlice", [(3,), [0], [1, 2], [1]], {}, [(1,)]),
    "a gradient of another slice": ("StridedSliceGrad", [(2,), [3], [0], [1], [1]], {}, [(3,)]),
    "a gradient into another shape": ("StridedSliceGrad", [(1,), [4], [0], [1], [1]], {}, [(3,)]),
    "a slice too far": ("SliceFusion", [(3,), [1], [3]], {}, [(3,)]),
    "a slice before the start": ("SliceFusion", [(3,), [-1], [3]], {}, [(3,)]),
    "a slice of another result": ("SliceFusion", [(3,), [0], [2]], {}, [(3,)]),
    "no repetition": ("TileFusion", [(3,), [0]], {}, [(1,)]),
    "repetitions along very many axes": ("TileFusion", [(3,), [1] * 1000], {}, [(3,)]),
    "a gigantic repetition": ("TileFusion", [(3,), [2**30]], {}, [(3,)]),
    "a broadcast of other sizes": ("BroadcastTo", [(3,)], {}, [(4,)]),
    "a broadcast to fewer axes": ("BroadcastTo", [(1, 3)], {}, [(3,)]),
    "a negative padding": ("PadFusion", [(3,), [[-1, 0]]], {}, [(2,)]),
    "padding of other axes": ("PadFusion", [(3,), [1]], {}, [(4,)]),
    "a padding that mirrors": ("PadFusion", [(3,), [[1, 1]]], {"padding_mode": 1}, [(5,)]),
    "another number of elements": ("Reshape", [(3,)], {}, [(4,)]),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_fit_is_refused(name: str) -> None:
    op, inputs, attributes, shapes = REFUSED[name]
    arrays = [numbers(item) if isinstance(item, tuple) else whole(item) for item in inputs]
    with pytest.raises(ModelFormatError):
        run_node(op, arrays, shapes, **attributes)
