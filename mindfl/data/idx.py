"""Reads IDX files, the form of MNIST, EMNIST and Fashion-MNIST, plain or compressed with gzip.

byte 0, 1   zero
byte 2      type of the numbers: 8 is uint8
byte 3      number of dimensions, each of which follows as a big-endian uint32; then the numbers, row by row
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mindfl.errors import DataError
from mindfl.files import PathLike, local_path, read_file

_UINT8 = 8
_GZIP = b"\x1f\x8b"
#: names of the four files, as the data sets are published
_PATTERNS = {
    ("train", "images"): "*train-images*",
    ("train", "labels"): "*train-labels*",
    ("test", "images"): ("*t10k-images*", "*test-images*"),
    ("test", "labels"): ("*t10k-labels*", "*test-labels*"),
}


def read_idx(path: PathLike) -> NDArray[np.uint8]:
    """Read an IDX file of bytes.

    Args:
        path: the file, plain or compressed with gzip.

    Returns:
        uint8, with the shape that the file says.

    Raises:
        DataError: the file cannot be read, or is not an IDX file of bytes.

    Example:
        >>> path = Path("labels-idx1-ubyte")
        >>> _ = path.write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, 3, 5, 6, 7]))
        >>> read_idx(path).tolist()
        [5, 6, 7]
    """
    content = read_file(path)
    if content.startswith(_GZIP):
        try:
            content = gzip.decompress(content)
        except (OSError, EOFError, zlib.error) as error:
            raise DataError(f"{path} cannot be unpacked: {error}") from None
    if len(content) < 4 or content[:2] != b"\0\0":
        raise DataError(f"{path} is not an IDX file", hint="IDX files of MNIST begin with two zero bytes")
    kind, dimensions = content[2], content[3]
    if kind != _UINT8:
        raise DataError(f"{path} holds numbers of type {kind}, mindfl reads 8 (uint8)")
    start = 4 + 4 * dimensions
    if len(content) < start:
        raise DataError(f"{path} ends within its {dimensions} dimensions")
    shape = struct.unpack(f">{dimensions}I", content[4:start])
    if len(content) - start != math.prod(shape):
        raise DataError(f"{path} should hold {math.prod(shape)} bytes of data, it holds {len(content) - start}")
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def read_idx_folder(folder: PathLike) -> dict[str, tuple[NDArray[Any], NDArray[Any]]]:
    """Read the images and labels of a folder with MNIST's files.

    Args:
        folder: holds ``*train-images*`` and ``*train-labels*``, and perhaps ``*t10k-*`` or ``*test-*`` likewise.

    Returns:
        ``train``, and ``test`` if it is there: images uint8 (n, height, width) and labels uint8 (n,).

    Raises:
        DataError: a file is missing, unreadable, or there are several; or images and labels do not match.
    """
    root = local_path(folder)
    if not root.is_dir():
        raise DataError(f"{root} is not a folder", hint="name the folder of the IDX files")
    parts = {}
    for part in ("train", "test"):
        files = {what: _file(root, part, what) for what in ("images", "labels")}
        missing = [what for what, file in files.items() if file is None]
        if part == "test" and len(missing) == 2:
            continue
        if missing:
            pattern = _PATTERNS[part, missing[0]]
            names = pattern if isinstance(pattern, str) else " or ".join(pattern)
            raise DataError(f"no {names} in {root}", hint="IDX files: train-images-idx3-ubyte.gz and so on")
        images, labels = (read_idx(file) for file in files.values() if file is not None)
        if images.ndim != 3 or labels.ndim != 1 or len(images) != len(labels):
            shapes = f"{files['images']} has shape {images.shape}, {files['labels']} {labels.shape}"
            raise DataError(f"{shapes}: images should be (n, height, width), labels (n,)")
        parts[part] = (images, labels)
    return parts


def _file(root: Path, part: str, what: str) -> Path | None:
    patterns = _PATTERNS[part, what]
    found = sorted({file for one in ([patterns] if isinstance(patterns, str) else patterns) for file in root.glob(one)})
    if len(found) > 1:
        raise DataError(f"{found[0].name} and {found[1].name} in {root} are both {part} {what}", hint="keep one")
    return found[0] if found else None
