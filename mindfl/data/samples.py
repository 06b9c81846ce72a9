"""The interface of data sets: users, their train and test parts, and samples read on demand."""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mindfl.data.pixels import CHANNELS, IMAGE_SIZE, Images
from mindfl.errors import DataError
from mindfl.spelling import counted

#: FEMNIST's class order: label 0 is "0", 10 is "A", 36 is "a", 61 is "z".
ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
CLASSES = len(ALPHABET)

PARTS = ("train", "test")
#: name of test samples that belong to no user, in messages
CENTRAL = "the central test set"
SYNTHETIC = "synthetic"
#: share of a user's samples for testing if mindfl splits them (LEAF's ``--tf 0.9``)
TEST_SHARE = 0.1

#: ``pictures``: uint8 (0..255) or float32 (0..1); ``tokens``: int32 ids of words or letters; ``numbers``: float32
SampleKind = Literal["pictures", "tokens", "numbers"]


@dataclass(frozen=True)
class SampleForm:
    """Shape and type of a data set's samples and labels.

    Attributes:
        kind: what the samples are.
        shape: shape of one sample; (height, width, channels) for pictures.
        vocabulary: number of tokens, whose ids are 0 to ``vocabulary - 1``; None: samples are no tokens.
        label_shape: shape of one sample's label: () for a class; (length,) for a class of each token, or for the
            numbers of a regression.
        regression: whether labels are float32 numbers to predict, not classes.
    """

    kind: SampleKind
    shape: tuple[int, ...]
    vocabulary: int | None = None
    label_shape: tuple[int, ...] = ()
    regression: bool = False

    @property
    def label_type(self) -> np.dtype[Any]:
        """Type of the labels: int32, or float32 for a regression."""
        return np.dtype(np.float32 if self.regression else np.int32)

    def words(self) -> str:
        """Return the form in words, for messages."""
        sizes = "x".join(map(str, self.shape))
        if self.kind == "pictures":
            text = f"{'x'.join(map(str, self.shape[:2]))} with {counted(self.shape[2], 'channel')}"
        elif self.kind == "tokens":
            text = f"{sizes} tokens" + (f" of a vocabulary of {self.vocabulary}" if self.vocabulary else "")
        else:
            text = f"{sizes} numbers"
        if self.label_shape:
            count = math.prod(self.label_shape)
            text += f", labels of {counted(count, 'number') if self.regression else counted(count, 'class', 'classes')}"
        return text


class Samples(NamedTuple):
    """Grey images uint8 (k, 32, 32) and their labels (k,)."""

    grey: NDArray[np.uint8]
    labels: NDArray[np.integer[Any]]

    def take(self, chosen: NDArray[np.integer[Any]]) -> Samples:
        """Return the samples at the positions ``chosen``."""
        return Samples(self.grey[chosen], self.labels[chosen])

    def split(self, rng: np.random.Generator) -> tuple[Samples, Samples]:
        """Split at random into train and test, 9:1, in the original order; each gets one of two or more samples."""
        train, test = split_positions(len(self.labels), rng)
        return self.take(train), self.take(test)


