"""Samples in an array, in memory or mapped from a file: pictures, tokens or numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mindfl.data.pixels import Images
from mindfl.data.samples import SampleForm
from mindfl.errors import DataError


@dataclass(frozen=True, eq=False)
class ArraySamples(Images):
    """Samples of ``user`` in an array (n, ...) of the shape of ``form``.

    Pictures are uint8 or float32, tokens any whole numbers, numbers float32. With ``order`` the samples are those of
    ``values`` at these positions, which are copied when they are read.
    """

    values: NDArray[Any]
    user: str
    form: SampleForm
    order: NDArray[np.int64] | None = None

    @property
    def owner(self) -> str:
        return f"user {self.user}"

    def map(self, first: int, count: int) -> NDArray[Any]:
        """See :meth:`Images.map`."""
        chosen: NDArray[Any] = self.values[
            slice(first, first + count) if self.order is None else self.order[first : first + count]
        ]
        chosen.flags.writeable = False
        return chosen

    def read(self, first: int, count: int) -> NDArray[Any]:
        """See :meth:`Images.read`; a copy."""
        stored = self.map(first, count)
        if self.form.kind == "tokens":
            return check_tokens(stored, self.owner, self.form.vocabulary or 0, self._numbers(first)).astype(np.int32)
        if self.form.kind == "numbers":
            return check_numbers(stored, self.owner, self._numbers(first)).astype(np.float32)
        largest = np.float32(255 if stored.dtype == np.uint8 else 1)
        images: NDArray[np.float32] = np.divide(stored, largest, dtype=np.float32)
        return images

    def _numbers(self, first: int) -> Callable[[int], int]:
        """Return what numbers a sample of a part that begins at ``first`` within ``values``, for messages."""
        order = self.order
        return lambda at: first + at if order is None else int(order[first + at])

    def read_planes(self, first: int, count: int) -> NDArray[Any]:
        """See :meth:`Images.read_planes`."""
        return super().read_planes(first, count) if self.form.kind == "pictures" else self.read(first, count)

    def read_grey(self, first: int, count: int) -> NDArray[np.uint8]:
        """See :meth:`Images.read_grey`."""
        if self.form.kind != "pictures":
            raise DataError(f"{self.owner}: the samples are {self.form.kind}, not pictures")
        return super().read_grey(first, count)


def check_tokens(ids: NDArray[Any], owner: str, vocabulary: int, number: Callable[[int], int] = int) -> NDArray[Any]:
    """Return ``ids``, or raise :class:`DataError` naming the first that is outside 0..vocabulary - 1.

    ``number`` gives the number of a sample, in messages, by its place in ``ids``.
    """
    if ids.size and not (ids.min() >= 0 and ids.max() < vocabulary):
        at = tuple(map(int, np.argwhere((ids < 0) | (ids >= vocabulary))[0]))
        raise DataError(f"{owner}: token {ids[at]} of sample {number(at[0])} is outside 0..{vocabulary - 1}")
    return ids


def check_numbers(values: NDArray[Any], owner: str, number: Callable[[int], int] = int) -> NDArray[Any]:
    """Return ``values``, or raise :class:`DataError` naming the first sample that holds NaN or infinity, as above."""
    if not np.isfinite(values).all():
        at = tuple(map(int, np.argwhere(~np.isfinite(values))[0]))
        raise DataError(f"{owner}: sample {number(at[0])} holds {values[at]}, not a finite number")
    return values
