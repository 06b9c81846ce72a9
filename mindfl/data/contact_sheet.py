"""A picture of a data set: a row of samples for each of its first users."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from mindfl.data.pixels import IMAGE_SIZE
from mindfl.data.samples import Dataset, UserData
from mindfl.errors import OptionError
from mindfl.files import PathLike, atomic_path, local_path

#: suffix of a contact sheet -> Pillow's format
_FORMATS = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".pdf": "PDF",
    ".webp": "WEBP",
    ".tif": "TIFF",
    ".bmp": "BMP",
}
SHEET_USERS = 16
SHEET_IMAGES = 24
_SIDE = 2 * IMAGE_SIZE
_TITLE = 14
_GAP = 2
_STEP = _SIDE + _GAP
_PAPER = (160, 160, 160)


class ContactSheet:
    """Samples of a data set's first users, to be written to ``path``, whose suffix is the format.

    Raises :class:`OptionError` if it is the suffix of no picture.
    """

    def __init__(self, path: PathLike, dataset: Dataset) -> None:
        suffix = Path(path).suffix.lower()
        if suffix not in _FORMATS:
            raise OptionError(
                f"{os.fspath(path)!r} does not end as a picture's name does",
                hint=f"choose one of {', '.join(_FORMATS)}",
            )
        self._path, self._format, self._dataset = local_path(path), _FORMATS[suffix], dataset
        self._rows: list[Image.Image] = []

    def add(self, user: UserData) -> None:
        """Add the row of a user; without effect for those beyond the first."""
        if len(self._rows) == SHEET_USERS:
            return
        row = Image.new("RGB", (_STEP * SHEET_IMAGES, _TITLE + _STEP), _PAPER)
        chosen = _spread(user.train.labels[: user.train.size])
        ImageDraw.Draw(row).text((4, 1), self._title(user, chosen).encode("ascii", "replace").decode(), fill=0)
        for column, position in enumerate(chosen):
            row.paste(_thumbnail(user.train.images(position, position + 1)[0]), (column * _STEP, _TITLE))
        self._rows.append(row)

    def save(self) -> None:
        """Write the picture. Raises :class:`StorageError`."""
        with atomic_path(self._path) as temporary:
            temporary.write_bytes(self.content())

    def content(self) -> bytes:
        """Return the content of the file."""
        sheet = Image.new("RGB", (self._rows[0].width, sum(row.height for row in self._rows)), _PAPER)
        for number, row in enumerate(self._rows):
            sheet.paste(row, (0, number * row.height))
        sheet.save(content := io.BytesIO(), self._format)
        return content.getvalue()

    def _title(self, user: UserData, chosen: list[int]) -> str:
        names = [self._dataset.class_names[user.train.labels[position]] for position in chosen]
        letters = ("" if all(len(name) == 1 for name in names) else " ").join(names)
        return f"{user.name}  ({user.train.size} + {user.test.size})  {letters}"


def _thumbnail(image: NDArray[np.float32]) -> Image.Image:
    """Return an image (height, width, channels) in the size of the sheet; other channels than three as their mean."""
    colours = image if image.shape[2] == 3 else np.repeat(image.mean(axis=2, keepdims=True), 3, axis=2)
    picture = Image.fromarray(np.rint(colours * 255).astype(np.uint8))
    scale = _SIDE / max(picture.size)
    return picture.resize([max(round(side * scale), 1) for side in picture.size], Image.Resampling.NEAREST)


def _spread(labels: NDArray[np.int32]) -> list[int]:
    """Choose the samples of a row so that as many classes as possible appear, in class order."""
    order = np.argsort(labels, kind="stable")
    ordered = labels[order]
    occurrence = np.arange(len(order)) - np.searchsorted(ordered, ordered)
    by_novelty = order[np.argsort(occurrence, kind="stable")]
    classes = len(np.unique(labels))
    if classes > SHEET_IMAGES:
        by_novelty = by_novelty[np.linspace(0, classes - 1, SHEET_IMAGES).astype(np.intp)]
    return [int(position) for position in sorted(by_novelty[:SHEET_IMAGES], key=lambda position: labels[position])]
