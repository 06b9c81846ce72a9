"""The form "arrays": samples of any shape and classes in three files.

    arrays.json    format, version, source, shape and type of the samples, class names, each user's name and
                   numbers of train and test samples, in file order; the number of central test samples, if any
    images.raw     the pictures one after another, a user's train samples before its test samples, the central ones
                   last; samples that are no pictures are in samples.raw
    labels.raw     their labels, little-endian int32, or float32 for a regression

Pictures have "image" (height, width, channels) and "type" in the index. Other samples have "samples" (tokens or
numbers), "shape", "type", and perhaps "vocabulary", "label_shape" and "regression"; tokens are stored in the smallest
type that holds the vocabulary.

The index is written last, and the sizes of the other two must match it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import accumulate, chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mindfl.data.array_samples import ArraySamples
from mindfl.data.compact import check_size
from mindfl.data.folder import filled_folder, read_json
from mindfl.data.samples import (
    CENTRAL,
    PARTS,
    Dataset,
    SampleForm,
    SampleKind,
    Split,
    StoredDataset,
    UserData,
    check_name,
    checked_labels,
)
from mindfl.data.writer import Report, progress_bar
from mindfl.errors import DataError
from mindfl.files import PathLike, local_path
from mindfl.notices import warn

INDEX = "arrays.json"
_LABELS = "labels.raw"
_FORMAT: dict[str, Any] = {"format": "mindfl-arrays", "version": 1}
#: kind of samples -> their file, and the types that they may have there
_FILES: dict[SampleKind, str] = {"pictures": "images.raw", "tokens": "samples.raw", "numbers": "samples.raw"}
_TYPES: dict[SampleKind, dict[str, np.dtype[Any]]] = {
    "pictures": {"uint8": np.dtype("u1"), "float32": np.dtype("<f4")},
    "tokens": {"uint8": np.dtype("u1"), "uint16": np.dtype("<u2"), "int32": np.dtype("<i4")},
    "numbers": {"float32": np.dtype("<f4")},
}


def save_arrays(
    dataset: Dataset,
    output: PathLike,
    *,
    source: str,
    files: Mapping[str, str] | None = None,
    progress: bool = False,
) -> None:
    """Write a data set of arrays to the folder ``output``, which must be missing or empty.

    ``files`` are the texts of further files in the folder, by name.

    Raises :class:`OptionError` where ``output`` holds something, and :class:`StorageError` where writing fails.
    """
    users: list[dict[str, Any]] = []
    central, form = dataset.central_test, dataset.form
    kind = _stored_type(dataset)
    stored, labelled = _TYPES[form.kind][kind], form.label_type.newbyteorder("<")
    with (
        filled_folder(local_path(output).absolute()) as folder,
        progress_bar("writing", len(dataset), "user", shown=progress) as bar,
    ):
        with (folder / _FILES[form.kind]).open("wb") as samples, (folder / _LABELS).open("wb") as labels:

            def write(split: Split) -> None:
                values = split.pixels[: split.size] if kind == "uint8" else split.images()
                samples.write(values.astype(stored).tobytes())
                labels.write(split.labels[: split.size].astype(labelled).tobytes())

            for user in dataset:
                write(user.train)
                write(user.test)
                users.append({"name": user.name, "train": user.train.size, "test": user.test.size})
                bar.update()
            if central is not None:
                write(central)
        for name, text in (files or {}).items():
            (folder / name).write_text(text, encoding="utf-8")
        index = {
            **_FORMAT,
            "source": source,
            **_entries(form, kind),
            "class_names": list(dataset.class_names),
            "users": users,
            **({} if central is None else {"central_test": central.size}),
        }
        (folder / INDEX).write_text(json.dumps(index, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _stored_type(dataset: Dataset) -> str:
    """Return the name of the type in which samples are stored."""
    form = dataset.form
    if form.kind == "tokens":
        most = form.vocabulary or 0
        return "uint8" if most <= 1 << 8 else "uint16" if most <= 1 << 16 else "int32"
    others = () if dataset.central_test is None else (dataset.central_test,)
    splits = chain(chain.from_iterable((user.train, user.test) for user in dataset), others)
    bytes_only = form.kind == "pictures" and all(split.pixels.dtype == np.uint8 for split in splits)
    return "uint8" if bytes_only else "float32"


def _entries(form: SampleForm, kind: str) -> dict[str, Any]:
    """Return what the index says of the samples."""
    if form.kind == "pictures":
        entries: dict[str, Any] = {"image": list(form.shape), "type": kind}
    else:
        entries = {"samples": form.kind, "shape": list(form.shape), "type": kind}
    if form.vocabulary is not None:
        entries["vocabulary"] = form.vocabulary
    if form.label_shape:
        entries |= {"label_shape": list(form.label_shape), "regression": form.regression}
    return entries


def arrays_report(dataset: Dataset, output: PathLike, source: str, problems: Iterable[DataError]) -> Report:
    """Return the report of a data set that :func:`save_arrays` wrote. Each problem is named in a warning."""
    lines = tuple(each.advice() for each in problems)
    for line in lines:
        warn(f"left out: {line}")
    sizes = [(user.train.size, user.test.size) for user in dataset]
    return Report(
        output=local_path(output).absolute(),
        format="arrays",
        source=source,
        users=len(dataset),
        train_samples=sum(train for train, _ in sizes),
        test_samples=sum(test for _, test in sizes),
        problems=lines,
        untested=sum(not test for _, test in sizes),
        classes=dataset.classes,
    )


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
        form, self._type = self._read_form(index)
        self._set_form(form)
        self.class_names = () if form.regression else self._names(index)
        self.classes = len(self.class_names)
        self._places = self._users(index)
        owned = sum(place.train + place.test for place in self._places.values())
        central = self._central(index)
        samples = owned + central
        for file, shape, size in (
            (_FILES[form.kind], form.shape, self._type.itemsize),
            (_LABELS, form.label_shape, form.label_type.itemsize),
        ):
            check_size(root / file, samples * math.prod(shape) * size)
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
        owner, form = name if name == CENTRAL else f"user {name}", self.form
        labels = self._map(owner, _LABELS, form.label_type.newbyteorder("<"), first, count, form.label_shape)
        samples = self._map(owner, _FILES[form.kind], self._type, first, count, form.shape)
        checked = checked_labels(labels, owner, self.root / _LABELS, self.classes, form)
        return Split(checked, count, ArraySamples(samples, name, form))

    def _map(
        self, owner: str, file: str, kind: np.dtype[Any], first: int, count: int, shape: tuple[int, ...]
    ) -> NDArray[Any]:
        if not count:
            return np.zeros((0, *shape), kind)
        try:
            return np.memmap(self.root / file, kind, "r", first * math.prod(shape) * kind.itemsize, (count, *shape))
        except (OSError, ValueError) as error:
            raise DataError(f"{owner}: cannot read {self.root / file}: {error}") from None

    def _read_form(self, index: dict[str, Any]) -> tuple[SampleForm, np.dtype[Any]]:
        """Return the form of the samples, and the type in which they are stored."""
        kind, name = index.get("samples", "pictures"), index.get("type")
        known = isinstance(kind, str) and kind in _TYPES
        shape: Any = index.get("image" if kind == "pictures" else "shape")
        label_shape: Any = index.get("label_shape", [])
        vocabulary, regression = index.get("vocabulary"), index.get("regression", False)
        shaped = _is_shape(shape, least=1) and (kind != "pictures" or len(shape) == 3)
        if not (known and shaped and isinstance(name, str) and name in _TYPES[kind]):
            found = f"{shape!r:.80}, {name!r:.80}"
            raise DataError(f"{self.root / INDEX} has no usable image shape or type: {found}")
        whole = type(vocabulary) is int and 0 < vocabulary <= 1 << 31
        usable = _is_shape(label_shape, least=0) and type(regression) is bool and len(label_shape) >= regression
        if (kind == "tokens") != whole or not usable:
            raise DataError(f"{self.root / INDEX} has no usable vocabulary or shape of labels")
        tokens = vocabulary if whole else None
        return SampleForm(kind, tuple(shape), tokens, tuple(label_shape), regression), _TYPES[kind][name]

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


def _is_shape(shape: Any, *, least: int) -> bool:
    return isinstance(shape, list) and least <= len(shape) <= 8 and all(type(n) is int and 0 < n < 2**20 for n in shape)
