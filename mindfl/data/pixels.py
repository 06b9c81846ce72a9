"""Images of a user, in a file or in memory. All forms give bitwise the same float32 values: u / 255 for a byte u."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import DTypeLike, NDArray

from mindfl.errors import DataError

#: The tutorial's network input: 32 x 32, three equal channels (MindSpore Federated's LeNet demo).
IMAGE_SIZE = 32
CHANNELS = 3
#: Grey byte -> its float32 value in all three channels, (256, 3).
_FLOATS = np.repeat((np.arange(256, dtype=np.float32) / np.float32(255))[:, None], CHANNELS, axis=1)


def grey_to_float(grey: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Turn uint8 (k, 32, 32) into C-contiguous float32 (k, 32, 32, 3), each byte u into float32(u) / float32(255)."""
    return np.take(_FLOATS, grey, axis=0)


class Images(ABC):
    """The images of one part of a user; all have the same size and channels."""

    @abstractmethod
    def map(self, first: int, count: int) -> NDArray[Any]:
        """Return images [first, first + count) as they are stored, read-only."""

    @abstractmethod
    def read(self, first: int, count: int) -> NDArray[np.float32]:
        """Read images [first, first + count) as float32 (count, height, width, channels) in 0..1."""

    @property
    @abstractmethod
    def owner(self) -> str:
        """The user, and the file if there is one, for error messages."""

    def read_planes(self, first: int, count: int) -> NDArray[np.float32]:
        """As :meth:`read`, but (count, height, width) if the channels of all these images are equal."""
        images = self.read(first, count)
        return images[..., 0].copy() if (images == images[..., :1]).all() else images

    def read_grey(self, first: int, count: int) -> NDArray[np.uint8]:
        """Read images [first, first + count) as uint8 (count, height, width).

        Raises :class:`DataError` if the values are not n/255, the same in all channels.
        """
        images = self.read(first, count)
        grey: NDArray[np.uint8] = np.rint(images[..., 0] * np.float32(255)).astype(np.uint8)
        if not np.array_equal(np.broadcast_to((grey / np.float32(255))[..., None], images.shape), images):
            raise DataError(
                f"{self.owner}: the images are not 8-bit grey (n/255, equal in all channels)",
                hint="only such images fit the compact form without loss",
            )
        return grey


@dataclass(frozen=True)
class PixelFile(Images):
    """A raw file of images of one size of ``user`` (named in errors); opened for each call."""

    path: Path
    user: str
    dtype: ClassVar[DTypeLike]
    shape: ClassVar[tuple[int, ...]]

    @property
    def owner(self) -> str:
        return f"user {self.user}, {self.path}"

    @classmethod
    def image_bytes(cls) -> int:
        """Return the bytes of one image."""
        return int(np.prod(cls.shape)) * np.dtype(cls.dtype).itemsize

    def map(self, first: int, count: int) -> NDArray[Any]:
        """See :meth:`Images.map`; the file is memory-mapped."""
        shape = (count, *self.shape)
        if not count:
            return np.zeros(shape, self.dtype)
        try:
            return np.memmap(self.path, self.dtype, "r", first * self.image_bytes(), shape)
        except (OSError, ValueError) as error:
            raise self._unreadable(error) from None

    def raw(self, first: int, count: int) -> NDArray[Any]:
        """Read images [first, first + count) as they are stored."""
        if not count:
            return np.zeros((0, *self.shape), self.dtype)
        values = count * int(np.prod(self.shape))
        try:
            stored: NDArray[Any] = np.fromfile(self.path, self.dtype, values, offset=first * self.image_bytes())
        except OSError as error:
            raise self._unreadable(error) from None
        if len(stored) != values:
            raise self._unreadable("the file ends too early")
        return stored.reshape(count, *self.shape)

    def _unreadable(self, cause: object) -> DataError:
        reason = (cause.strerror if isinstance(cause, OSError) else None) or cause
        return DataError(f"user {self.user}: cannot read images from {self.path}: {reason}")


class GreyFile(PixelFile):
    """uint8 (k, 32, 32): the compact form."""

    dtype = np.uint8
    shape = (IMAGE_SIZE, IMAGE_SIZE)

    def read(self, first: int, count: int) -> NDArray[np.float32]:
        """See :meth:`Images.read`; every byte is a valid value."""
        return grey_to_float(self.raw(first, count))

    def read_planes(self, first: int, count: int) -> NDArray[np.float32]:
        """See :meth:`Images.read_planes`."""
        planes: NDArray[np.float32] = np.divide(self.raw(first, count), np.float32(255), dtype=np.float32)
        return planes

    def read_grey(self, first: int, count: int) -> NDArray[np.uint8]:
        """See :meth:`Images.read_grey`."""
        return self.raw(first, count)


class FloatFile(PixelFile):
    """Little-endian float32 (k, 32, 32, 3), NHWC: the tutorial's bins."""

    dtype = np.dtype("<f4")
    shape = (IMAGE_SIZE, IMAGE_SIZE, CHANNELS)

    def read(self, first: int, count: int) -> NDArray[np.float32]:
        """See :meth:`Images.read`; raises :class:`DataError` for NaN and values outside 0..1."""
        images = self.raw(first, count).astype(np.float32, copy=False)
        if images.size and not (images.min() >= 0 and images.max() <= 1):
            raise DataError(f"user {self.user}: {self.path} holds NaN or values outside 0..1")
        return images
