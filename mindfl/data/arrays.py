"""A data set of arrays in memory. The arrays are not copied; a part is converted to floats when a client uses it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mindfl.data.label_numbers import MOST_CLASSES
from mindfl.data.pictures import as_array
from mindfl.data.pixels import Images
from mindfl.data.samples import CENTRAL, PARTS, Dataset, Split, UserData, check_labels, check_name, class_numbers
from mindfl.errors import DataError
from mindfl.files import PathLike
from mindfl.notices import warn
from mindfl.spelling import counted

#: most channels of a picture; with more, and 1 or 3 rows, channels are probably the second axis
_CHANNELS = 4
_USERS = '{"ann": (images, labels), ...}'
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
        users: Mapping[str, Sequence[Any]] | Mapping[int, Sequence[Any]],
        *,
        class_names: Sequence[str] | None = None,
        classes: int | None = None,
        central_test: Sequence[NDArray[Any]] | None = None,
        name: str = "arrays",
    ) -> None:
        self._name = name
        parts = {user: _checked_user(user, arrays) for user, arrays in _named_users(users).items()}
        central = None if central_test is None else _checked_central(central_test)
        height, width, self.channels = _common_shape(parts, central)
        self.image_size, self.grey = (height, width), self.channels == 1
        self.class_names = _class_names(class_names, classes, _by_owner(parts, central))
        self.classes = len(self.class_names)
        if central is not None:
            numbers = class_numbers(central.labels, CENTRAL, "central_test", self.classes)
            self.central_test = Split(numbers, len(numbers), ArrayImages(central.images, CENTRAL))
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


def _named_users(users: Any) -> dict[str, Any]:
    """Return the users' arrays by name. Whole numbers are names too."""
    if not isinstance(users, Mapping):
        raise DataError(f"users are {type(users).__name__}, not a mapping", hint=_USERS)
    if not users:
        raise DataError("there are no users", hint=_USERS)
    named: dict[str, Any] = {}
    for user, arrays in users.items():
        whole = isinstance(user, int | np.integer) and not isinstance(user, bool)
        name = check_name(str(user) if whole else user)
        if name in named:
            raise DataError(f"two users are named {name}")
        named[name] = arrays
    return named


class _Part(NamedTuple):
    images: NDArray[Any]
    labels: NDArray[np.integer[Any]]


def _checked_user(user: str, arrays: Sequence[NDArray[Any]]) -> tuple[_Part, _Part]:
    if not isinstance(arrays, tuple | list) or len(arrays) not in (2, 4):
        raise DataError(f"user {user} is not {_FORMS}")
    train = _checked_part(arrays[0], arrays[1], f"user {user}: train")
    if not len(train.images):
        raise DataError(f"user {user} has no train samples", hint="each user needs at least one")
    nothing = _Part(train.images[:0], np.zeros(0, np.int32))
    test = zip(arrays[2:], ("images", "labels"), strict=False)
    if all(not as_array(each, f"user {user}: test {what}").size for each, what in test):
        return train, nothing
    return train, _checked_part(arrays[2], arrays[3], f"user {user}: test")


def _checked_part(images: Any, labels: Any, owner: str) -> _Part:
    part = _Part(_checked_images(images, owner), as_array(labels, f"{owner} labels"))
    if part.labels.ndim != 1 or part.labels.dtype.kind not in "iu":
        raise DataError(
            f"{owner} labels are {part.labels.dtype} of shape {part.labels.shape}", hint="give whole numbers [n]"
        )
    if len(part.images) != len(part.labels):
        raise DataError(
            f"{owner} part has {counted(len(part.images), 'image')}, but {counted(len(part.labels), 'label')}"
        )
    return part


