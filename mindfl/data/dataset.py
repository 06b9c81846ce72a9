"""Opening a data set of either form, and finding out which of its users are broken."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from mindfl.data.bins import BinDataset
from mindfl.data.compact import CompactDataset
from mindfl.data.folder import local_path, unfinished
from mindfl.data.pixels import CHANNELS, IMAGE_SIZE
from mindfl.data.samples import ALPHABET, CLASSES, Dataset, Form, Split, StoredDataset, UserData
from mindfl.errors import DataError
from mindfl.files import PathLike

__all__ = [
    "ALPHABET",
    "CHANNELS",
    "CLASSES",
    "IMAGE_SIZE",
    "Dataset",
    "Form",
    "Split",
    "StoredDataset",
    "UserData",
    "check_dataset",
    "open_dataset",
]

_READERS: tuple[type[CompactDataset] | type[BinDataset], ...] = (CompactDataset, BinDataset)


def open_dataset(path: PathLike) -> StoredDataset:
    """Open the data set in a folder, whichever form it has.

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
    """Read everything of every user, and yield what is wrong with each broken one."""
    for name in dataset.users:
        try:
            user = dataset.user(name)
            for split in (user.train, user.test):
                split.images()
        except DataError as error:
            yield error


def _advice(root: Path) -> str:
    looks: dict[str, Callable[[], bool]] = {
        "the folder is empty": lambda: not any(root.iterdir()),
        "it looks like one user's folder: name the folder above it": lambda: any(root.glob("*_bn_*.bin")),
        f"LEAF JSON? Use: mindfl data leaf --input {root} --output DIR": lambda: _has(
            root, "*.json*", "train/*.json*", "all_data/*.json*"
        ),
        f"images? Use: mindfl data images --input {root} --output DIR": lambda: _has(root, "*/train/", "*/test/"),
    }
    expected = "expected index.json (compact) or <user>/<user>_bn_<n>_<train|test>_<data|label>.bin"
    return next((advice for advice, applies in looks.items() if applies()), expected)


def _has(root: Path, *patterns: str) -> bool:
    return any(True for pattern in patterns for _ in root.glob(pattern))
