"""The kernels against plain numpy, and what a training run promises: same bits, no growth, no interpreter lock."""

from __future__ import annotations

import threading
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lite_bounds import check_model
from lite_handmade import Window, handmade
from lite_numpy import NumpyModel
from lite_reference import random_batch

from mindfl.errors import ModelFormatError
from mindfl.lite import Executable, LiteModel, Session
from mindfl.lite.kernels import load_machine
from mindfl.lite.ops import INSTRUCTIONS
from mindfl.lite.ops.windows import PAD_EXPLICIT, PAD_SAME, PAD_VALID
from mindfl.lite.program import Builder, Place

_pair = st.tuples(st.integers(1, 3), st.integers(1, 3))
_modes = st.sampled_from((PAD_EXPLICIT, PAD_SAME, PAD_VALID))
_pads = st.tuples(*[st.integers(0, 2)] * 4)
_convolutions = st.builds(Window, _pair, _pair, st.tuples(st.integers(1, 2), st.integers(1, 2)), _modes, _pads)
_poolings = st.builds(Window, _pair, _pair, mode=st.sampled_from((PAD_SAME, PAD_VALID)), mean=st.booleans())


@settings(max_examples=40, deadline=None)
@given(
    conv=_convolutions,
    second=_convolutions | st.none(),
    pool=_poolings | st.none(),
    batch=st.sampled_from((1, 3, 16, 17, 32, 50)),
    channels=st.integers(1, 3),
    filters=st.integers(1, 9),
    classes=st.integers(2, 18),
    equal=st.booleans(),
)
def test_any_geometry_trains_as_in_numpy(
    conv: Window,
    second: Window | None,
    pool: Window | None,
    batch: int,
    channels: int,
    filters: int,
    classes: int,
    equal: bool,
) -> None:
    sizes = [conv.outputs((13, 11))]
    sizes += [second.outputs(sizes[-1])] if second else []
    if min(sizes[-1]) < 3:
        return
    image = (13, 11, channels)
    text = handmade(conv, second, pool, image=image, batch=batch, filters=filters, classes=classes)
    _assert_trains_as_in_numpy(LiteModel.from_bytes(text.write()), equal=equal)


@settings(max_examples=40, deadline=None)
@given(
    window=_convolutions,
    groups=st.integers(2, 5),
    depth=st.integers(1, 3),
    filters=st.integers(1, 3),
    pool=_poolings | st.none(),
    batch=st.sampled_from((1, 3, 16, 17, 32, 50)),
)
def test_any_groups_train_as_in_numpy(
    window: Window, groups: int, depth: int, filters: int, pool: Window | None, batch: int
) -> None:
    second = replace(window, groups=groups)
    if min(second.outputs((8, 7))) < 3:
        return
    text = handmade(
        Window((2, 2)),
        second,
        pool,
        image=(9, 8, 2),
        batch=batch,
        filters=groups * depth,
        second_filters=groups * filters,
    )
    _assert_trains_as_in_numpy(LiteModel.from_bytes(text.write()))


@settings(max_examples=20, deadline=None)
@given(
    window=_convolutions,
    channels=st.sampled_from((16, 17, 24, 32)),
    filters=st.sampled_from((1, 9, 16)),
    pool=_poolings | st.none(),
    batch=st.sampled_from((1, 8, 9, 20, 24, 40)),
)
def test_channels_that_fill_vectors_train_as_in_numpy(
    window: Window, channels: int, filters: int, pool: Window | None, batch: int
) -> None:
    if min(window.outputs((6, 5))) < 3:
        return
    text = handmade(
        Window((2, 2)), window, pool, image=(7, 6, 1), batch=batch, filters=channels, second_filters=filters
    )
    _assert_trains_as_in_numpy(LiteModel.from_bytes(text.write()))


