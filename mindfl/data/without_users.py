"""Samples that belong to no user: divided among clients. The conversion of IDX files and tables."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from typing import Any, NamedTuple, TypeVar

from numpy.typing import NDArray

from mindfl.data.arrays import ArrayDataset
from mindfl.data.csv_table import read_table
from mindfl.data.folder import refuse_filled
from mindfl.data.idx import read_idx_folder
from mindfl.data.partitions import check_partition, divide_alike, partition
from mindfl.errors import OptionError
from mindfl.files import PathLike, local_path
from mindfl.options import declared_arguments
from mindfl.options.data_options import CsvOptions, IdxOptions

Part = tuple[NDArray[Any], NDArray[Any]]
Owner = TypeVar("Owner", bound=Hashable)


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
        partition: such as ``iid``, ``dirichlet:alpha=0.5``, ``shards:per_user=2`` or ``classes:2``; see
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
    refuse_filled(output)
    check_partition(partition, users)
    parts = read_idx_folder(input)
    if transpose:
        parts = {part: (images.transpose(0, 2, 1), labels) for part, (images, labels) in parts.items()}
    name = local_path(input).resolve().name
    dataset = divided(parts["train"], parts.get("test"), Division(partition, users, seed), name=name)
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
        label: name of the column of class numbers, or of names of classes.
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
    refuse_filled(output)
    if user is None:
        check_partition(partition, users)
    table = read_table(local_path(input), label, user)
    side = int(table.pixels.shape[1] ** 0.5)
    height, width = image_size or (side, side)
    if height * width != table.pixels.shape[1]:
        size = "square" if image_size is None else f"of {height}x{width}"
        raise OptionError(
            f"{input} has {table.pixels.shape[1]} pixel columns: no {size} image", hint="give --image_size"
        )
    samples = (table.pixels.reshape(-1, height, width), table.labels)
    named: dict[str, Any] = {"name": local_path(input).stem, "class_names": table.class_names}
    if user is None:
        dataset = divided(samples, None, Division(partition, users, seed), **named)
    else:
        dataset = ArrayDataset(by_owner(samples, table.owners), seed=seed, **named)
    dataset.save(output)
    return dataset


class Division(NamedTuple):
    """How samples are divided: the partition, the number of users, and the seed of partition and split."""

    how: str
    users: int
    seed: int


def divided(
    train: Part, test: Part | None, division: Division, *, name: str, class_names: Sequence[str] | None = None
) -> ArrayDataset:
    """Return samples divided among clients by :func:`mindfl.data.partition`.

    Without ``test`` a tenth of each client's samples is for testing.
    """
    images, labels = train
    how, users, seed = division
    parts = partition(labels, how, users, seed=seed)
    digits = len(str(users - 1))
    names = [f"client{index:0{digits}}" for index in range(users)]
    if test is None:
        chosen = {name: (images[own], labels[own]) for name, own in zip(names, parts, strict=True)}
        return ArrayDataset(chosen, seed=seed, name=name, class_names=class_names)
    tested = divide_alike(test[1], labels, parts, seed=seed)
    clients = {
        name: (images[own], labels[own], test[0][other], test[1][other])
        for name, own, other in zip(names, parts, tested, strict=True)
    }
    return ArrayDataset(clients, class_names=class_names, name=name)


def by_owner(part: Part, owners: Iterable[Owner]) -> dict[Owner, Part]:
    """Return the samples of each owner, such as a user, whom ``owners`` names for each sample."""
    positions: dict[Owner, list[int]] = {}
    for position, owner in enumerate(owners):
        positions.setdefault(owner, []).append(position)
    images, labels = part
    return {user: (images[own], labels[own]) for user, own in positions.items()}