def split_positions(
    count: int, rng: np.random.Generator, share: float = TEST_SHARE
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Divide ``count`` samples at random into train and test, which gets ``share``; each gets one of two or more.

    Returns the positions of each part, ascending.
    """
    order = rng.permutation(count)
    train = max(min(int((1 - share) * count), count - 1), 1)
    return np.sort(order[:train]), np.sort(order[train:])


#: test part of a user without test data
NO_SAMPLES = Samples(np.zeros((0, IMAGE_SIZE, IMAGE_SIZE), np.uint8), np.zeros(0, np.int32))


@dataclass(frozen=True)
class Split:
    """One user's train or test part. No file stays open, so thousands can exist at once.

    ``labels`` is int32 (m,), int32 (m, length) for a class of each token, or float32 (m, k) for a regression; see
    :class:`SampleForm`. ``size`` is the number of true samples; m > size if the stored last batch was filled by
    repeating samples. ``first`` is the position of the part's first sample in ``source``.
    """

    labels: NDArray[Any]
    size: int
    source: Images
    first: int = 0

    @property
    def pixels(self) -> NDArray[Any]:
        """The stored samples, read-only: uint8 (m, 32, 32) grey, float32 (m, 32, 32, 3) for bins, or a user's arrays.

        Files are memory-mapped, and open as long as the returned array lives.
        """
        return self.source.map(self.first, len(self.labels))

    def images(self, start: int = 0, stop: int | None = None) -> NDArray[Any]:
        """Return true samples [start, stop), slicing like a list.

        Pictures are float32 (k, height, width, channels) in 0..1, tokens int32 (k, ...), numbers float32 (k, ...).
        Raises :class:`DataError` if the file was truncated meanwhile or contains values that the form does not have.
        """
        chosen = range(self.size)[start:stop]
        return self.source.read(self.first + chosen.start, len(chosen))

    def planes(self) -> NDArray[Any]:
        """Return all true samples as :meth:`images` does, but pictures with equal channels as (k, height, width)."""
        return self.source.read_planes(self.first, self.size)

    def grey(self, start: int = 0, stop: int | None = None) -> NDArray[np.uint8]:
        """Return true samples [start, stop) as uint8 (k, height, width).

        Raises :class:`DataError` if the samples are not 8-bit grey pictures.
        """
        chosen = range(self.size)[start:stop]
        return self.source.read_grey(self.first + chosen.start, len(chosen))


@dataclass(frozen=True)
class UserData:
    """One user (one writer, one simulated device). The train part holds at least one sample, the test part may be
    empty: then the user trains and is not evaluated."""

    name: str
    train: Split
    test: Split


def no_samples(source: Images) -> Split:
    """Return a part without samples; ``source`` is not read."""
    return Split(np.zeros(0, np.int32), 0, source)


class Dataset(ABC):
    """A data set partitioned by user (writer), on disk or in memory (:meth:`from_arrays`).

    Attributes:
        users: names in natural order (f2 before f10).
        form: shape and type of samples and labels.
        image_size: height and width of all pictures; None: samples are no pictures.
        channels: channels of all pictures, and so of the network that is exported for them; None likewise.
        grey: whether the pictures fit networks of any number of channels, as their own are equal.
        classes: number of classes; labels are 0 to ``classes - 1``. 0 for a regression.
        class_names: the name of each class.
        central_test: test samples that belong to no user; None: the data set has none.
    """

    kind: ClassVar[str]
    users: tuple[str, ...]
    form: SampleForm = SampleForm("pictures", (IMAGE_SIZE, IMAGE_SIZE, CHANNELS))
    image_size: tuple[int, int] | None = (IMAGE_SIZE, IMAGE_SIZE)
    channels: int | None = CHANNELS
    grey: bool = True
    classes: int = CLASSES
    class_names: tuple[str, ...] = tuple(ALPHABET)
    central_test: Split | None = None

    @staticmethod
    def from_arrays(
        users: Mapping[str, Sequence[Any]] | Mapping[int, Sequence[Any]],
        *,
        class_names: Sequence[str] | None = None,
        classes: int | None = None,
        vocabulary: int | None = None,
        central_test: Sequence[NDArray[Any]] | None = None,
        test_share: float | None = None,
        seed: int = 0,
        name: str = "arrays",
    ) -> Dataset:
        """Return a data set of arrays in memory, which can be used like one on disk. The arrays are not copied.

        The type of the samples says what they are:

        - uint8 (0..255) or float32 (0..1) [n, height, width] (grey) or [n, height, width, channels]: pictures
        - int32 [n, ...]: ids of tokens, such as words or letters
        - float32 [n, k]: rows of numbers

        Labels are whole numbers [n], the classes; whole numbers [n, length], a class of each token; or float32 [n, k],
        the numbers that a regression predicts.

        Args:
            users: for each user ``(samples, labels)``, or ``(samples, labels, test samples, test labels)``. All users'
                samples have one type and shape. Names of users are texts or whole numbers.
            class_names: name of each class. None: the labels themselves.
            classes: number of classes. None: as many as there are names, else the largest label and one.
            vocabulary: number of tokens. None: the largest id and one.
            central_test: ``(samples, labels)`` that belong to no user, for ``--evaluate central``.
            test_share: share of the samples that are drawn for testing from users without test samples; 0: none.
                None: 0.1, or 0 with a central test set.
            seed: seed of that draw.
            name: what messages and titles call the data set.

        Raises:
            DataError: an array cannot be used; the error names user, part and cause.

        Example:
            >>> import numpy as np
            >>> images, labels = np.zeros((6, 24, 24, 3), np.uint8), np.array([0, 1, 2, 0, 1, 2])
            >>> data = Dataset.from_arrays({"ann": (images, labels)}, class_names=["cat", "dog", "bird"])
            >>> data.image_size, data.channels, data.classes, data.user("ann").train.size, data.user("ann").test.size
            ((24, 24), 3, 3, 5, 1)
            >>> ids = np.zeros((20, 80), np.int32)
            >>> Dataset.from_arrays({"ann": (ids, ids[:, 0])}, vocabulary=90, classes=90).form.words()
            '80 tokens of a vocabulary of 90'
        """
        from mindfl.data.arrays import ArrayDataset

        return ArrayDataset(
            users,
            class_names=class_names,
            classes=classes,
            vocabulary=vocabulary,
            central_test=central_test,
            test_share=test_share,
            seed=seed,
            name=name,
        )

    @staticmethod
    def from_huggingface(
        rows: Iterable[Mapping[str, Any]] | Mapping[str, Iterable[Mapping[str, Any]]],
        *,
        user: str | None,
        image: str = "image",
        label: str = "label",
        partition: str = "iid",
        users: int = 10,
        seed: int = 0,
        name: str = "huggingface",
    ) -> Dataset:
        """Return a data set of the rows of a Hugging Face data set; the package ``datasets`` itself is not needed.

        Class names are those of ``rows.features[label]``, or the labels themselves where they are texts. With splits
        ``train`` and ``test`` (a ``DatasetDict``) each user trains on its rows of the one and is tested on those of the
        other; else a tenth of each user's samples is for testing.

        Args:
            rows: yields a mapping per sample, or holds such rows as splits: an image (a PIL image of any mode; the
                bytes of a file, as ``datasets.Image(decode=False)`` gives them; or an array: uint8 (0..255) or float32
                (0..1)), its class, and its user. All images have one height and width; grey ones get three channels
                where others have colours.
            user: column of users, such as ``"writer_id"``; None: samples are divided among ``users`` clients.
            image: column of images.
            label: column of class numbers or names.
            partition: how samples without users are divided; see :func:`mindfl.data.partition`.
            users: number of clients, for samples without users.
            seed: seed of partition and split.
            name: what messages and titles call the data set.

        Raises:
            DataError: a row lacks a column, or has an unusable image or label; the error names the row.
            OptionError: the partition is unknown, or cannot be made.

        Example:
            >>> import numpy as np
            >>> rows = [{"image": np.zeros((8, 8), np.uint8), "label": n % 2, "writer_id": n // 5} for n in range(10)]
            >>> data = Dataset.from_huggingface(rows, user="writer_id")
            >>> data.users, data.image_size, data.classes
            (('0', '1'), (8, 8), 2)
        """
        from mindfl.data.rows import from_rows
        from mindfl.data.without_users import Division

        columns = {"user": user, "image": image, "label": label}
        return from_rows(rows, Division(partition, users, seed), **columns, name=name)  # type: ignore[arg-type]

    @property
    @abstractmethod
    def name(self) -> str:
        """Name in messages: the folder, or the name given to arrays."""

    @property
    def title(self) -> str:
        """Name in titles."""
        return self.name

    @property
    @abstractmethod
    def source(self) -> str:
        """Origin of the samples: "leaf", "images", "synthetic", "arrays", or "unknown"."""

    @property
    def synthetic(self) -> bool:
        """Whether the samples were drawn by :func:`mindfl.data.make_synthetic`."""
        return self.source == SYNTHETIC

    def user(self, user: str | int) -> UserData:
        """Open one user by name or position. Raises :class:`DataError` naming user, file and cause."""
        return self._open(self.name_of(user))

    def test_part(self, user: str | int) -> Split:
        """Open one user's test part alone; the user needs no train part.

        Raises :class:`DataError` naming user, file and cause.
        """
        return self._open_test(self.name_of(user))

    def name_of(self, user: str | int) -> str:
        """Return the name of a user given by name or position. Raises :class:`DataError` if there is none."""
        if isinstance(user, str):
            if user not in self._positions:
                raise DataError(f"{self.name} has no user {user!r}", hint=f"it has {counted(len(self), 'user')}")
            return user
        if not 0 <= user < len(self):
            raise DataError(f"{self.name} has {counted(len(self), 'user')}, so none at position {user}")
        return self.users[user]

    def __len__(self) -> int:
        return len(self.users)

    def __iter__(self) -> Iterator[UserData]:
        return (self._open(name) for name in self.users)

    def _repr_html_(self) -> str:
        from mindfl.data.preview import dataset_html

        return dataset_html(self)

    def _set_form(self, form: SampleForm) -> None:
        self.form = form
        self.image_size = self.channels = None
        if form.kind == "pictures":
            height, width, self.channels = form.shape
            self.image_size = (height, width)
        self.grey = self.channels == 1

    def _set_users(self, names: list[str]) -> None:
        self.users = tuple(sorted(names, key=natural_key))
        self._positions = {name: position for position, name in enumerate(self.users)}

    @abstractmethod
    def _open(self, name: str) -> UserData: ...

    def _open_test(self, name: str) -> Split:
        return self._open(name).test


class StoredDataset(Dataset):
    """A data set in the folder ``root``."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @property
    def name(self) -> str:
        """The folder."""
        return str(self.root)

    @property
    def title(self) -> str:
        """The folder's last part."""
        return self.root.resolve().name.encode(errors="replace").decode()

    def __getstate__(self) -> dict[str, Any]:
        """Make the folder absolute: a process that unpickles the data set may have another current folder."""
        return {**self.__dict__, "root": self.root.resolve()}


def class_counts(split: Split, classes: int) -> NDArray[np.int64]:
    """Return how many labels of a part each class has; nothing for a regression, which has no classes."""
    if not classes:
        return np.zeros(0, np.int64)
    return np.bincount(split.labels[: split.size].ravel(), minlength=classes)


def check_labels(
    labels: NDArray[np.integer[Any]], user: str, where: object, classes: int = CLASSES
) -> NDArray[np.int32]:
    """Return ``labels`` as int32, or raise :class:`DataError` naming the first one that is not a class."""
    return class_numbers(labels, f"user {user}", where, classes)


def class_numbers(labels: NDArray[np.integer[Any]], owner: str, where: object, classes: int) -> NDArray[np.int32]:
    """Return ``labels`` as :func:`check_labels` does; errors begin with ``owner``."""
    wrong = np.argwhere((labels < 0) | (labels >= classes))
    if len(wrong):
        at = tuple(map(int, wrong[0]))
        raise DataError(f"{owner}: label {labels[at]} of sample {at[0]} in {where} is outside 0..{classes - 1}")
    return labels.astype(np.int32)


def checked_labels(labels: NDArray[Any], owner: str, where: object, classes: int, form: SampleForm) -> NDArray[Any]:
    """Return ``labels`` in the type of ``form``, or raise :class:`DataError` naming the first that cannot be used."""
    if not form.regression:
        return class_numbers(labels, owner, where, classes)
    wrong = np.argwhere(~np.isfinite(labels))
    if len(wrong):
        at = tuple(map(int, wrong[0]))
        raise DataError(f"{owner}: the label of sample {at[0]} in {where} is {labels[at]}, not a finite number")
    return labels.astype(np.float32)


def check_name(name: object) -> str:
    """Return ``name`` if it can name a user's folder and files, else raise :class:`DataError`."""
    safe = isinstance(name, str) and name.isprintable() and "/" not in name and not name.startswith(".")
    if not (isinstance(name, str) and safe and 0 < len(name.encode()) <= 200):
        raise DataError(f"user name {str(name)[:60]!r} cannot name a folder", hint="use 1 to 200 plain characters")
    return name


def natural_key(name: str) -> tuple[tuple[tuple[int, str], ...], str]:
    """Sort key that puts f2 before f10 and still tells f01 from f1."""
    pieces = re.split(r"([0-9]+)", name)
    numbers = [piece.lstrip("0") if position % 2 else piece for position, piece in enumerate(pieces)]
    return tuple((len(piece) if position % 2 else 0, piece) for position, piece in enumerate(numbers)), name
