"""The file format safetensors: arrays by name, read by its own library."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from mindfl.errors import ModelFormatError
from mindfl.files import PathLike, read_file


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
