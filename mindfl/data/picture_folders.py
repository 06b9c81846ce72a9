"""Finds the pictures of a data set in folders, and names what lies where no pictures are read."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from mindfl.data.pictures import SUFFIXES
from mindfl.data.samples import PARTS, check_name, natural_key
from mindfl.errors import DataError

#: files of Windows file managers; those of other systems are hidden
_LITTER = {"thumbs.db", "desktop.ini"}
_PARTS, _CLASSES = "train and test", "the label folders"


@dataclass(frozen=True)
class Layout:
    """How the folders below ``root`` are nested: those of users, if any, hold those of train and test, if any, and
    these hold the folders of the classes."""

    root: Path
    users: bool
    parts: bool

    def __str__(self) -> str:
        return "".join(("<user>/" * self.users, "<train|test>/" * self.parts, "<class>/*.png"))


class Found(NamedTuple):
    """A picture: user ("" if there are none), part ("all" where train and test are not apart), class and file."""

    user: str
    part: str
    label: str
    path: Path


def find_layout(root: Path) -> Layout:
    """Return how the folders of pictures in ``root`` are nested.

    Raises :class:`DataError` if there are none.
    """
    tops = folders_in(root)
    below = {top: _readable_folders(root / top) for top in tops}
    if any(_readable_folders(root / top / part) for top in tops for part in PARTS if part in below[top]):
        return Layout(root, users=True, parts=True)
    if any(pictures_in(root / "train" / name) for name in below.get("train", ())):
        return Layout(root, users=False, parts=True)
    if any(pictures_in(root / top) for top in tops):
        return Layout(root, users=False, parts=False)
    if any(pictures_in(root / top / name) for top in tops for name in below[top]):
        return Layout(root, users=True, parts=False)
    raise DataError(
        f"no image folders in {root}",
        hint="expected <user>/<train|test>/<class>/*.png, <user>/<class>/*.png, <train|test>/<class>/*.png, or "
        "<class>/*.png",
    )


def users_of(layout: Layout) -> list[str]:
    """Return the users whose names can be used."""
    users = []
    for user in folders_in(layout.root):
        with suppress(DataError):
            users.append(check_name(user))
    return users


def class_names(layout: Layout) -> tuple[str, ...]:
    """Return the names of all class folders, in natural order (2 before 10); equal Unicode texts are one class."""
    users = folders_in(layout.root) if layout.users else [""]
    parents = [parent for user in users for _, parent in _class_parents(layout, user)]
    names = {class_name(name) for parent in parents for name in _readable_folders(parent)}
    return tuple(sorted(filter(str.isprintable, names), key=natural_key))


def class_name(folder: str) -> str:
    """Return the name of the class with this folder: macOS stores accents as letters of their own."""
    return unicodedata.normalize("NFC", folder)


def find_pictures(layout: Layout, problems: list[DataError]) -> Iterator[Found]:
    """Yield all pictures in the order of users, train before test, classes and file names.

    What lies where no pictures are read is added to ``problems``, and so are users whose names cannot be used.
    """
    problems += root_strays(layout)
    for user in folders_in(layout.root) if layout.users else [""]:
        try:
            if user:
                check_name(user)
            if layout.users and layout.parts:
                problems += unused(layout.root / user)
            for part, parent in _class_parents(layout, user):
                problems += [] if layout.users and layout.parts else _of_classes(parent)
                for name in folders_in(parent):
                    if name.isprintable():
                        yield from (Found(user, part, class_name(name), path) for path in pictures_in(parent / name))
                    else:
                        problems.append(DataError(f"the folder {name!r} in {parent} has no printable name for a class"))
        except DataError as error:
            problems.append(error)


def _class_parents(layout: Layout, user: str) -> Iterator[tuple[str, Path]]:
    """Yield the parts of a user, "all" where they are not apart, and the folders that hold their class folders."""
    for part in PARTS if layout.parts else ["all"]:
        folder = layout.root / user / (part if layout.parts else "")
        if folder.is_dir():
            yield part, folder


def folders_in(folder: Path) -> list[str]:
    """Return the names of the folders in ``folder`` in natural order, hidden ones left out."""
    return [entry.name for entry in _entries(folder) if entry.is_dir()]


def _readable_folders(folder: Path) -> list[str]:
    """Return what :func:`folders_in` does, and nothing for a folder that cannot be read: that is reported later."""
    try:
        return folders_in(folder)
    except DataError:
        return []


def pictures_in(folder: Path) -> list[Path]:
    """Return the files with a picture's name in ``folder``, in natural order."""
    return [entry for entry in _entries(folder) if entry.suffix.lower() in SUFFIXES]


def root_strays(layout: Layout) -> list[DataError]:
    """Return a problem for what lies in the root, beside users' folders or parts, and is not read."""
    if layout.users:
        return _beside(layout.root, "the users' folders")
    if layout.parts:
        return [*_beside(layout.root, _PARTS), *_other_parts(layout.root)]
    return []


def unused(user: Path) -> Iterator[DataError]:
    """Yield a problem for each place in the folder of a user with train and test whose files are not read."""
    yield from _beside(user, _PARTS)
    if set(PARTS) <= set(folders_in(user)):
        yield from _other_parts(user)
    for part in (user / part for part in PARTS if (user / part).is_dir()):
        yield from _of_classes(part)


def _of_classes(parent: Path) -> Iterator[DataError]:
    """Yield a problem for what lies in or beside the class folders in ``parent`` and is not read."""
    yield from _beside(parent, _CLASSES)
    for label in folders_in(parent):
        others = [entry for entry in _entries(parent / label) if entry.suffix.lower() not in SUFFIXES]
        yield from _left_out(others, f"in {parent / label}, which is not a readable image")


def _beside(folder: Path, expected: str) -> list[DataError]:
    return _left_out(pictures_in(folder), f"beside {expected} in {folder}, where no images are read")


def _other_parts(folder: Path) -> list[DataError]:
    others = [folder / name for name in folders_in(folder) if name not in PARTS]
    return _left_out(others, f"in {folder}, of which only train and test are read")


def _left_out(entries: Sequence[Path], where: str) -> list[DataError]:
    more = f" and {len(entries) - 1} more" if len(entries) > 1 else ""
    return [DataError(f"{entries[0].name}{more} {where}")] if entries else []


def _entries(folder: Path) -> list[Path]:
    try:
        visible = [
            entry for entry in folder.iterdir() if not entry.name.startswith(".") and entry.name.lower() not in _LITTER
        ]
    except OSError as error:
        raise DataError(f"cannot read {folder}: {error.strerror}") from None
    return sorted(visible, key=lambda entry: natural_key(entry.name))
