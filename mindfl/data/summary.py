"""Summary of a data set: counts, class histogram, broken users, and a contact sheet."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mindfl.data.contact_sheet import ContactSheet
from mindfl.data.dataset import checked_users, open_dataset
from mindfl.data.fingerprints import Fingerprint, Fingerprinting
from mindfl.data.pixels import CHANNELS, IMAGE_SIZE
from mindfl.data.samples import StoredDataset, class_counts
from mindfl.data.writer import progress_bar
from mindfl.errors import DataError, OptionError
from mindfl.files import PathLike
from mindfl.options import declared_arguments
from mindfl.options.data_options import SummaryOptions


@dataclass(frozen=True)
class Summary:
    """A data set in numbers; ``dataclasses.asdict`` of it is JSON-able.

    ``classes`` maps the name of each class to its labels in both parts; it is empty for a regression.
    ``samples_per_user`` has keys min, median and max, over both parts. ``problems`` has one line per broken user;
    counts leave them out. ``untested`` is the number of users without test samples, ``central_samples`` that of a test
    set of no user. ``samples`` says what samples and labels are; ``image_size`` and ``channels`` are None where they
    are no pictures. ``sha256`` is the fingerprint's, of the users that are not broken.
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
    central_samples: int = 0
    image_size: tuple[int, int] | None = (IMAGE_SIZE, IMAGE_SIZE)
    channels: int | None = CHANNELS
    samples: str = ""
    sha256: str = ""


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
        OptionError: ``sheet`` has another suffix, or the samples are no pictures.
        DataError: ``path`` holds no data set or no usable user.
        StorageError: ``sheet`` cannot be written.

    Example:
        >>> inspect_dataset("writers").users
        3
    """
    dataset = open_dataset(path)
    if sheet is not None and dataset.form.kind != "pictures":
        raise OptionError(f"{path} has no pictures but {dataset.form.words()}", hint="leave --sheet out")
    picture = None if sheet is None else ContactSheet(sheet, dataset)
    problems: list[str] = []
    totals: list[tuple[int, int]] = []
    histogram, mark = np.zeros(dataset.classes, np.int64), Fingerprinting(dataset)
    with progress_bar("inspecting", len(dataset), "user", shown=progress) as bar:
        for user in checked_users(dataset):
            bar.update()
            if isinstance(user, DataError):
                problems.append(str(user))
                continue
            totals.append((user.train.size, user.test.size))
            for split in (user.train, user.test):
                histogram += class_counts(split, dataset.classes)
            mark.add(user)
            if picture is not None:
                picture.add(user)
    if not totals:
        raise DataError(f"no usable user among {len(dataset)} in {path}: {problems[0] if problems else 'it is empty'}")
    if picture is not None:
        picture.save()
    return _summary(dataset, totals, histogram, problems, mark.result())


def _summary(
    dataset: StoredDataset,
    totals: list[tuple[int, int]],
    histogram: NDArray[np.int64],
    problems: list[str],
    mark: Fingerprint,
) -> Summary:
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
        central_samples=0 if dataset.central_test is None else dataset.central_test.size,
        image_size=dataset.image_size,
        channels=dataset.channels,
        samples=dataset.form.words(),
        sha256=mark.sha256,
    )
