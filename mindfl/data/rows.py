"""Rows of a Hugging Face data set, or of anything that yields such rows -> a data set of arrays."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mindfl.data.arrays import ArrayDataset
from mindfl.data.label_numbers import label_numbers
from mindfl.data.partitions import check_partition
from mindfl.data.pictures import picture_of, stacked
from mindfl.data.samples import PARTS
from mindfl.data.without_users import Division, Part, by_owner, divided
from mindfl.errors import DataError
from mindfl.notices import warn
from mindfl.spelling import did_you_mean


class _Rows(NamedTuple):
    """Images, labels and users of the rows, and where each row stands."""

    images: list[NDArray[Any]]
    labels: list[Any]
    owners: list[str]
    places: list[str]


def from_rows(rows: Any, division: Division, *, user: str | None, image: str, label: str, name: str) -> ArrayDataset:
    """Return a data set of rows; see :meth:`mindfl.data.Dataset.from_huggingface` for the arguments."""
    if user is None:
        check_partition(division.how, division.users)
    splits = _splits(rows)
    read = _Rows([], [], [], [])
    sizes = [_read(read, split, each, user=user, image=image, label=label) for split, each in splits.items()]
    if not sizes[0]:
        raise DataError(f"there are no rows{' in the split train' if 'train' in splits else ''}")
    numbers, names = label_numbers(read.labels, lambda position: read.places[position])
    feature = (getattr(next(iter(splits.values())), "features", None) or {}).get(label)
    named: dict[str, Any] = {"class_names": getattr(feature, "names", None) or names, "name": name or "rows"}
    whole, first = stacked(read.images), sizes[0]
    train = (whole[:first], numbers[:first])
    test = (whole[first:], numbers[first:]) if len(numbers) > first else None
    if user is None:
        return divided(train, test, division, **named)
    users = by_owner(train, read.owners[:first])
    if test is None:
        return ArrayDataset(users, seed=division.seed, **named)
    return _joined(users, by_owner(test, read.owners[first:]), named)


def _splits(rows: Any) -> dict[str, Iterable[Any]]:
    """Return the rows by split: those of train and test of a ``DatasetDict``; else all of them, named "" ."""
    if not isinstance(rows, Iterable):
        raise DataError(f"rows are {type(rows).__name__}, which yields none", hint="pass a data set or a list of rows")
    if not isinstance(rows, Mapping):
        return {"": rows}
    if "train" not in rows:
        found = ", ".join(map(str, rows)) or "none"
        raise DataError(f"there is no split named train; splits: {found}", hint="pass the rows of one split")
    for split in rows:
        if split not in PARTS:
            warn(f"the split {split} is not read, only train and test are")
    return {split: rows[split] for split in PARTS if split in rows}


def _read(read: _Rows, split: str, rows: Any, *, user: str | None, image: str, label: str) -> int:
    """Add the rows of a split to ``read``, and return their number."""
    number = -1
    for number, row in enumerate(rows):
        place = f"{split}{', ' if split else ''}row {number}"
        if not isinstance(row, Mapping):
            raise DataError(f"{place} is {type(row).__name__}, not a mapping of columns")
        for column in (image, label, *([] if user is None else [user])):
            if column not in row:
                raise DataError(f"{place} has no column {column!r}", hint=did_you_mean(column, list(map(str, row))))
        picture = picture_of(row[image], f"{place}: the image")
        _check_image(read, place, picture)
        read.images.append(picture)
        read.labels.append(row[label])
        read.owners.append("" if user is None else _user(row[user], place))
        read.places.append(place)
    return number + 1


def _user(value: Any, place: str) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | np.integer):
        raise DataError(f"{place}: the user {value!r:.60} is neither a text nor a whole number")
    return str(value)


def _check_image(read: _Rows, place: str, picture: NDArray[Any]) -> None:
    if picture.ndim not in (2, 3) or picture.dtype not in (np.uint8, np.float32):
        raise DataError(
            f"{place}: the image is {picture.dtype} of shape {picture.shape}",
            hint="a picture, or an array [height, width] or [height, width, channels]: uint8 (0..255), float32 (0..1)",
        )
    if read.images and not _fit(picture, read.images[0]):
        raise DataError(
            f"{place} has an image of shape {picture.shape} ({picture.dtype}), {read.places[0]} has"
            f" {read.images[0].shape} ({read.images[0].dtype})",
            hint="all need one height and width, and one type of numbers",
        )


def _fit(picture: NDArray[Any], first: NDArray[Any]) -> bool:
    channels = {1 if each.ndim == 2 else each.shape[2] for each in (picture, first)} - {1}
    return picture.shape[:2] == first.shape[:2] and picture.dtype == first.dtype and len(channels) < 2


def _joined(train: dict[str, Part], test: dict[str, Part], named: dict[str, Any]) -> ArrayDataset:
    if untrained := [user for user in test if user not in train]:
        raise DataError(
            f"user {untrained[0]} has rows in test and none in train",
            hint="give one split, which is divided into train and test for each user",
        )
    users = {user: (*part, *test.get(user, ())) for user, part in train.items()}
    return ArrayDataset(users, test_share=0, **named)
