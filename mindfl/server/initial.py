"""The weights that a job starts from, out of a model file of any kind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mindfl.errors import ModelFormatError, StorageError
from mindfl.files import PathLike

Arrays = dict[str, NDArray[np.float32]]


def initial_weights(path: PathLike, *, kchw: bool | None = None) -> Arrays:
    """Return the weights in ``path`` by name: float32 in the tensors' own shapes, convolutions as devices hold them.

    From a training ``.ms`` or ``.mindir`` those that are trained, from an inference ``.mindir``, a ``.ckpt`` or a
    ``.npz`` all float32 arrays. A device's ``.ms`` has convolutions as [out, height, width, in] (KHWC), MindSpore as
    [out, in, height, width]. ``kchw`` says whether 4-D weights in the file lie as MindSpore's do and are to be turned;
    None: those of a ``.mindir`` do, others are taken as they lie.

    Raises :class:`StorageError` if the file cannot be read, and :class:`ModelFormatError` (for a MINDIR
    :class:`MindirError`) naming it if it is none of these or holds no weights.
    """
    kind = _kind(path)
    weights = _READERS[kind](path)
    if not weights:
        raise ModelFormatError(f"{path} holds no float32 weights to train")
    turned = kind == ".mindir" if kchw is None else kchw
    return _khwc(weights) if turned else weights


def _kind(path: PathLike) -> str:
    try:
        # A pipe or a device may never end.
        if Path(path).exists() and not (Path(path).is_file() or Path(path).is_dir()):
            raise ModelFormatError(f"{path} is not a regular file")
        with Path(path).open("rb") as file:
            start = file.read(8)
    except OSError as error:
        raise StorageError.from_os_error(error, "read", path) from None
    if start[4:8] == b"MSL2":
        return ".ms"
    if start.startswith(b"PK\x03\x04"):
        return ".npz"
    suffix = Path(path).suffix.lower()
    if suffix not in _READERS:
        raise ModelFormatError(f"{path} is none of the model files {', '.join(_READERS)}")
    return suffix


def _from_ms(path: PathLike) -> Arrays:
    from mindfl.lite.model import LiteModel

    return dict(LiteModel.load(path).weights)


def _from_mindir(path: PathLike) -> Arrays:
    from mindfl.convert.mindir import optimizer_states, parameters, read_mindir

    model = read_mindir(path)
    values, trained = parameters(model), optimizer_states(model)
    chosen = {name: values[name] for name in trained or values if name in values}
    return {name: value.view(np.float32) for name, value in chosen.items() if value.dtype == np.float32}


def _from_ckpt(path: PathLike) -> Arrays:
    from mindfl.server.ckpt import read_ckpt

    return read_ckpt(path)


def _from_npz(path: PathLike) -> Arrays:
    from mindfl.server.npz import read_npz

    return read_npz(path)


def _khwc(weights: Arrays) -> Arrays:
    from mindfl.convert.mindir import khwc

    return {name: khwc(value) for name, value in weights.items()}


_READERS: dict[str, Callable[[PathLike], Arrays]] = {
    ".ms": _from_ms,
    ".mindir": _from_mindir,
    ".ckpt": _from_ckpt,
    ".npz": _from_npz,
}
MODEL_FILES = tuple(_READERS)
"""The endings of files that :func:`initial_weights` reads."""
