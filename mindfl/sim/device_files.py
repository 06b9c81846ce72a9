"""The ``.ms`` files and data of a device that is a process of its own."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mindfl.data import Dataset, Split, UserData, open_dataset
from mindfl.data.bins import BinDataset
from mindfl.data.pixels import FloatFile
from mindfl.data.samples import check_labels
from mindfl.errors import DataError, StorageError
from mindfl.files import local_path, read_file, write_atomic
from mindfl.lite import LiteModel
from mindfl.spelling import counted

_LABEL = np.dtype("<i4")


class DeviceFiles:
    """The model to train and the model to infer with, which may be the same file.

    ``bak_<name>`` beside the first holds what it was when the latest task began. A file is replaced in one step. Each
    gets the weights that are named for it, by default all. Raises :class:`StorageError` and
    :class:`ModelFormatError` naming the file.
    """

    def __init__(
        self,
        train: Path,
        infer: Path | None = None,
        train_names: tuple[str, ...] | None = None,
        infer_names: tuple[str, ...] | None = None,
    ) -> None:
        self._train = train
        self._targets = {train: train_names}
        if infer is not None:
            self._targets[infer] = infer_names
        self._backup = train.with_name(f"bak_{train.name}")

    def back_up(self) -> None:
        """Keep a copy of the file as it is now."""
        write_atomic(self._backup, read_file(self._train))

    def restore(self) -> None:
        """Put the copy back."""
        write_atomic(self._train, read_file(self._backup))

    def save(self, weights: Mapping[str, NDArray[np.float32]]) -> None:
        """Write the files with these weights: both, or, where one of them cannot take them, none."""
        changed = {
            path: LiteModel.load(path).patched({name: weights[name] for name in names or weights if name in weights})
            for path, names in self._targets.items()
        }
        for path, content in changed.items():
            write_atomic(path, content)


def open_user(train: str | None, test: str | None, separator: str, user: str | None) -> UserData:
    """Return a device's data. Each of ``train`` and ``test`` is one of

    - ``IMAGES,LABELS``: two bins, with what the regular expression ``separator`` matches between them, all of whose
      samples are true ones, as in the reference;
    - the folder of one user, with its bins;
    - a data set of ``mindfl data``, of which ``user`` is taken: a name, or a position from 0.

    None gives an empty part, as do empty bins of a test part. Raises :class:`DataError`.
    """
    parts = [_open_part(path, part, separator, user) for path, part in ((train, "train"), (test, "test"))]
    name = next((name for name, _ in parts if name), "device")
    return UserData(name, *(split for _, split in parts))


def _open_part(source: str | None, part: str, separator: str, user: str | None) -> tuple[str, Split]:
    if not source:
        return "", _EMPTY
    path = local_path(source)
    if not path.is_dir():
        return _open_pair(source, separator, may_be_empty=part == "test")
    if any(path.glob(f"*_bn_*_{part}_*.bin")):
        dataset: Dataset = BinDataset(path.resolve().parent)
        name = path.resolve().name
    else:
        dataset = open_dataset(path)
        if user is None:
            raise DataError(f"{path} holds {counted(len(dataset), 'user')}", hint="choose one with --user")
        known = user in dataset.users or not user.isdecimal()
        name = dataset.name_of(user if known else int(user))
    return name, dataset.user(name).train if part == "train" else dataset.test_part(name)


def _open_pair(source: str, separator: str, *, may_be_empty: bool) -> tuple[str, Split]:
    pieces = re.split(separator, source)
    if len(pieces) != 2:
        raise DataError(f"{source} is neither a folder nor two files", hint=f"with {separator!r} between them")
    images, labels = map(local_path, pieces)
    name = images.name.partition("_bn_")[0] or images.stem
    values = np.frombuffer(_content(labels, _LABEL.itemsize), _LABEL)
    try:
        size, rest = divmod(images.stat().st_size, FloatFile.image_bytes())
    except OSError as error:
        raise StorageError.from_os_error(error, "read", images) from None
    if may_be_empty and not (size or rest or len(values)):
        return name, _EMPTY
    if rest or not size:
        raise DataError(f"{images} is not whole images of {FloatFile.image_bytes()} bytes (truncated?)")
    if len(values) != size:
        raise DataError(f"{images} has {counted(size, 'image')} but {labels} has {counted(len(values), 'label')}")
    return name, Split(check_labels(values, name, labels), size, FloatFile(images, name))


def _content(path: Path, unit: int) -> bytes:
    content = read_file(path)
    if len(content) % unit:
        raise DataError(f"{path} is not whole int32 labels (truncated?)")
    return content


_EMPTY = Split(np.zeros(0, np.int32), 0, FloatFile(Path(), ""))
