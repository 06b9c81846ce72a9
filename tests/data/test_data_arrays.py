"""Data sets of arrays: arrays of any size are read back unchanged, and unusable ones are named."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mindfl.data import Dataset, fingerprint, open_dataset
from mindfl.errors import DataError, MindflWarning, OptionError
from mindfl.sim.job_data import PairedDataset


def images(count: int = 4, *shape: int, dtype: Any = np.uint8) -> np.ndarray[Any, Any]:
    values = np.random.default_rng(1).integers(0, 256, (count, *(shape or (24, 20, 3))), np.uint8)
    return values if dtype == np.uint8 else values.astype(dtype) / np.float32(255)


LABELS = np.array([0, 2, 1, 2])


def test_what_is_given_is_read() -> None:
    train, test = images(4), images(2)
    users = {"b2": (train, LABELS), "b10": (train, LABELS, test, LABELS[:2])}
    data = Dataset.from_arrays(users, test_share=0, name="mine")
    assert (data.users, data.kind, data.source, data.name, data.synthetic) == (
        ("b2", "b10"),
        "arrays",
        "arrays",
        "mine",
        False,
    )
    assert (data.image_size, data.channels, data.classes, data.class_names) == ((24, 20), 3, 3, ("0", "1", "2"))
    user = data.user("b10")
    assert (user.train.size, user.test.size, data.user("b2").test.size) == (4, 2, 0)
    assert user.train.labels.dtype == np.int32 and user.train.labels.tolist() == [0, 2, 1, 2]
    expected = train.astype(np.float32) / np.float32(255)
    assert np.array_equal(user.train.images(), expected) and np.array_equal(user.train.images(1, 3), expected[1:3])
    assert user.train.planes().shape == (4, 24, 20, 3)
    assert data.user("b2").test.images().shape == (0, 24, 20, 3)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("shape", [(32, 32), (32, 32, 1)])
def test_grey_images_are_those_of_the_same_set_on_disk(dtype: Any, shape: tuple[int, ...], synthetic: Path) -> None:
    stored = open_dataset(synthetic)
    arrays = {}
    for user in stored:
        parts = []
        for split in (user.train, user.test):
            grey = split.grey() if dtype == np.uint8 else split.planes()
            parts += [grey.reshape(-1, *shape), split.labels]
        arrays[user.name] = parts
    data = Dataset.from_arrays(arrays, classes=62)
    assert (data.channels, data.grey, fingerprint(data)) == (1, True, fingerprint(stored))
    for own, other in zip(data, stored, strict=True):
        assert np.array_equal(own.train.planes(), other.train.planes())


@given(
    height=st.integers(1, 5),
    width=st.integers(1, 5),
    channels=st.integers(1, 4),
    sizes=st.lists(st.integers(1, 4), min_size=1, max_size=3),
)
def test_any_shape(height: int, width: int, channels: int, sizes: list[int]) -> None:
    users = {f"u{i}": (images(size, height, width, channels), np.arange(size)) for i, size in enumerate(sizes)}
    data = Dataset.from_arrays(users, test_share=0)
    assert (data.image_size, data.channels, data.classes) == ((height, width), channels, max(sizes))
    for name, (given_images, labels) in users.items():
        train = data.user(name).train
        assert np.array_equal(np.rint(train.images() * 255), given_images) and train.labels.tolist() == labels.tolist()


def test_the_arrays_are_neither_copied_nor_changed() -> None:
    train = images(4, dtype=np.float32)
    data = Dataset.from_arrays({"ann": (train, LABELS)}, test_share=0)
    stored = data.user("ann").train.pixels
    assert np.shares_memory(stored, train) and not stored.flags.writeable and train.flags.writeable
    data.user("ann").train.images()[...] = 0
    assert train.any()
    assert np.array_equal(pickle.loads(pickle.dumps(data)).user("ann").train.images(), train)


def test_the_fingerprint_changes_with_any_pixel_label_name_and_shape() -> None:
    def of(values: np.ndarray[Any, Any], labels: np.ndarray[Any, Any] = LABELS, name: str = "ann") -> str:
        return fingerprint(Dataset.from_arrays({name: (values, labels)}, classes=3)).sha256

    train = images()
    other = train.copy()
    other[3, 23, 19, 2] ^= 1
    found = {of(train), of(other), of(train, LABELS[::-1]), of(train, name="bob"), of(train.reshape(4, 20, 24, 3))}
    assert len(found) == 5
    assert of(images(dtype=np.float32)) == of(train)


def with_nan() -> np.ndarray[Any, Any]:
    values = images(dtype=np.float32)
    values[2, 0, 0, 0] = np.nan
    return values


class OnGpu:
    """A stand-in for a tensor that NumPy cannot read."""

    def __array__(self, *_arguments: Any, **_options: Any) -> Any:
        raise TypeError("on the GPU")


class Tensor:
    """A stand-in for a tensor that NumPy can read."""

    def __init__(self, values: np.ndarray[Any, Any]) -> None:
        self.values = values

    def __array__(self, *_arguments: Any, **_options: Any) -> np.ndarray[Any, Any]:
        return self.values


#: the same samples in other arrays
ALIKE: dict[str, Callable[[np.ndarray[Any, Any], np.ndarray[Any, Any]], tuple[Any, Any]]] = {
    "as they are": lambda x, y: (x, y),
    "floats": lambda x, y: (x / np.float32(255), y),
    "big-endian": lambda x, y: ((x / np.float32(255)).astype(">f4"), y.astype(">i8")),
    "turned about": lambda x, y: (np.ascontiguousarray(x[::-1])[::-1], np.ascontiguousarray(y[::-1])[::-1]),
    "tensors": lambda x, y: (Tensor(x), Tensor(y)),
    "lists of labels": lambda x, y: (x, y.tolist()),
    "unsigned labels": lambda x, y: (x, y.astype(np.uint64)),
}


@pytest.mark.parametrize("form", ALIKE)
@pytest.mark.parametrize("shape", [(24, 20, 3), (9, 7)])
def test_the_same_samples_have_one_fingerprint_however_given_and_stored(
    form: str, shape: tuple[int, ...], tmp_path: Path
) -> None:
    train, test = images(4, *shape), images(2, *shape)
    plain = {"3": (train, LABELS, test, LABELS[:2]), "20": (train[:1], LABELS[:1])}
    other = {
        20: ALIKE[form](*plain["20"]),
        np.int64(3): (*ALIKE[form](train, LABELS), *ALIKE[form](test, LABELS[:2])),
    }
    data = Dataset.from_arrays(other, classes=np.int8(3))  # type: ignore[arg-type]
    data.save(tmp_path / "out")
    expected = fingerprint(Dataset.from_arrays(plain))
    assert fingerprint(data) == fingerprint(open_dataset(tmp_path / "out")) == expected
    assert (expected.users, expected.samples, expected.classes) == (2, 7, 3)


def test_channels_in_the_second_axis_are_suspected() -> None:
    with pytest.warns(MindflWarning, match=r"user a: train images of shape \(4, 3, 24, 20\) have 20 channels"):
        Dataset.from_arrays({"a": (images(4, 3, 24, 20), LABELS)})


FAULTS: dict[str, tuple[Callable[[], Any], dict[str, Any]]] = {
    "user ben: train part has 4 images, but 3 labels": (lambda: (images(), LABELS[:3]), {}),
    "user ben: test part has 2 images, but 1 label": (lambda: (images(), LABELS, images(2), LABELS[:1]), {}),
    "user ben: train images hold NaN": (lambda: (with_nan(), LABELS), {}),
    "user ben: train images hold values from 0 to 2": (
        lambda: (np.linspace(0, 2, 4 * 24 * 20 * 3, dtype=np.float32).reshape(4, 24, 20, 3), LABELS),
        {},
    ),
    "user ben: train images are float64": (lambda: (images() / 255.0, LABELS), {}),
    "user ben: test images are int64": (lambda: (images(), LABELS, images(2).astype(int), LABELS[:2]), {}),
    "user ben: label 2 of sample 1 in the train part is outside 0..1": (lambda: (images(), LABELS), {"classes": 2}),
    "user ben: label -1 of sample 0 in the train part is outside 0..1": (lambda: (images(), LABELS - 1), {}),
    "user ben has no train samples": (lambda: (images()[:0], LABELS[:0]), {}),
    "user ben: train images have shape (4, 1440)": (lambda: (images().reshape(4, -1), LABELS), {}),
    "user ben: train images have shape (4, 24, 0)": (lambda: (np.zeros((4, 24, 0), np.uint8), LABELS), {}),
    "user ben: train images are 20x24 with 3 channels, but those of ann are 24x20 with 3 channels": (
        lambda: (images(4, 20, 24, 3), LABELS),
        {},
    ),
    "user ben: test images are 24x20 with 1 channel, but those of ann are 24x20 with 3 channels": (
        lambda: (images(), LABELS, images(2, 24, 20), LABELS[:2]),
        {},
    ),
    "user ben: train labels are float64 of shape (4,)": (lambda: (images(), LABELS / 1), {}),
    "user ben: train labels are int64 of shape (4, 1)": (lambda: (images(), LABELS[:, None]), {}),
    "user ben is not (images, labels) or": (lambda: (images(), LABELS, images()), {}),
    "user ben: train images cannot be made a NumPy array": (lambda: ([[[1]], [[1, 2]]], LABELS[:2]), {}),
    "user ben: test images cannot be made a NumPy array: on the GPU": (lambda: (images(), LABELS, OnGpu(), LABELS), {}),
    "user ben: train images are object": (lambda: ((image for image in images()), LABELS), {}),
    "user ben: train labels are <U1 of shape (4,)": (lambda: (images(), ["a", "b", "a", "b"]), {}),
    "user ben: train labels are bool of shape (4,)": (lambda: (images(), LABELS > 1), {}),
    "user ben: the train part has the label 1000000000002, mindfl": (lambda: (images(), LABELS + 10**12), {}),
    "classes must be a whole number from 1 to 1048576, got 0": (lambda: (images(), LABELS), {"classes": 0}),
    "classes must be a whole number from 1 to 1048576, got '3'": (lambda: (images(), LABELS), {"classes": "3"}),
    "class_names [] are not different texts": (lambda: (images(), LABELS), {"class_names": []}),
    "class_names ['a', '\\udcff'] are not different texts": (
        lambda: (images(), LABELS),
        {"class_names": ["a", "\udcff"]},
    ),
    "class_names ['a', 'b', 'a'] are not different texts": (
        lambda: (images(), LABELS),
        {"class_names": ["a", "b", "a"]},
    ),
    "there are 3 class names, but 2 classes": (
        lambda: (images(), LABELS),
        {"class_names": ["a", "b", "c"], "classes": 2},
    ),
}


@pytest.mark.parametrize("message", FAULTS)
def test_what_cannot_be_used_is_named(message: str) -> None:
    make, options = FAULTS[message]
    ann = (images(1), np.array([0]))
    with pytest.raises(DataError) as caught:
        Dataset.from_arrays({"ann": ann, "ben": make()}, **options)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("users", "message"),
    [
        ({}, "no users"),
        ({"../up": (images(), LABELS)}, "cannot name a folder"),
        ({True: (images(), LABELS)}, "cannot name a folder"),
        ({"3": (images(), LABELS), 3: (images(), LABELS)}, "two users are named 3"),
        ([(images(), LABELS)], "users are list, not a mapping"),
    ],
)
def test_unusable_users(users: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        Dataset.from_arrays(users)


def test_colours_are_not_grey() -> None:
    split = Dataset.from_arrays({"ann": (images(), LABELS)}).user(0).train
    with pytest.raises(DataError, match="user ann: the images are not 8-bit grey"):
        split.grey()


def test_test_data_of_another_kind_are_refused() -> None:
    train = Dataset.from_arrays({"ann": (images(), LABELS)}, name="train")
    test = Dataset.from_arrays({"ann": (images(4, 24, 24, 3), LABELS)}, name="test")
    with pytest.raises(DataError) as caught:
        PairedDataset(train, test)
    assert str(caught.value) == "train has image_size (24, 20), but its test data set test has (24, 24)"


@pytest.mark.parametrize("seed", [-1, 1.5, True])
def test_a_seed_that_is_no_whole_number_from_0_is_refused(seed: Any) -> None:
    with pytest.raises(OptionError, match=f"seed is {seed}, not a whole number of at least 0"):
        Dataset.from_arrays({"ann": (images(), LABELS)}, seed=seed)


def test_a_sample_that_changed_since_is_named_by_its_place_in_the_array() -> None:
    values = np.zeros((10, 3), np.float32)
    data = Dataset.from_arrays({"ann": (values, np.arange(10) % 2)}, seed=3)
    train = data.user("ann").train
    values[7] = np.nan
    with pytest.raises(DataError, match="sample 7 holds nan"):
        (train if 7 in train.source.order else data.user("ann").test).images()
