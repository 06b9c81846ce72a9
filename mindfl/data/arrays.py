"""A data set of arrays in memory. The arrays are not copied; a part is converted to floats when a client uses it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mindfl.data.pixels import Images
from mindfl.data.samples import PARTS, Dataset, Split, UserData, check_labels, check_name
from mindfl.errors import DataError
from mindfl.files import PathLike
from mindfl.spelling import counted

#: accepted forms of a user, for messages
_FORMS = "(images, labels) or (images, labels, test images, test labels)"


@dataclass(frozen=True, eq=False)
class ArrayImages(Images):
    """Images of ``user`` in an array: uint8 or float32, (n, height, width, channels)."""

    values: NDArray[Any]
    user: str

    @property
    def owner(self) -> str:
        return f"user {self.user}"

    def map(self, first: int, count: int) -> NDArray[Any]:
        """See :meth:`Images.map`."""
        return self.values[first : first + count]

    def read(self, first: int, count: int) -> NDArray[np.float32]:
        """See :meth:`Images.read`; a copy."""
        stored = self.map(first, count)
        largest = np.float32(255 if stored.dtype == np.uint8 else 1)
        images: NDArray[np.float32] = np.divide(stored, largest, dtype=np.float32)
        return images


class ArrayDataset(Dataset):
    """What :meth:`Dataset.from_arrays` returns; see there for the arguments."""

    kind = "arrays"

    def __init__(
        self,
        users: Mapping[str, Sequence[NDArray[Any]]],
        *,
        class_names: Sequence[str] | None = None,
        classes: int | None = None,
        name: str = "arrays",
    ) -> None:
        self._name = name
        if not users:
            raise DataError("there are no users", hint='{"ann": (images, labels), ...}')
        parts = {check_name(user): _checked_user(user, arrays) for user, arrays in users.items()}
        height, width, self.channels = _common_shape(parts)
        self.image_size, self.grey = (height, width), self.channels == 1
        self.class_names = _class_names(class_names, classes, parts)
        self.classes = len(self.class_names)
        self._data = {user: self._user_data(user, *pair) for user, pair in parts.items()}
        self._set_users(list(parts))

    @property
    def name(self) -> str:
        """The name given by the caller."""
        return self._name

    @property
    def source(self) -> str:
        """``"arrays"``."""
        return self.kind

    def save(self, output: PathLike) -> None:
        """Write the data set to a folder, from which :func:`mindfl.data.open_dataset` reads it.

        Args:
            output: the new folder.

        Raises:
            OptionError: ``output`` holds something.
            StorageError: it cannot be written.
        """
        from mindfl.data.stored_arrays import save_arrays

        save_arrays(self, output, source=self.name)

    def _user_data(self, name: str, train: _Part, test: _Part) -> UserData:
        splits = []
        for what, (images, labels) in zip(PARTS, (train, test), strict=True):
            numbers = check_labels(labels, name, f"the {what} part", self.classes)
            splits.append(Split(numbers, len(numbers), ArrayImages(images, name)))
        return UserData(name, *splits)

    def _open(self, name: str) -> UserData:
        return self._data[name]


class _Part(NamedTuple):
    images: NDArray[Any]
    labels: NDArray[np.integer[Any]]


def _checked_user(user: str, arrays: Sequence[NDArray[Any]]) -> tuple[_Part, _Part]:
    if not isinstance(arrays, tuple | list) or len(arrays) not in (2, 4):
        raise DataError(f"user {user} is not {_FORMS}")
    images, labels, *test = arrays
    train = _Part(_checked_images(images, f"user {user}: train"), np.asarray(labels))
    _check_part(train, f"user {user}: train")
    if not len(train.images):
        raise DataError(f"user {user} has no train samples", hint="each user needs at least one")
    if not test or not (len(test[0]) or len(test[1])):
        return train, _Part(train.images[:0], np.zeros(0, np.int32))
    other = _Part(_checked_images(test[0], f"user {user}: test"), np.asarray(test[1]))
    _check_part(other, f"user {user}: test")
    return train, other


def _checked_images(images: NDArray[Any], owner: str) -> NDArray[Any]:
    """Return a read-only view of shape (n, height, width, channels)."""
    view: NDArray[Any] = np.asarray(images).view()
    if view.dtype not in (np.uint8, np.float32):
        raise DataError(f"{owner} images are {view.dtype}", hint="give uint8 (0..255) or float32 (0..1)")
    if view.ndim not in (3, 4) or 0 in view.shape[1:]:
        raise DataError(
            f"{owner} images have shape {view.shape}", hint="[n, height, width] or [n, height, width, channels]"
        )
    if view.dtype == np.float32 and view.size and not (view.min() >= 0 and view.max() <= 1):
        found = "NaN" if np.isnan(view.min()) else f"values from {view.min():g} to {view.max():g}"
        raise DataError(f"{owner} images hold {found}", hint="float32 must be in 0..1; uint8 is 0..255")
    view.flags.writeable = False
    return view if view.ndim == 4 else view[..., None]


def _check_part(part: _Part, owner: str) -> None:
    images, labels = part
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise DataError(f"{owner} labels are {labels.dtype} of shape {labels.shape}", hint="give whole numbers [n]")
    if len(images) != len(labels):
        raise DataError(f"{owner} part has {counted(len(images), 'image')}, but {counted(len(labels), 'label')}")


def _common_shape(parts: Mapping[str, tuple[_Part, _Part]]) -> tuple[int, ...]:
    """Return (height, width, channels). Raises :class:`DataError` if two users differ."""
    first, (train, _) = next(iter(parts.items()))
    expected = train.images.shape[1:]
    for user, pair in parts.items():
        for what, part in zip(PARTS, pair, strict=True):
            if part.images.shape[1:] != expected:
                raise DataError(
                    f"user {user}: {what} images are {_words(part.images.shape[1:])}, but those of {first} are"
                    f" {_words(expected)}"
                )
    return tuple(expected)


def _words(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape[:2])) + f" with {counted(shape[2], 'channel')}"


def _class_names(
    names: Sequence[str] | None, classes: int | None, parts: Mapping[str, tuple[_Part, _Part]]
) -> tuple[str, ...]:
    if names is None:
        largest = max(int(part.labels.max(initial=0)) for pair in parts.values() for part in pair)
        return tuple(map(str, range(largest + 1 if classes is None else classes)))
    if isinstance(names, str) or not all(isinstance(name, str) for name in names) or len({*names}) != len(names):
        raise DataError(f"class_names {names!r:.60} are not different texts", hint='such as ["cat", "dog"]')
    if classes not in (None, len(names)):
        raise DataError(
            f"there are {counted(len(names), 'class name')}, but {counted(classes or 0, 'class', 'classes')}"
        )
    return tuple(names)
