"""Fingerprints of data sets: the same for the same samples in every form."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from numpy.typing import NDArray

from mindfl.data.pixels import IMAGE_SIZE
from mindfl.data.samples import CENTRAL, Dataset, Split, UserData
from mindfl.errors import DataError


@dataclass(frozen=True)
class Fingerprint:
    """Identifies the data of a job: numbers of users, samples (train and test) and classes, and a SHA-256 in hex."""

    users: int
    samples: int
    classes: int
    sha256: str

    def as_dict(self) -> dict[str, int | str]:
        """Return the values by name, as written in ``config.json``."""
        return asdict(self)


class Fingerprinting:
    """Makes a fingerprint of users that are added one by one."""

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset
        self._digest = hashlib.sha256()
        self._users = self._samples = 0
        form = dataset.form
        if dataset.image_size is None or form.label_shape:
            parts = (form.kind, form.shape, form.vocabulary, form.label_shape, form.regression)
            self._digest.update(repr(parts).encode())
        elif dataset.image_size != (IMAGE_SIZE, IMAGE_SIZE):
            self._digest.update("x".join(map(str, dataset.image_size)).encode())

    def add(self, user: UserData) -> None:
        """Add a user. Raises :class:`DataError` if its samples cannot be read."""
        self._users += 1
        self._digest.update(user.name.encode(errors="surrogatepass") + b"\0")
        self._update(user.train, user.test)

    def result(self) -> Fingerprint:
        """Return the fingerprint of the users that were added, and of the central test set; to be called once."""
        if self._dataset.central_test is not None:
            self._digest.update(CENTRAL.encode() + b"\0")
            self._update(self._dataset.central_test)
        return Fingerprint(self._users, self._samples, self._dataset.classes, self._digest.hexdigest())

    def _update(self, *splits: Split) -> None:
        for split in splits:
            self._samples += split.size
            self._digest.update(f"{split.size};".encode())
            if split.size:
                self._digest.update(_little_endian(split.labels[: split.size]))
                self._digest.update(_values(split))


def fingerprint(dataset: Dataset, users: Sequence[str] | None = None) -> Fingerprint:
    """Return the fingerprint of ``users`` of a data set, in this order; None: all of them.

    The hash covers each user's name, the samples and labels of both parts, and a central test set, so it is the same
    for all forms of the same samples. Reads all of these samples, one part at a time. Raises :class:`DataError` naming
    a broken user.

    Example:
        >>> from mindfl.data import fingerprint, open_dataset
        >>> fingerprint(open_dataset("femnist")).samples  # doctest: +SKIP
        17450
    """
    making = Fingerprinting(dataset)
    for name in dataset.users if users is None else users:
        making.add(dataset.user(name))
    return making.result()


def _values(split: Split) -> bytes:
    """Return the grey values as bytes, or all samples as they are read if they are not 8-bit grey pictures."""
    try:
        return split.grey().tobytes()
    except DataError:
        return _little_endian(split.images())


def _little_endian(values: NDArray[Any]) -> bytes:
    return values.astype(values.dtype.newbyteorder("<")).tobytes()
