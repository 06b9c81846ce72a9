"""Reads picture files of any mode that Pillow knows as 8-bit grey or RGB."""

from __future__ import annotations

from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from mindfl.errors import DataError
from mindfl.files import open_file

Picture = NDArray[np.uint8]

SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".bmp", ".dib", ".gif", ".webp", ".tif", ".tiff", ".pbm", ".pgm", ".pnm", ".ppm"}
)
_TRANSPARENT = {"LA", "La", "PA", "RGBA", "RGBa"}
_COLOURED = {"RGB", "P", "CMYK", "YCbCr", "HSV"}
#: a 16-bit value / 257 is 0..255
_TO_8_BITS = 257


def read_picture(path: Path, *, size: tuple[int, int] | None = None) -> Picture:
    """Read a picture file.

    It is turned as its EXIF data say; transparent pixels are put on white; 16-bit grey is rounded to 8 bits; palettes
    and CMYK become RGB.

    Args:
        path: the file.
        size: height and width to resize to, bilinear, without keeping the proportions; None: as it is.

    Returns:
        uint8, (height, width) if all pixels are grey, else (height, width, 3).

    Raises:
        DataError: the file cannot be read as one picture; the error names it.
    """
    try:
        file = open_file(path)
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from None
    with file:
        return _decoded(file, str(path), size)


def to_grey(picture: Picture) -> Picture:
    """Turn colours into grey: uint8 (height, width), by ITU-R 601-2 luma."""
    return picture if picture.ndim == 2 else np.asarray(Image.fromarray(picture).convert("L"))


def picture_of(value: Any, owner: str) -> NDArray[Any]:
    """Return the picture in a row of another library: a PIL image, a mapping with the ``bytes`` of a file as Hugging
    Face's undecoded images, or an array.

    Whole numbers become uint8 and other numbers float32; the values are checked where a data set is made.
    """
    if isinstance(value, Image.Image):
        return _as_array(_eight_bit(value, owner))
    if isinstance(value, Mapping) and isinstance(value.get("bytes"), bytes):
        return _decoded(BytesIO(value["bytes"]), owner, None)
    array = as_array(value, owner)
    if array.dtype.kind in "iu" and array.dtype != np.uint8 and array.size and 0 <= array.min() <= array.max() <= 255:
        return array.astype(np.uint8)
    return array.astype(np.float32) if array.dtype == np.float64 else array


def as_array(value: Any, owner: str) -> NDArray[Any]:
    """Return ``value`` as an array in this machine's byte order. Raises :class:`DataError` where NumPy makes none."""
    try:
        array = np.asarray(value)
    except Exception as error:  # __array__ of another library
        raise DataError(f"{owner} cannot be made a NumPy array: {str(error)[:200] or type(error).__name__}") from None
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def stacked(pictures: list[NDArray[Any]]) -> NDArray[Any]:
    """Return pictures of one size as one array; where one has colours, grey ones get three equal channels.

    The list is emptied, so that each picture is in memory once.
    """
    channels = max(picture.shape[2] if picture.ndim == 3 else 1 for picture in pictures)
    whole = np.empty((len(pictures), *pictures[0].shape[:2], channels), pictures[0].dtype)
    for position in reversed(range(len(pictures))):
        picture = pictures.pop()
        whole[position] = picture if picture.ndim == 3 else picture[..., None]
    return whole


def enlarge(grey: Picture, side: int) -> Picture:
    """Resize uint8 (k, h, w) to (k, side, side), bilinear, as the tutorial does."""
    resized = np.empty((len(grey), side, side), np.uint8)
    for source, target in zip(grey, resized, strict=True):
        target[...] = np.asarray(Image.fromarray(source).resize((side, side), Image.Resampling.BILINEAR))
    return resized


def _decoded(file: BinaryIO, owner: str, size: tuple[int, int] | None) -> Picture:
    try:
        with Image.open(file) as opened:
            if (frames := getattr(opened, "n_frames", 1)) > 1:
                raise DataError(f"{owner} has {frames} frames, not one")
            image = _eight_bit(ImageOps.exif_transpose(opened), owner)
            if size is not None:
                image = image.resize(size[::-1], Image.Resampling.BILINEAR)
            return _as_array(image)
    except DataError:
        raise
    except UnidentifiedImageError:
        raise DataError(f"cannot read {owner}: not a readable image") from None
    except Exception as error:  # Pillow's decoders raise many kinds for broken files
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
        raise DataError(f"cannot read {owner}: {reason}") from None


def _eight_bit(image: Image.Image, owner: str) -> Image.Image:
    """Return the image in mode L or RGB."""
    if image.mode == "I" or image.mode.startswith("I;16"):
        return _rounded(image, owner)
    if image.mode in _TRANSPARENT or "transparency" in image.info:
        opaque = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(opaque, image.convert("RGBA")).convert("RGB")
    if image.mode in ("1", "L"):
        return image.convert("L")
    if image.mode in _COLOURED:
        return image.convert("RGB")
    raise DataError(f"{owner} has mode {image.mode}", hint="save it as 8-bit or 16-bit grey, or as 8-bit colour")


def _rounded(image: Image.Image, owner: str) -> Image.Image:
    """Return 16-bit grey in mode L."""
    values = np.asarray(image).astype(np.int64)
    if values.min() < 0 or values.max() > 0xFFFF:
        raise DataError(f"{owner} has values beyond 16 bits")
    grey = np.rint(values / _TO_8_BITS).astype(np.uint8)
    if "transparency" in image.info:
        grey[values == image.info["transparency"]] = 255
    return Image.fromarray(grey)


def _as_array(image: Image.Image) -> Picture:
    array: Picture = np.asarray(image)
    return array[..., 0].copy() if array.ndim == 3 and (array == array[..., :1]).all() else array
