"""The form "arrays": images of any size, channels and classes in three files.

    arrays.json    format, version, source, image shape, type of the numbers, class names, each user's name and
                   numbers of train and test samples, in file order; the number of central test samples, if any
    images.raw     the images one after another, a user's train samples before its test samples, the central ones last
    labels.raw     their labels, little-endian int32

The index is written last, and the sizes of the other two must match it.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from itertools import accumulate, chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mindfl.data.arrays import ArrayImages
from mindfl.data.compact import check_size
from mindfl.data.folder import filled_folder, read_json
from mindfl.data.samples import CENTRAL, PARTS, Dataset, Split, StoredDataset, UserData, check_name, class_numbers
from mindfl.errors import DataError
from mindfl.files import PathLike, local_path

INDEX = "arrays.json"
_IMAGES, _LABELS = "images.raw", "labels.raw"
_FORMAT: dict[str, Any] = {"format": "mindfl-arrays", "version": 1}
_TYPES: dict[str, np.dtype[Any]] = {"uint8": np.dtype("u1"), "float32": np.dtype("<f4")}


def save_arrays(dataset: Dataset, output: PathLike, *, source: str) -> None:
    """Write a data set of arrays to the folder ``output``, which must be missing or empty.

    Raises :class:`OptionError` where ``output`` holds something, and :class:`StorageError` where writing fails.
    """
    users: list[dict[str, Any]] = []
    central = dataset.central_test
    others = () if central is None else (central,)
    splits = chain(chain.from_iterable((user.train, user.test) for user in dataset), others)
    bytes_only = all(split.pixels.dtype == np.uint8 for split in splits)
    kind = "uint8" if bytes_only else "float32"
    with filled_folder(local_path(output).absolute()) as folder:
        with (folder / _IMAGES).open("wb") as images, (folder / _LABELS).open("wb") as labels:

            def write(split: Split) -> None:
                pixels = split.pixels if bytes_only else split.images()
                images.write(pixels.astype(_TYPES[kind]).tobytes())
                labels.write(split.labels.astype("<i4").tobytes())

            for user in dataset:
                write(user.train)
                write(user.test)
                users.append({"name": user.name, "train": user.train.size, "test": user.test.size})
            if central is not None:
                write(central)
        index = {
            **_FORMAT,
            "source": source,
            "image": [*dataset.image_size, dataset.channels],
            "type": kind,
            "class_names": list(dataset.class_names),
            "users": users,
            **({} if central is None else {"central_test": central.size}),
        }
        (folder / INDEX).write_text(json.dumps(index, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


@dataclass(frozen=True)
class _Place:
    """Where a user's samples lie: number of the first, and of its train and test samples."""

    first: int
    train: int
    test: int


class StoredArrays(StoredDataset):
    """Reads the form "arrays". Opening checks the index and the files' sizes; labels are checked user by user."""

    kind = "arrays"

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        index = read_json(root / INDEX, "the data set's index")
        if not isinstance(index, dict) or any(index.get(key) != value for key, value in _FORMAT.items()):
            raise DataError(f"{root / INDEX} is not the index of a data set that this mindfl reads")
        self._source = str(index.get("source", "unknown"))
        self._shape, self._type = self._image(index)
        height, width, self.channels = self._shape
        self.image_size, self.grey = (height, width), self.channels == 1
        self.class_names = self._names(index)
        self.classes = len(self.class_names)
        self._places = self._users(index)
        owned = sum(place.train + place.test for place in self._places.values())
        central = self._central(index)
        samples = owned + central
        for file, each in ((_IMAGES, math.prod(self._shape) * self._type.itemsize), (_LABELS, 4)):
            check_size(root / file, samples * each)
        self._set_users(list(self._places))
        self.central_test = self._split(CENTRAL, owned, central) if central else None

    @staticmethod
    def recognises(root: Path) -> bool:
        """Return whether ``root`` contains an index of this form."""
        return (root / INDEX).is_file()

    @property
    def source(self) -> str:
        """Source in the index."""
        return self._source

    def _open(self, name: str) -> UserData:
        place = self._places[name]
        return UserData(name, self._split(name, place.first, place.train), self._open_test(name))

    def _open_test(self, name: str) -> Split:
        place = self._places[name]
        return self._split(name, place.first + place.train, place.test)

    def _split(self, name: str, first: int, count: int) -> Split:
        owner = name if name == CENTRAL else f"user {name}"
        labels = self._map(owner, _LABELS, np.dtype("<i4"), first, count, ())
        images = self._map(owner, _IMAGES, self._type, first, count, self._shape)
        numbers = class_numbers(labels, owner, self.root / _LABELS, self.classes)
        return Split(numbers, count, ArrayImages(images, name))

    def _map(
        self, owner: str, file: str, kind: np.dtype[Any], first: int, count: int, shape: tuple[int, ...]
    ) -> NDArray[Any]:
        if not count:
            return np.zeros((0, *shape), kind)
        try:
            return np.memmap(self.root / file, kind, "r", first * math.prod(shape) * kind.itemsize, (count, *shape))
        except (OSError, ValueError) as error:
            raise DataError(f"{owner}: cannot read {self.root / file}: {error}") from None

    def _image(self, index: dict[str, Any]) -> tuple[tuple[int, int, int], np.dtype[Any]]:
        shape, kind = index.get("image"), index.get("type")
        sizes = shape if isinstance(shape, list) and all(type(n) is int and 0 < n < 2**20 for n in shape) else []
        if len(sizes) != 3 or not isinstance(kind, str) or kind not in _TYPES:
            raise DataError(f"{self.root / INDEX} has no usable image shape or type: {shape!r}, {kind!r}")
        height, width, channels = sizes
        return (height, width, channels), _TYPES[kind]

    def _central(self, index: dict[str, Any]) -> int:
        count = index.get("central_test", 0)
        if type(count) is not int or not 0 <= count < 2**40:
            raise DataError(f"{self.root / INDEX} has no usable number of central test samples: {str(count)[:80]}")
        return count

    def _names(self, index: dict[str, Any]) -> tuple[str, ...]:
        names = index.get("class_names")
        if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
            raise DataError(f"{self.root / INDEX} has no list of class names")
        return tuple(names)

    def _users(self, index: dict[str, Any]) -> dict[str, _Place]:
        entries = index.get("users")
        if not isinstance(entries, list) or not entries:
            raise DataError(f"{self.root / INDEX} has no list of users")
        counts = {}
        for entry in entries:
            fields = entry if isinstance(entry, dict) else {}
            train, test = (fields.get(part) for part in PARTS)
            if not (type(train) is int and type(test) is int and 0 < train < 2**40 and 0 <= test < 2**40):
                raise DataError(f"{INDEX} has a broken user entry: {str(entry)[:80]}")
            counts[check_name(fields.get("name"))] = (train, test)
        if len(counts) != len(entries):
            raise DataError(f"{self.root / INDEX} names a user twice")
        ends = accumulate(train + test for train, test in counts.values())
        return {
            name: _Place(end - train - test, train, test)
            for (name, (train, test)), end in zip(counts.items(), ends, strict=True)
        }
