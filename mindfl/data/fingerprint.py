"""Which samples a job used: a fingerprint that changes with any sample, label, or user's name."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from mindfl.data.pixels import IMAGE_SIZE
from mindfl.data.samples import Dataset, Split
from mindfl.errors import DataError


@dataclass(frozen=True)
class Fingerprint:
    """Identifies the data of a job: numbers of users, samples (train and test) and classes, and a SHA-256 in hex."""

    users: int
    samples: int
    classes: int
    sha256: str

    def as_dict(self) -> dict[str, int | str]:
        """Return the values by name, as they stand in ``config.json``."""
        return asdict(self)


def fingerprint(dataset: Dataset, users: Sequence[str] | None = None) -> Fingerprint:
    """Return the fingerprint of ``users`` of a data set, in this order; None: all of them.

    The hash covers each user's name, and the pixels and labels of both parts, so it is the same for all forms of the
    same samples. Reads all of these samples, one part at a time. Raises :class:`DataError` naming a broken user.

    Example:
        >>> from mindfl.data import fingerprint, open_dataset
        >>> fingerprint(open_dataset("femnist")).samples  # doctest: +SKIP
        17450
    """
    names = dataset.users if users is None else users
    digest, samples = hashlib.sha256(), 0
    if dataset.image_size != (IMAGE_SIZE, IMAGE_SIZE):
        digest.update("x".join(map(str, dataset.image_size)).encode())
    for name in names:
        user = dataset.user(name)
        digest.update(name.encode(errors="surrogatepass") + b"\0")
        for split in (user.train, user.test):
            samples += split.size
            digest.update(f"{split.size};".encode())
            if split.size:
                digest.update(split.labels[: split.size].astype("<i4").tobytes())
                digest.update(_pixels(split))
    return Fingerprint(len(names), samples, dataset.classes, digest.hexdigest())


def _pixels(split: Split) -> bytes:
    """Return the grey values as bytes, or all channels as float32 where the images are not 8-bit grey."""
    try:
        return split.grey().tobytes()
    except DataError:
        return np.ascontiguousarray(split.images(), "<f4").tobytes()
