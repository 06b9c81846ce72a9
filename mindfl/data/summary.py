"""Summary of a data set: counts, class histogram, broken users, and a contact sheet."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from mindfl.data.dataset import checked_users, open_dataset
from mindfl.data.pixels import IMAGE_SIZE
from mindfl.data.samples import Dataset, UserData
from mindfl.data.writer import progress_bar
from mindfl.errors import DataError, OptionError
from mindfl.files import PathLike, atomic_path, local_path
from mindfl.options import declared_arguments
from mindfl.options.command_options import SummaryOptions

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
_ZOOM = 2
_TITLE = 14
_GAP = 2


@dataclass(frozen=True)
class Summary:
    """A data set in numbers; ``dataclasses.asdict`` of it is JSON-able.

    ``classes`` maps the name of each class to its samples in both parts. ``samples_per_user`` has keys min, median
    and max, over both parts. ``problems`` has one line per broken user; counts leave broken users out. ``untested``
    is the number of users without test samples.
    """

    root: str
    kind: str
    source: str
    synthetic: bool
    users: int
    train_samples: int
    test_samples: int
    samples_per_user: dict[str, float]
    classes: dict[str, int]
    problems: list[str]
    untested: int = 0


@declared_arguments(SummaryOptions)
def inspect_dataset(path: PathLike, *, sheet: PathLike | None = None, progress: bool = False) -> Summary:
    """Read a whole data set and count its users, samples and classes.

    Args:
        path: folder of the data set.
        sheet: picture with a row of samples for each of the first 16 usable users, written if given; the suffix is
            .png, .jpg, .pdf, .webp or .tif.
        progress: show a progress bar.

    Returns:
        Numbers of users, samples and classes, and the errors of broken users.

    Raises:
        OptionError: ``sheet`` has another suffix.
        DataError: ``path`` holds no data set or no usable user.
        StorageError: ``sheet`` cannot be written.

    Example:
        >>> inspect_dataset("writers").users
        3
    """
    form = None if sheet is None else _picture_format(sheet)
    dataset = open_dataset(path)
    problems: list[str] = []
    totals: list[tuple[int, int]] = []
    histogram = np.zeros(dataset.classes, np.int64)
    rows: list[Image.Image] = []
    with progress_bar("inspecting", len(dataset), "user", shown=progress) as bar:
        for user in checked_users(dataset):
            bar.update()
            if isinstance(user, DataError):
                problems.append(str(user))
                continue
            totals.append((user.train.size, user.test.size))
            for split in (user.train, user.test):
                histogram += np.bincount(split.labels[: split.size], minlength=dataset.classes)
            if sheet is not None and len(rows) < SHEET_USERS:
                rows.append(_row(user, dataset))
    if not totals:
        raise DataError(f"no usable user among {len(dataset)} in {path}: {problems[0] if problems else 'it is empty'}")
    if sheet is not None and form is not None:
        _save(rows, local_path(sheet), form)
    sizes = np.array(totals).sum(axis=1)
    return Summary(
        root=str(dataset.root),
        kind=dataset.kind,
        source=dataset.source,
        synthetic=dataset.synthetic,
        users=len(totals),
        train_samples=sum(train for train, _ in totals),
        test_samples=sum(test for _, test in totals),
        samples_per_user={"min": int(sizes.min()), "median": float(np.median(sizes)), "max": int(sizes.max())},
        classes={letter: int(count) for letter, count in zip(dataset.class_names, histogram, strict=True)},
        problems=problems,
        untested=sum(not test for _, test in totals),
    )


def _row(user: UserData, dataset: Dataset) -> Image.Image:
    step = IMAGE_SIZE * _ZOOM + _GAP
    row = Image.new("L", (step * SHEET_IMAGES, _TITLE + step), 160)
    labels = user.train.labels[: user.train.size]
    chosen = _spread(labels)
    names = [dataset.class_names[labels[position]] for position in chosen]
    letters = ("" if all(len(name) == 1 for name in names) else " ").join(names)
    title = f"{user.name}  ({user.train.size} + {user.test.size})  {letters}"
    ImageDraw.Draw(row).text((4, 1), title.encode("ascii", "replace").decode(), fill=0)
    for column, position in enumerate(chosen):
        grey = np.rint(user.train.images(position, position + 1)[0].mean(axis=2) * 255).astype(np.uint8)
        image = Image.fromarray(grey).resize((IMAGE_SIZE * _ZOOM,) * 2, Image.Resampling.NEAREST)
        row.paste(image, (column * step, _TITLE))
    return row


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


def _picture_format(path: PathLike) -> str:
    suffix = Path(path).suffix.lower()
    if suffix not in _FORMATS:
        raise OptionError(
            f"{os.fspath(path)!r} does not end as a picture's name does", hint=f"choose one of {', '.join(_FORMATS)}"
        )
    return _FORMATS[suffix]


def _save(rows: list[Image.Image], path: Path, form: str) -> None:
    sheet = Image.new("L", (rows[0].width, sum(row.height for row in rows)), 160)
    top = 0
    for row in rows:
        sheet.paste(row, (0, top))
        top += row.height
    with atomic_path(path) as temporary:
        sheet.save(temporary, form)
