"""Opens data sets of all forms, checks their users, converts one form to the other, and makes fingerprints."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from mindfl.data.bins import BinDataset
from mindfl.data.compact import CompactDataset
from mindfl.data.folder import unfinished
from mindfl.data.pixels import IMAGE_SIZE
from mindfl.data.samples import ALPHABET, Dataset, Samples, Split, StoredDataset, UserData
from mindfl.data.stored_arrays import StoredArrays
from mindfl.data.writer import Report, progress_bar, write_dataset
from mindfl.errors import DataError, OptionError
from mindfl.files import PathLike, local_path
from mindfl.notices import warn
from mindfl.options import declared_arguments
from mindfl.options.data_options import ReformOptions
from mindfl.options.job_options import DataForm

_READERS: tuple[type[CompactDataset | StoredArrays | BinDataset], ...] = (CompactDataset, StoredArrays, BinDataset)


def open_dataset(path: PathLike) -> StoredDataset:
    """Open the data set in a folder; its form is detected.

    Users are opened and checked one by one later (:meth:`Dataset.user`, :func:`check_dataset`).

    Args:
        path: folder of the data set.

    Returns:
        The data set. Nothing of it is held in memory.

    Raises:
        DataError: the folder is missing, empty, of no known form or not complete, or its index is broken.

    Example:
        >>> dataset = open_dataset("writers")
        >>> dataset.users[0], dataset.user(0).train.images().shape[1:]
        ('synthetic_0000', (32, 32, 3))
    """
    root = local_path(path)
    try:
        if not root.is_dir():
            raise DataError(f"{root} is not a folder", hint="name the folder that holds the data set")
        if unfinished(root):
            raise DataError(f"the data set in {root} is not complete", hint="run the command that was writing it again")
        for reader in _READERS:
            if reader.recognises(root):
                return reader(root)
        raise DataError(f"no data set in {root}", hint=_advice(root))
    except OSError as error:
        raise DataError(f"cannot read the data set in {root}: {error.strerror or error}") from None


def check_dataset(dataset: Dataset) -> Iterator[DataError]:
    """Read all data of all users, and yield the error of each broken user."""
    return (each for each in checked_users(dataset) if isinstance(each, DataError))


def checked_users(dataset: Dataset) -> Iterator[UserData | DataError]:
    """Read all data of each user, and yield the user, or the error of a broken one."""
    for name in dataset.users:
        try:
            user = dataset.user(name)
            for split in (user.train, user.test):
                split.images()
            yield user
        except DataError as error:
            yield error


#: what lies in folders that `mindfl data images` reads
_PICTURES = (
    *("*/train/", "*/test/"),
    *(f"{depth}*{suffix}" for depth in ("*/", "*/*/") for suffix in (".png", ".jpg", ".jpeg")),
)


def _advice(root: Path) -> str:
    looks: dict[str, Callable[[], bool]] = {
        "the folder is empty": lambda: not any(root.iterdir()),
        "it looks like one user's folder: name the folder above it": lambda: any(root.glob("*_bn_*.bin")),
        f"LEAF JSON? Use: mindfl data leaf --input {root} --output DIR": lambda: _has(
            root, "*.json*", "train/*.json*", "all_data/*.json*"
        ),
        f"IDX files? Use: mindfl data idx --input {root} --output DIR": lambda: _has(root, "*-idx?-ubyte*"),
        f"images? Use: mindfl data images --input {root} --output DIR": lambda: _has(root, *_PICTURES),
    }
    expected = "expected index.json (compact) or <user>/<user>_bn_<n>_<train|test>_<data|label>.bin"
    return next((advice for advice, applies in looks.items() if applies()), expected)


def _has(root: Path, *patterns: str) -> bool:
    return any(True for pattern in patterns for _ in root.glob(pattern))


@declared_arguments(ReformOptions)
def convert_dataset(
    input: PathLike, output: PathLike, *, format: DataForm, batch_size: int = 32, progress: bool = True
) -> Report:
    """Write the data set in ``input`` in another form. Training values stay bitwise the same.

    Args:
        input: folder of the data set.
        output: the new folder.
        format: ``"compact"`` (one file of 8-bit images) or ``"bin"`` (the tutorial's files of each user).
        batch_size: samples per file of the form ``bin``.
        progress: show a progress bar.

    Returns:
        The report. Broken users, and those whose images are not 8-bit grey, are left out and named in
        ``problems``.

    Raises:
        DataError: there is no data set, it has no usable user, or its images or classes are not those of FEMNIST.
        OptionError: an argument has no usable value, or ``output`` holds something else.
        StorageError: the data set cannot be written.

    Example:
        >>> convert_dataset("writers", "writers_bin", format="bin", progress=False).users
        3
    """
    dataset = open_dataset(input)
    if local_path(output).resolve().is_relative_to(dataset.root.resolve()):
        raise OptionError(f"the output {output} lies in the input {input}", hint="choose a folder outside it")
    _check_fits(dataset)
    if (central := dataset.central_test) is not None:
        lost = f"the central test set of {dataset.name} ({central.size} samples)"
        warn(f"{output} lacks {lost}: the form {format} has none")
    with (
        write_dataset(output, format=format, source=dataset.source, batch_size=batch_size) as writing,
        progress_bar("converting", len(dataset), "user", shown=progress) as bar,
    ):
        for name in dataset.users:
            try:
                user = dataset.user(name)
                writing.writer.add(name, _samples(user.train), _samples(user.test))
            except DataError as error:
                writing.writer.skip(error)
            bar.update()
    return writing.report


def _check_fits(dataset: Dataset) -> None:
    """Raise :class:`DataError` where the forms of FEMNIST cannot hold the images or classes of a data set."""
    names = dataset.class_names
    hint = f"use it as it is: mindfl simulate --train_dataset {dataset.name}"
    if dataset.image_size is None or dataset.form.label_shape:
        raise DataError(
            f"{dataset.name} has samples of {dataset.form.words()}; the forms bin and compact hold pictures of classes",
            hint=hint,
        )
    height, width = dataset.image_size
    if (height, width) != (IMAGE_SIZE, IMAGE_SIZE):
        raise DataError(
            f"{dataset.name} has images of {height}x{width}; the forms bin and compact hold {IMAGE_SIZE}x{IMAGE_SIZE}",
            hint=hint,
        )
    if names != tuple(ALPHABET)[: len(names)]:
        raise DataError(
            f"{dataset.name} has the classes {', '.join(names):.60}; the forms bin and compact hold those of FEMNIST",
            hint=hint,
        )


def _samples(split: Split) -> Samples:
    return Samples(split.grey(), split.labels[: split.size])
