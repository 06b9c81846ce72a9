"""Rows of other libraries: each form of image, label, user and split works, or is refused by row."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mindfl.data import Dataset, fingerprint
from mindfl.errors import DataError, MindflWarning

RNG = np.random.default_rng(6)
GREY, COLOUR = RNG.integers(0, 256, (20, 9, 7), np.uint8), RNG.integers(0, 256, (20, 9, 7, 3), np.uint8)


class Scalar:
    """A stand-in for a tensor of one number."""

    def __init__(self, value: int) -> None:
        self._value = value

    def __index__(self) -> int:
        return self._value


def file_of(image: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "png")
    return file.getvalue()


def rows(
    image: Callable[[int], Any] = lambda n: GREY[n],
    label: Callable[[int], Any] = lambda n: n % 3,
    user: Callable[[int], Any] = lambda n: n // 5,
    count: int = 20,
) -> list[dict[str, Any]]:
    return [{"image": image(n), "label": label(n), "w": user(n)} for n in range(count)]


class Named(list[dict[str, Any]]):
    """A stand-in for a data set whose features name the classes."""

    @property
    def features(self) -> dict[str, Any]:
        return {"label": type("ClassLabel", (), {"names": ["x", "y", "z"]})()}


def read(given: Any, **options: Any) -> Dataset:
    return Dataset.from_huggingface(given, **{"user": "w", **options})


ALIKE: dict[str, Any] = {
    "pictures": rows(lambda n: Image.fromarray(GREY[n])),
    "pictures in colour": rows(lambda n: Image.fromarray(GREY[n]).convert("RGB")),
    "files": rows(lambda n: {"bytes": file_of(GREY[n]), "path": None}),
    "lists": rows(lambda n: GREY[n].tolist()),
    "lists of fractions": rows(lambda n: (GREY[n] / 255).tolist()),
    "scalars": rows(label=lambda n: Scalar(n % 3)),
    "numbers of NumPy": rows(label=lambda n: np.int8(n % 3), user=lambda n: np.int16(n // 5)),
    "texts of numbers": rows(label=lambda n: str(n % 3), user=lambda n: str(n // 5)),
    "named classes": Named(rows()),
    "one split": {"train": rows()},
}


@pytest.mark.parametrize("form", ALIKE)
def test_the_same_rows_have_one_fingerprint(form: str) -> None:
    assert fingerprint(read(ALIKE[form])) == fingerprint(read(iter(rows())))


def test_grey_and_coloured_pictures_have_three_channels() -> None:
    mixed = rows(lambda n: Image.fromarray((COLOUR if n % 2 else GREY)[n]).convert("RGBA" if n % 4 else "RGB"))
    data = read(mixed)
    found = {image.tobytes() for user in data for split in (user.train, user.test) for image in split.pixels}
    assert data.channels == 3
    assert found == {(COLOUR[n] if n % 2 else np.repeat(GREY[n][..., None], 3, -1)).tobytes() for n in range(20)}


def test_names_as_labels_are_the_classes() -> None:
    names = ["dog", "cat", "bird"]
    data = read(rows(label=lambda n: names[n % 3]))
    assert data.class_names == ("bird", "cat", "dog")
    labels = [label for part in (data.user("0").train, data.user("0").test) for label in part.labels.tolist()]
    assert sorted(labels) == [0, 1, 1, 2, 2]


def test_splits_stay_apart() -> None:
    data = read({"train": Named(rows()), "test": Named(rows(count=7))})
    assert [(user.train.size, user.test.size) for user in data] == [(5, 5), (5, 2), (5, 0), (5, 0)]
    assert data.class_names == ("x", "y", "z")
    np.testing.assert_array_equal(data.user("1").test.pixels[..., 0], GREY[5:7])
    divided = read({"train": rows(), "test": rows(count=7)}, user=None, users=2)
    assert [user.train.size for user in divided] == [10, 10] and sum(user.test.size for user in divided) == 7


def test_a_split_that_is_not_read_is_named() -> None:
    with pytest.warns(MindflWarning, match="the split validation is not read, only train and test are"):
        assert len(read({"train": rows(), "validation": rows()})) == 4


FAULTS: dict[str, tuple[Any, dict[str, Any]]] = {
    "cannot read row 0: the image: not a readable image": (rows(lambda n: {"bytes": b"rubbish"}), {}),
    "row 0: the image is object of shape ()": (rows(lambda n: None), {}),
    "row 0: the image is <U5 of shape ()": (rows(lambda n: "x.png"), {}),
    "row 0: the image is int64 of shape (9, 7)": (rows(lambda n: GREY[n].astype(int) - 300), {}),
    "row 0: the image cannot be made a NumPy array": (rows(lambda n: [[1], [1, 2]]), {}),
    "row 0: the image is uint8 of shape (7,)": (rows(lambda n: GREY[n, 0]), {}),
    "row 1 has an image of shape (9, 7) (float32), row 0 has (9, 7) (uint8)": (
        rows(lambda n: GREY[n] / 255 if n % 2 else GREY[n]),
        {},
    ),
    "row 1: the label 1.5 is no whole number": (rows(label=lambda n: n * 1.5 if n else 0), {}),
    "row 0: the label None is no whole number": (rows(label=lambda n: None), {}),
    "row 0: the label 'b' is no whole number": (rows(label=lambda n: "3" if n % 2 else "b"), {}),
    "row 2: the label -1 is outside 0..1048575": (rows(label=lambda n: 1 - n if n < 3 else 0), {}),
    "row 0: the user None is neither a text nor a whole number": (rows(user=lambda n: None), {}),
    "user name 'a/b' cannot name a folder": (rows(user=lambda n: "a/b"), {}),
    "user 0: label ": (Named(rows(label=lambda n: n)), {}),
    "there is no split named train; splits: image, label": ({"image": GREY, "label": [1]}, {}),
    "there are no rows in the split train": ({"train": [], "test": rows()}, {}),
    "train, row 0 has no column 'W'": ({"train": rows()}, {"user": "W"}),
    "user q has rows in test and none in train": ({"train": rows(), "test": rows(user=lambda n: "q")}, {}),
    "row 0 is int, not a mapping of columns": ([1, 2], {}),
    "rows are int, which yields none": (5, {}),
}


@pytest.mark.parametrize("message", FAULTS)
def test_what_cannot_be_used_is_named_by_row(message: str) -> None:
    given, options = FAULTS[message]
    with pytest.raises(DataError) as caught:
        read(given, **options)
    assert str(caught.value).startswith(message)


def test_rows_are_read_once() -> None:
    def once() -> Iterable[dict[str, Any]]:
        yield from rows()

    assert read(once()).classes == 3