def _checked_images(images: Any, owner: str) -> NDArray[Any]:
    """Return a read-only view of shape (n, height, width, channels)."""
    view: NDArray[Any] = as_array(images, f"{owner} images").view()
    if view.dtype not in (np.uint8, np.float32):
        raise DataError(f"{owner} images are {view.dtype}", hint="give uint8 (0..255) or float32 (0..1)")
    if view.ndim not in (3, 4) or 0 in view.shape[1:]:
        table = "; a table of numbers as images of one row" if view.ndim == 2 else ""
        raise DataError(
            f"{owner} images have shape {view.shape}",
            hint=f"[n, height, width] or [n, height, width, channels]{table}",
        )
    if view.dtype == np.float32 and view.size and not (view.min() >= 0 and view.max() <= 1):
        found = "NaN" if np.isnan(view.min()) else f"values from {view.min():g} to {view.max():g}"
        raise DataError(f"{owner} images hold {found}", hint="float32 must be in 0..1; uint8 is 0..255")
    if view.ndim == 4 and view.shape[1] in (1, 3) and min(view.shape[2:]) > _CHANNELS:
        warn(f"{owner} images of shape {view.shape} have {view.shape[3]} channels: channels are the last axis")
    view.flags.writeable = False
    return view if view.ndim == 4 else view[..., None]


def _checked_central(given: Any) -> _Part:
    if not isinstance(given, tuple | list) or len(given) != 2:
        raise DataError("central_test is not (images, labels)")
    part = _checked_part(given[0], given[1], "central_test")
    if not len(part.images):
        raise DataError("central_test has no samples", hint="leave it out where there are none")
    return part


def _common_shape(parts: Mapping[str, tuple[_Part, _Part]], central: _Part | None) -> tuple[int, ...]:
    """Return (height, width, channels). Raises :class:`DataError` if two users, or a user and ``central``, differ."""
    first, (train, _) = next(iter(parts.items()))
    expected = train.images.shape[1:]
    for user, pair in parts.items():
        for what, part in zip(PARTS, pair, strict=True):
            if part.images.shape[1:] != expected:
                raise DataError(
                    f"user {user}: {what} images are {_words(part.images.shape[1:])}, but those of {first} are"
                    f" {_words(expected)}"
                )
    if central is not None and central.images.shape[1:] != expected:
        raise DataError(
            f"central_test images are {_words(central.images.shape[1:])}, but those of {first} are {_words(expected)}"
        )
    return tuple(expected)


def _words(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape[:2])) + f" with {counted(shape[2], 'channel')}"


def _class_names(names: Any, classes: Any, parts: Iterable[tuple[str, _Part]]) -> tuple[str, ...]:
    whole = isinstance(classes, int | np.integer) and not isinstance(classes, bool)
    if classes is not None and not (whole and 0 < classes <= MOST_CLASSES):
        raise DataError(f"classes must be a whole number from 1 to {MOST_CLASSES}, got {classes!r:.60}")
    if names is None:
        return tuple(map(str, range(_classes(parts) if classes is None else classes)))
    texts = tuple(names) if isinstance(names, Iterable) and not isinstance(names, str) else ()
    usable = all(isinstance(name, str) and name and name.isprintable() for name in texts)
    if not texts or not usable or len({*texts}) != len(texts):
        raise DataError(f"class_names {names!r:.60} are not different texts", hint='such as ["cat", "dog"]')
    if classes not in (None, len(texts)):
        raise DataError(
            f"there are {counted(len(texts), 'class name')}, but {counted(classes or 0, 'class', 'classes')}"
        )
    return tuple(map(str, texts))


def _by_owner(parts: Mapping[str, tuple[_Part, _Part]], central: _Part | None) -> Iterator[tuple[str, _Part]]:
    """Yield each part with its name in messages."""
    for user, pair in parts.items():
        for what, part in zip(PARTS, pair, strict=True):
            yield f"user {user}: the {what} part", part
    if central is not None:
        yield "central_test", central


def _classes(parts: Iterable[tuple[str, _Part]]) -> int:
    """Return the largest label and one."""
    most = 0
    for owner, part in parts:
        largest = int(part.labels.max(initial=0))
        if largest >= MOST_CLASSES:
            raise DataError(f"{owner} has the label {largest}, mindfl takes up to {MOST_CLASSES} classes")
        most = max(most, largest)
    return most + 1
