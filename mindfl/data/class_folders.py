"""Folders of pictures named by class -> a data set of arrays: any size, grey or colour."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from mindfl.data.arrays import ArrayDataset
from mindfl.data.folder import refuse_filled
from mindfl.data.partitions import check_partition
from mindfl.data.picture_folders import Found, Layout, class_names, find_pictures, users_of
from mindfl.data.pictures import Picture, read_picture, stacked, to_grey
from mindfl.data.stored_arrays import arrays_report, save_arrays
from mindfl.data.without_users import Division, Part, by_owner, divided
from mindfl.data.writer import Report, progress_bar
from mindfl.errors import DataError
from mindfl.files import PathLike
from mindfl.notices import warn


class _Pictures(NamedTuple):
    """Pictures of one shape (n, height, width, channels) with their labels (n,) by user and part; where they were."""

    samples: dict[tuple[str, str], Part]
    found: list[Found]

    def of(self, part: str, user: str = "") -> Part:
        """Return the samples of a part, of ``user`` where the folders are those of users."""
        pictures, labels = next(iter(self.samples.values()))
        return self.samples.get((user, part), (pictures[:0], labels[:0]))


def convert_class_folders(
    layout: Layout, output: PathLike, *, size: tuple[int, int] | None, grey: bool, division: Division, progress: bool
) -> Report:
    """Write the pictures as arrays, with the names of their classes; see :func:`mindfl.data.convert_images`."""
    refuse_filled(output)
    if not layout.users:
        check_partition(division.how, division.users)
    names, problems = class_names(layout), list[DataError]()
    read = _read(layout, names, size, grey, problems, progress)
    dataset = _dataset(layout, read, names, division, problems)
    save_arrays(dataset, output, source="images")
    for text in _doubts(names, read.found):
        warn(text)
    return arrays_report(dataset, output, "images", problems)


def _read(
    layout: Layout,
    names: Sequence[str],
    size: tuple[int, int] | None,
    grey: bool,
    problems: list[DataError],
    progress: bool,
) -> _Pictures:
    """Read all pictures. Those that cannot be read are added to ``problems``."""
    found = list(find_pictures(layout, problems))
    pictures: list[Picture] = []
    kept: list[Found] = []
    with progress_bar("reading images", len(found), "picture", shown=progress) as bar:
        for each in found:
            bar.update()
            try:
                picture = read_picture(each.path, size=size)
            except DataError as error:
                problems.append(error)
                continue
            if kept:
                _check_size(each, picture, kept[0], pictures[0])
            pictures.append(to_grey(picture) if grey else picture)
            kept.append(each)
    if not kept:
        raise DataError(
            f"no picture in {layout.root} can be read: {problems[0].advice() if problems else 'there is none'}"
        )
    places = {name: place for place, name in enumerate(names)}
    labels = np.array([places[each.label] for each in kept])
    return _Pictures(by_owner((stacked(pictures), labels), [(each.user, each.part) for each in kept]), kept)


def _check_size(found: Found, picture: Picture, first: Found, expected: Picture) -> None:
    if picture.shape[:2] != expected.shape[:2]:
        (height, width), (high, wide) = picture.shape[:2], expected.shape[:2]
        raise DataError(
            f"{found.path} is {height} pixels high and {width} wide, but {first.path} is {high} high and {wide} wide",
            hint=f"give --resize {high}x{wide} (height x width), or another size",
        )


def _dataset(
    layout: Layout, read: _Pictures, names: Sequence[str], division: Division, problems: list[DataError]
) -> ArrayDataset:
    """Divide the pictures among users. Users without train samples are left out and added to ``problems``."""
    name = layout.root.resolve().name
    if not layout.users:
        train, test = (read.of("train"), read.of("test")) if layout.parts else (read.of("all"), None)
        if not len(train[1]):
            raise DataError(f"no picture in {layout.root / 'train'} can be read")
        return divided(train, test if test and len(test[1]) else None, division, name=name, class_names=names)
    own = {user: read.of("train" if layout.parts else "all", user) for user in users_of(layout)}
    problems += [
        DataError(f"user {user} has no train pictures") for user, (_, labels) in own.items() if not len(labels)
    ]
    usable = {user: part for user, part in own.items() if len(part[1])}
    if not usable:
        raise DataError(f"no user in {layout.root} has train pictures")
    if not layout.parts:
        return ArrayDataset(usable, seed=division.seed, name=name, class_names=names)
    return ArrayDataset(
        {user: (*part, *read.of("test", user)) for user, part in usable.items()}, class_names=names, name=name
    )


def _doubts(names: Sequence[str], found: Iterable[Found]) -> list[str]:
    """Return what looks like a mistake and is none: classes that differ in case, and classes without pictures."""
    alike = defaultdict(list)
    for name in names:
        alike[name.casefold()].append(name)
    used = {each.label for each in found}
    return [
        *(
            f"the classes {' and '.join(each)} differ in case only: they stay apart"
            for each in alike.values()
            if each[1:]
        ),
        *(f"the class {name} has no pictures" for name in names if name not in used),
    ]