@pytest.mark.parametrize("filters", [7, 16])
def test_a_large_dense_layer_trains_as_in_numpy(filters: int) -> None:
    text = handmade(Window((2, 2)), image=(9, 17, 1), batch=5, filters=filters, classes=2**18 // (8 * 16 * filters) + 1)
    _assert_trains_as_in_numpy(LiteModel.from_bytes(text.write()))


def _assert_trains_as_in_numpy(model: LiteModel, *, equal: bool = False) -> None:
    session, expected = Session(check_model(model)), NumpyModel(model)
    for step in range(3):
        images, labels = random_batch(session, step)
        images = np.repeat(images[..., :1], images.shape[-1], axis=-1) if equal else images
        loss, expected_loss = session.train_step(images, labels), expected.step(images, labels)
        if expected.margin <= 5e-7:
            return
        assert loss == pytest.approx(expected_loss, rel=5e-6, abs=2e-5)
        np.testing.assert_allclose(session.predict(images), expected.predict(images), rtol=1e-5, atol=1e-4)
        for name, value in expected.weights().items():
            np.testing.assert_allclose(session.get_weights()[name], value, atol=2e-5, err_msg=name)
        expected.adopt(session.get_weights())


def test_a_real_file_means_to_numpy_what_it_means_to_the_runtime(lenet: LiteModel) -> None:
    session, expected = Session(lenet), NumpyModel(lenet)
    images, labels = random_batch(session, 1)
    assert session.train_step(images, labels) == pytest.approx(expected.step(images, labels), abs=1e-5)
    for name, value in expected.weights().items():
        np.testing.assert_allclose(session.get_weights()[name], value, atol=1e-6, err_msg=name)


def test_the_first_of_equal_maxima_gets_the_gradient() -> None:
    text = handmade(Window((1, 1)), pool=Window((2, 2), (1, 1)), image=(4, 4, 1))
    model = LiteModel.from_bytes(text.write())
    session, expected = Session(model), NumpyModel(model)
    images, labels = np.ones((3, 4, 4, 1), np.float32), np.array([0, 1, 2], np.int32)
    assert session.train_step(images, labels) == pytest.approx(expected.step(images, labels), abs=1e-6)
    for name, value in expected.weights().items():
        np.testing.assert_allclose(session.get_weights()[name], value, atol=1e-6, err_msg=name)


def test_numbers_that_are_not_finite_show_in_the_loss(lenet: LiteModel) -> None:
    session = Session(lenet)
    images, labels = random_batch(session, 1)
    images[3, 5, 5, 1] = np.nan
    assert np.isnan(session.train_step(images, labels))


def test_large_logits_give_a_finite_loss() -> None:
    model = LiteModel.from_bytes(handmade(Window((1, 1))).write())
    session, expected = Session(model), NumpyModel(model)
    images, labels = random_batch(session, 1)
    assert session.train_step(images * 1e4, labels) == pytest.approx(expected.step(images * 1e4, labels), rel=1e-5)


def _trained(executable: Executable | LiteModel, seed: int) -> bytes:
    session = Session(executable)
    images, labels = random_batch(session, seed, 100)
    losses = [session.train(images, labels), session.train(images[:, ..., :1].repeat(3, -1), labels)]
    return b"".join(array.tobytes() for array in (*losses, *session.get_weights().values(), session.predict(images)))


def test_runs_are_equal_to_the_bit_alone_again_and_in_four_threads(lenet: LiteModel) -> None:
    expected = [_trained(lenet, seed) for seed in range(4)]
    assert len(set(expected)) == 4
    assert _trained(lenet, 0) == expected[0]

    shared = Executable(lenet)
    found: dict[int, bytes] = {}
    threads = [threading.Thread(target=lambda n=n: found.update({n: _trained(shared, n)})) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [found[n] for n in range(4)] == expected


def test_batches_wrap_around_to_fill_the_last(lenet: LiteModel) -> None:
    images, labels = random_batch(Session(lenet), 1, 40)
    wrapped, filled = Session(lenet), Session(lenet)

    losses = wrapped.train(images, labels)
    again = np.arange(64) % 40

    assert losses.tolist() == filled.train(images[again], labels[again]).tolist()
    assert len(losses) == 2


def test_training_does_not_allocate_more_for_more_steps(lenet: LiteModel) -> None:
    session = Session(lenet)
    images, labels = random_batch(session, 1)
    batches = session.batches(images)
    session.train(batches, labels, steps=2)

    def peak(steps: int) -> int:
        tracemalloc.start()
        try:
            for _ in range(steps):
                session.train(batches, labels, steps=1)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    # Other threads of this process allocate now and then: not each time.
    few, many = (min(peak(steps) for _ in range(3)) for steps in (2, 40))
    assert many < few + 4096
    assert few < images.nbytes  # nothing of a batch's size is made anew


@pytest.mark.parametrize("count", [3, 32, 40, 64])
def test_batches_made_once_train_as_the_images_do(count: int, lenet: LiteModel) -> None:
    one, other = Session(lenet), Session(lenet)
    images, labels = random_batch(one, 1, count)
    batches = other.batches(images, steps=5)
    assert np.array_equal(one.train(images, labels, steps=5), other.train(batches, labels, steps=5))
    again = other.batches(images)
    for _ in range(2):
        assert np.array_equal(one.train(images, labels), other.train(again, labels))
    assert np.array_equal(one.predict(images), other.predict(again))


def test_other_threads_run_while_one_trains(lenet: LiteModel) -> None:
    session = Session(lenet)
    images, labels = random_batch(session, 1)
    started, ended = threading.Event(), threading.Event()

    def train() -> None:
        started.set()
        session.train(images, labels, steps=400)
        ended.set()

    thread = threading.Thread(target=train)
    thread.start()
    started.wait()
    turns = 0
    while not ended.wait(0.0001):
        turns += 1
    thread.join()
    assert turns > 20  # with the lock held, this thread gets one turn when the call is over


@pytest.mark.parametrize(("count", "lanes"), [(1, 16), (15, 16), (3, 32), (16, 32), (20, 32), (33, 64)])
@pytest.mark.parametrize("rows", [1, 5])
def test_lanes_behind_the_batch_are_cleared_and_nothing_else(count: int, lanes: int, rows: int) -> None:
    builder = Builder(count, 0)
    builder.emit("CLEAR", y=16, rows=rows, count=count, lanes=lanes)
    arena = np.ones(rows * lanes + 32, np.float32)
    whole, batches = np.zeros((1, 0), np.int32), np.zeros((1, 0, lanes), np.float32)
    machine, place = load_machine(), Place(0, 0, count, lanes, 0, 0, 0, 0).row()
    machine.execute(
        *(arena, builder.table(), builder.code(), machine.addresses, batches, whole, np.zeros(1, np.int32)),
        *(place, 1, np.zeros((1, 1), np.float32)),
    )
    expected = np.ones_like(arena)
    expected[16:-16].reshape(rows, lanes)[:, count:] = 0
    assert np.array_equal(arena, expected)


def test_an_instruction_takes_exactly_its_operands() -> None:
    builder = Builder(1, 0)
    with pytest.raises(TypeError, match="RELU takes"):
        builder.emit("RELU", x=0, y=0)
    builder.emit("RELU", x=0, y=16, size=16)
    assert builder.code()[0, :4].tolist() == [list(INSTRUCTIONS).index("RELU"), 0, 16, 16]


def test_equal_runs_of_table_entries_are_kept_once() -> None:
    builder = Builder(3, 0)
    first = builder.entries([5, 6])
    assert (first, builder.entries([7]), builder.entries(iter([5, 6]))) == (3, 5, 3)
    assert builder.table().tolist() == [0, 0, 0, 5, 6, 7]


def test_more_labels_and_whole_numbers_than_any_batch_has_are_refused_before_memory_is_asked_for() -> None:
    with pytest.raises(ModelFormatError, match="labels and whole numbers"):
        Builder(3, 0, 2**31)
