"""The compact form: three files for all users, 12 times smaller than bins.

    index.json   format, version, source, and each user's name and numbers of train and test samples, in file order
    images.u8    uint8 (samples, 32, 32), grey; a user's train samples are followed by its test samples
    labels.u8    uint8 (samples,), 0..61

The index is written last, and the sizes of the other two must match it, so a cut file is noticed when it is opened.
"""

from __future__ import annotations

import json
import os
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mindfl.data.folder import read_json
from mindfl.data.pixels import IMAGE_SIZE, GreyFile
from mindfl.data.samples import CLASSES, PARTS, Samples, Split, StoredDataset, UserData, check_labels, check_name
from mindfl.errors import DataError

INDEX = "index.json"
IMAGES = "images.u8"
LABELS = "labels.u8"
_HEADER: dict[str, Any] = {
    "format": "mindfl-compact",
    "version": 1,
    "image": [IMAGE_SIZE, IMAGE_SIZE],
    "classes": CLASSES,
}


class CompactSink:
    """Appends users to the two big files; writes the index at the end."""

    def __init__(self, folder: Path, source: str) -> None:
        self._folder = folder
        self._source = source
        self._images = (folder / IMAGES).open("wb")
        self._labels = (folder / LABELS).open("wb")
        self._users: list[tuple[str, int, int]] = []

    def add(self, name: str, train: Samples, test: Samples) -> None:
        """Append one user."""
        for samples in (train, test):
            self._images.write(samples.grey.tobytes())
            self._labels.write(samples.labels.astype(np.uint8).tobytes())
        self._users.append((name, len(train.labels), len(test.labels)))

    def close(self, *, complete: bool) -> None:
        """Flush the big files to disk, then write the index."""
        with self._images as images, self._labels as labels:
            if not complete:
                return
            for file in (images, labels):
                file.flush()
                os.fsync(file.fileno())
        users = [{"name": name, "train": train, "test": test} for name, train, test in self._users]
        samples = sum(train + test for _, train, test in self._users)
        index = {**_HEADER, "source": self._source, "samples": samples, "users": users}
        (self._folder / INDEX).write_text(json.dumps(index, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


class CompactDataset(StoredDataset):
    """Reads the compact form. Opening checks the index and the files' sizes; labels are checked user by user."""

    kind = "compact"

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        index = _read_index(root / INDEX)
        self._source = str(index.get("source", "unknown"))
        counts = {name: (train, test) for name, train, test in map(_entry, index["users"])}
        if len(counts) != len(index["users"]) or not counts:
            raise DataError(f"{root / INDEX} names {'a user twice' if counts else 'no user'}")
        ends = list(accumulate(sum(count) for count in counts.values()))
        if index.get("samples") != ends[-1]:
            raise DataError(f"{root / INDEX} has {ends[-1]} samples by user but {index.get('samples')!r} in all")
        for file, item_bytes in ((IMAGES, GreyFile.image_bytes()), (LABELS, 1)):
            check_size(root / file, ends[-1] * item_bytes)
        self._places = {
            name: (end - sum(count), *count) for (name, count), end in zip(counts.items(), ends, strict=True)
        }
        self._set_users(list(counts))

    @staticmethod
    def recognises(root: Path) -> bool:
        """Return whether ``root`` contains an index."""
        return (root / INDEX).is_file()

    @property
    def source(self) -> str:
        """Source in the index."""
        return self._source

    def _open(self, name: str) -> UserData:
        first, train, _ = self._places[name]
        if not train:
            raise DataError(f"user {name} has no train samples in {self.root / INDEX}")
        return UserData(name, self._split(name, first, train), self._open_test(name))

    def _open_test(self, name: str) -> Split:
        first, train, test = self._places[name]
        return self._split(name, first + train, test)

    def _split(self, name: str, first: int, count: int) -> Split:
        labels = check_labels(self._read_labels(name, first, count), name, self.root / LABELS)
        return Split(labels, count, GreyFile(self.root / IMAGES, name), first)

    def _read_labels(self, name: str, first: int, count: int) -> NDArray[np.uint8]:
        path = self.root / LABELS
        try:
            labels = np.fromfile(path, np.uint8, count, offset=first)
        except OSError as error:
            raise DataError(f"user {name}: cannot read {path}: {error.strerror}") from None
        if len(labels) != count:
            raise DataError(f"user {name}: {path} ends too early")
        return labels


def _read_index(path: Path) -> dict[str, Any]:
    index = read_json(path, "the data set's index")
    if not isinstance(index, dict) or index.get("format") != _HEADER["format"]:
        raise DataError(f"{path} is not the index of a mindfl data set")
    for key, expected in _HEADER.items():
        if index.get(key) != expected:
            raise DataError(f"{path} has {key} {index.get(key)!r}, this mindfl reads {expected!r}")
    if not isinstance(index.get("users"), list):
        raise DataError(f"{path} has no list of users")
    return index


def _entry(entry: object) -> tuple[str, int, int]:
    fields = entry if isinstance(entry, dict) else {}
    train, test = (fields.get(part) for part in PARTS)
    if not (type(train) is int and type(test) is int and 0 <= train < 2**40 and 0 <= test < 2**40):
        raise DataError(f"{INDEX} has a broken user entry: {str(entry)[:80]}")
    return check_name(fields.get("name")), train, test


def check_size(path: Path, expected: int) -> None:
    """Raise :class:`DataError` unless the file has so many bytes."""
    try:
        size = path.stat().st_size
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from None
    if size != expected:
        raise DataError(f"{path} has {size} bytes, the index says {expected}", hint="truncated? make it again")
