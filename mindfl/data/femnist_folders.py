"""The tutorial's image folders, ``<user>/<train|test>/<label>/*.png`` -> bins or the compact form.

MindSpore's documents name the label folders by class index, 0..61 (``3500_clients_img``). A single letter is also
taken: with digits both mean the same, so no name has two meanings.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mindfl.data.picture_folders import (
    Layout,
    class_names,
    find_pictures,
    folders_in,
    pictures_in,
    root_strays,
    unused,
)
from mindfl.data.pictures import enlarge, read_picture, to_grey
from mindfl.data.pixels import IMAGE_SIZE
from mindfl.data.samples import ALPHABET, CLASSES, NO_SAMPLES, PARTS, Samples
from mindfl.data.writer import Report, progress_bar, write_dataset
from mindfl.errors import DataError
from mindfl.files import PathLike
from mindfl.notices import warn
from mindfl.options.job_options import DataForm
from mindfl.spelling import counted

_LABELS = {str(index): index for index in range(CLASSES)} | {letter: index for index, letter in enumerate(ALPHABET)}
#: sizes of LEAF's images and of resized ones
_SIZES = {(28, 28), (IMAGE_SIZE, IMAGE_SIZE)}


def is_femnist(layout: Layout) -> bool:
    """Return whether the folders are named as the tutorial's, and the first picture has one of its sizes."""
    if not (layout.users and layout.parts and set(class_names(layout)) <= _LABELS.keys()):
        return False
    for found in find_pictures(layout, []):
        try:
            return read_picture(found.path).shape[:2] in _SIZES
        except DataError:
            continue
    return True


def convert_femnist(layout: Layout, output: PathLike, *, format: DataForm, batch_size: int, progress: bool) -> Report:
    """Write the pictures as grey images of FEMNIST's 62 classes; see :func:`mindfl.data.convert_images`."""
    users = folders_in(layout.root)
    reader = _Reader()
    with (
        write_dataset(output, format=format, source="images", batch_size=batch_size) as writing,
        progress_bar("reading images", len(users), "user", shown=progress) as bar,
    ):
        for problem in root_strays(layout):
            writing.writer.skip(problem)
        for user in users:
            try:
                for problem in unused(layout.root / user):
                    writing.writer.skip(problem)
                train, test = (reader.read_part(layout.root / user / part, user) for part in PARTS)
                writing.writer.add(user, train, test)
            except DataError as error:
                writing.writer.skip(error)
            bar.update()
    if reader.coloured:
        warn(f"{counted(reader.coloured, 'picture')} in colour became grey; --format arrays keeps colours")
    return writing.report


class _Reader:
    """Reads users' images; ``coloured`` is the number of those whose colours were lost."""

    def __init__(self) -> None:
        self.coloured = 0

    def read_part(self, folder: Path, user: str) -> Samples:
        """Return a user's images. Without a test folder, or with an empty one, the user has no test data."""
        is_test = folder.name == "test"
        if not folder.is_dir():
            if is_test and set(folders_in(folder.parent)) <= set(PARTS):
                return NO_SAMPLES
            raise DataError(f"user {user} has no folder {folder}")
        images: list[NDArray[np.uint8]] = []
        labels: list[int] = []
        for name in folders_in(folder):
            if name not in _LABELS:
                raise DataError(f"user {user}: {folder / name} is not named by a class: 0..{CLASSES - 1} or a letter")
            for path in pictures_in(folder / name):
                images.append(self._read(path, user))
                labels.append(_LABELS[name])
        if not images and is_test:
            return NO_SAMPLES
        if not images:
            raise DataError(f"user {user} has no images in {folder}")
        return Samples(np.stack(images), np.array(labels))

    def _read(self, path: Path, user: str) -> NDArray[np.uint8]:
        try:
            picture = read_picture(path)
        except DataError as error:
            raise DataError(f"user {user}: {error}", hint=error.hint) from None
        if picture.shape[:2] not in _SIZES:
            height, width = picture.shape[:2]
            raise DataError(f"user {user}: {path} is {width}x{height}, not 28x28", hint="give --resize 28")
        self.coloured += picture.ndim == 3
        image: NDArray[np.uint8] = enlarge(to_grey(picture)[None], IMAGE_SIZE)[0]
        return image
