"""Samples that belong to no user, from IDX files, tables and other libraries' data sets: divided among clients."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mindfl.data.arrays import ArrayDataset
from mindfl.data.csv_table import read_table
from mindfl.data.idx import read_idx_folder
from mindfl.data.partitions import divide_alike, partition
from mindfl.data.samples import split_positions
from mindfl.errors import DataError, OptionError
from mindfl.files import PathLike, local_path
from mindfl.options import declared_arguments
from mindfl.options.command_options import CsvOptions, IdxOptions
from mindfl.spelling import did_you_mean

Part = tuple[NDArray[Any], NDArray[Any]]


@declared_arguments(IdxOptions)
def convert_idx(
    input: PathLike,
    output: PathLike,
    *,
    partition: str = "iid",
    users: int = 10,
    seed: int = 0,
    transpose: bool = False,
) -> ArrayDataset:
    """Divide the IDX files of MNIST, EMNIST or Fashion-MNIST among clients, and write the data set.

    The test files are divided so that each client's classes are as frequent as among its train samples; together the
    clients have the whole test set. Without test files, a tenth of each client's samples is for testing.

    Args:
        input: folder with ``*train-images*``, ``*train-labels*`` and perhaps ``*t10k-*`` or ``*test-*``, plain or gzip.
        output: the new folder.
        partition: ``iid``, ``dirichlet:alpha=0.5``, ``shards:per_user=2`` or ``classes:2``; see
            :func:`mindfl.data.partition`.
        users: number of clients.
        seed: seed of the partition.
        transpose: exchange rows and columns of the images, as EMNIST's files need.

    Returns:
        The data set, held in memory.

    Raises:
        DataError: a file is missing or broken.
        OptionError: an argument has no usable value, or ``output`` holds something.
        StorageError: the data set cannot be written.
    """
    parts = read_idx_folder(input)
    if transpose:
        parts = {part: (images.transpose(0, 2, 1), labels) for part, (images, labels) in parts.items()}
    name = local_path(input).resolve().name
    dataset = divided(parts["train"], parts.get("test"), how=partition, users=users, seed=seed, name=name)
    dataset.save(output)
    return dataset


@declared_arguments(CsvOptions)
def convert_csv(
    input: PathLike,
    output: PathLike,
    *,
    label: str = "label",
    user: str | None = None,
    image_size: tuple[int, int] | None = None,
    partition: str = "iid",
    users: int = 10,
    seed: int = 0,
) -> ArrayDataset:
    """Read a table with a row per sample, and write it as a data set.

    Columns beside label and user are pixels from 0 to 255, row by row. A tenth of each user's samples is for testing.

    Args:
        input: CSV file with a header.
        output: the new folder.
        label: name of the column of class numbers.
        user: name of the column of users; None: the samples are divided among ``users`` clients.
        image_size: height and width; None: square.
        partition: as for :func:`convert_idx`; without effect where there is a column of users.
        users: number of clients; without effect where there is a column of users.
        seed: seed of partition and split.

    Returns:
        The data set, held in memory.

    Raises:
        DataError: the table is broken; the error names the line.
        OptionError: an argument has no usable value, or ``output`` holds something.
        StorageError: the data set cannot be written.
    """
    pixels, labels, owners = read_table(local_path(input), label, user)
    side = int(pixels.shape[1] ** 0.5)
    height, width = image_size or (side, side)
    if height * width != pixels.shape[1]:
        size = "square" if image_size is None else f"of {height}x{width}"
        raise OptionError(f"{input} has {pixels.shape[1]} pixel columns: no {size} image", hint="give --image_size")
    images, name = pixels.reshape(-1, height, width), local_path(input).stem
    if user is None:
        dataset = divided((images, labels), None, how=partition, users=users, seed=seed, name=name)
    else:
        dataset = grouped(images, labels, owners, seed=seed, name=name)
    dataset.save(output)
    return dataset


def divided(
    train: Part,
    test: Part | None,
    *,
    how: str,
    users: int,
    seed: int,
    name: str,
    class_names: Sequence[str] | None = None,
) -> ArrayDataset:
    """Return samples divided among ``users`` clients by :func:`mindfl.data.partition`.

    Without ``test`` a tenth of each client's samples is for testing.
    """
    images, labels = train
    parts = partition(labels, how, users, seed=seed)
    whole = np.concatenate([labels, test[1]]) if test is not None else labels
    classes = int(whole.max(initial=0)) + 1 if class_names is None else None
    digits = len(str(users - 1))
    names = [f"client{index:0{digits}}" for index in range(users)]
    if test is None:
        chosen = {name: (images[own], labels[own]) for name, own in zip(names, parts, strict=True)}
        return _split(chosen, seed, name, class_names, classes)
    tested = divide_alike(test[1], labels, parts, seed=seed)
    clients = {
        name: (images[own], labels[own], test[0][other], test[1][other])
        for name, own, other in zip(names, parts, tested, strict=True)
    }
    return ArrayDataset(clients, class_names=class_names, classes=classes, name=name)


def grouped(
    images: NDArray[Any],
    labels: NDArray[Any],
    owners: Sequence[str],
    *,
    seed: int,
    name: str,
    class_names: Sequence[str] | None = None,
) -> ArrayDataset:
    """Return samples grouped by the user that ``owners`` names for each; a tenth of each user's is for testing."""
    positions: dict[str, list[int]] = {}
    for position, owner in enumerate(owners):
        positions.setdefault(owner, []).append(position)
    classes = int(labels.max(initial=0)) + 1 if class_names is None else None
    users = {user: (images[own], labels[own]) for user, own in positions.items()}
    return _split(users, seed, name, class_names, classes)


def _split(
    users: dict[str, Part], seed: int, name: str, class_names: Sequence[str] | None, classes: int | None
) -> ArrayDataset:
    both = {}
    for index, (user, (images, labels)) in enumerate(users.items()):
        train, test = split_positions(len(labels), np.random.default_rng((seed, 2, index)))
        both[user] = (images[train], labels[train], images[test], labels[test])
    return ArrayDataset(both, class_names=class_names, classes=classes, name=name)


def from_rows(
    rows: Iterable[Mapping[str, Any]],
    *,
    user: str | None,
    image: str,
    label: str,
    partition: str,
    users: int,
    seed: int,
    name: str,
) -> ArrayDataset:
    """Return a data set of the rows of a Hugging Face data set, or of anything that yields such rows.

    See :meth:`Dataset.from_huggingface` for the arguments.
    """
    images, labels, owners = [], [], []
    for number, row in enumerate(rows):
        for column in (image, label, *([] if user is None else [user])):
            if column not in row:
                raise DataError(f"row {number} has no column {column!r}", hint=did_you_mean(column, list(row)))
        images.append(np.asarray(row[image]))
        labels.append(int(row[label]))
        owners.append("" if user is None else str(row[user]))
        if images[-1].shape != images[0].shape:
            raise DataError(f"row {number} has an image of shape {images[-1].shape}, the first has {images[0].shape}")
    if not images:
        raise DataError("there are no rows")
    feature = getattr(rows, "features", {}).get(label)
    named: dict[str, Any] = {"class_names": getattr(feature, "names", None), "name": name or "rows", "seed": seed}
    stacked, numbers = np.stack(images), np.array(labels)
    if user is None:
        return divided((stacked, numbers), None, how=partition, users=users, **named)
    return grouped(stacked, numbers, owners, **named)
