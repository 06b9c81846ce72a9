"""Files of arrays by name: safetensors, and NumPy's archives (``.npz``).

An archive may be damaged, or made to unpack to far more than it is: nothing is allocated before the sizes that are
claimed go with the file and with each other.
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from mindfl.errors import ModelFormatError, StorageError
from mindfl.files import PathLike, read_file

FREE_BYTES = 2**26
MOST_RATIO = 100
"""Arrays may unpack to ``FREE_BYTES``, and to so many times the size of the file on top. Trained weights shrink by a
few per cent; zeros, which shrink a thousandfold, are stored as they are by ``numpy.savez``."""

_SUFFIX = ".npy"
_HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


def read_npz(path: PathLike) -> dict[str, NDArray[np.float32]]:
    """Return the float32 arrays in the archive ``path`` by name, read-only; others are skipped.

    Raises :class:`StorageError` if the file cannot be read, and :class:`ModelFormatError` naming it if it is no such
    archive, is damaged, or unpacks to much more than its size.
    """
    try:
        size = Path(path).stat().st_size
        with zipfile.ZipFile(path) as archive:
            members = [info for info in archive.infolist() if info.filename.endswith(_SUFFIX)]
            _check_size(path, size, sum(info.file_size for info in members))
            found = {info.filename.removesuffix(_SUFFIX): _read(archive, info) for info in members}
    except ModelFormatError:
        raise
    except OSError as error:
        raise StorageError.from_os_error(error, "read", path) from None
    except Exception as error:
        # NumPy parses the header of an array as Python, so that a damaged one fails in any of many ways.
        raise ModelFormatError(f"{path} is not a NumPy archive of plain arrays, or is damaged: {error}") from None
    return {name: array for name, array in found.items() if array is not None}


def _check_size(path: PathLike, size: int, unpacked: int) -> None:
    if unpacked > FREE_BYTES + MOST_RATIO * size:
        raise ModelFormatError(
            f"{path} has {size} bytes and unpacks to {unpacked}: it is damaged, or was made to fill the memory",
            hint="write it with numpy.savez, which does not compress",
        )


def _read(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> NDArray[np.float32] | None:
    with archive.open(info) as file:
        version = npy.read_magic(file)
        if version not in _HEADERS:  # names of fields that are not ASCII: no array of numbers
            return None
        shape, fortran, dtype = _HEADERS[version](file)
        if dtype.hasobject:
            raise ValueError(f"{info.filename} holds Python objects")
        if dtype != np.float32:
            return None
        length = info.file_size - file.tell()
        if min(shape, default=0) < 0 or math.prod(shape) * dtype.itemsize != length:
            raise ValueError(f"{info.filename} has {length} bytes, which is not its shape {shape}")
        values = np.frombuffer(file.read(), np.float32)
        return values.reshape(shape, order="F" if fortran else "C")


def read_safetensors(path: PathLike) -> dict[str, NDArray[np.float32]]:
    """Return the float32 arrays in the file ``path`` by name; others are skipped.

    Raises :class:`StorageError` if the file cannot be read, :class:`ModelFormatError` naming it if it is no such file
    or is damaged.
    """
    from safetensors import SafetensorError, deserialize

    try:
        found = deserialize(read_file(path))  # type: ignore[no-untyped-call]
    except SafetensorError as error:
        raise ModelFormatError(f"{path} is not a safetensors file, or is damaged: {error}") from None
    return {
        name: np.frombuffer(item["data"], "<f4").reshape(item["shape"])
        for name, item in found
        if item["dtype"] == "F32"
    }


def encode_safetensors(weights: Mapping[str, NDArray[np.float32]]) -> bytes:
    """Return the bytes of a file with ``weights`` (float32, any shape)."""
    from safetensors.numpy import save

    content: bytes = save({name: np.ascontiguousarray(value, "<f4") for name, value in weights.items()})
    return content
