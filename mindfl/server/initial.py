"""The weights in a model file of any kind, in the order of devices or in MindSpore's.

Devices hold the filters of a convolution as [out, height, width, in] (KHWC), MindSpore as [out, in, height, width].
Which weights are filters is known from a graph (``.ms``, ``.mindir``) or from a mark in a ``.ckpt`` that mindfl wrote;
an archive of arrays says nothing, and shapes do not tell.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mindfl.errors import ModelFormatError, OptionError, StorageError
from mindfl.files import PathLike

if TYPE_CHECKING:
    from mindfl.lite.model import LiteModel

Arrays = dict[str, NDArray[np.float32]]

#: files that a server wrote of its weights as devices exchange them
_SERVER_FILE = re.compile(r"_recovery_iteration_[0-9]+_[0-9]{8}_[0-9]{6}")


_TO_KHWC = (0, 2, 3, 1)


@dataclass(frozen=True)
class DeviceWeights:
    """Weights as devices exchange them. ``filters`` are the names of those that are [out, height, width, in] here and
    [out, in, height, width] in MindSpore; None where the file that they come from does not say it."""

    arrays: Arrays
    filters: frozenset[str] | None


@dataclass(frozen=True)
class _Found:
    """The weights in a file, in its own order: MindSpore's where ``in_mindspore_order``. ``model``: of a ``.ms``."""

    arrays: Arrays
    filters: frozenset[str] | None = None
    in_mindspore_order: bool = False
    model: LiteModel | None = None


def device_weights(path: PathLike) -> DeviceWeights:
    """Return the weights in ``path`` by name: float32 in the tensors' own shapes, filters as devices hold them.

    From a training ``.ms`` or ``.mindir`` those that are trained, from other files all float32 arrays. Where a file
    does not say in which order its filters are, they are taken as they are.

    Raises :class:`StorageError` if the file cannot be read, and :class:`ModelFormatError` (for a MINDIR
    :class:`MindirError`) naming it if it is no model file or holds no weights.
    """
    found = _read(path)
    if not found.in_mindspore_order:
        return DeviceWeights(found.arrays, found.filters)
    return DeviceWeights(_turned(found.arrays, found.filters or ()), found.filters)


def mindspore_weights(path: PathLike) -> Arrays:
    """Return the weights in ``path`` by name: float32 in MindSpore's order and shapes.

    From a ``.ms`` all parameters of the network, from a training ``.mindir`` those that are trained, from other files
    all float32 arrays. A file that does not say in which order its filters are is taken to be in MindSpore's.

    Raises as :func:`device_weights`, and :class:`OptionError` for a server's file of weights in the order of devices.
    """
    found = _READERS[_kind(path)](path)
    try:
        arrays = found.arrays if found.model is None else found.model.to_mindspore()
    except ModelFormatError as error:
        raise ModelFormatError(f"{path}: {error}", hint=error.hint) from None
    if not arrays:
        raise ModelFormatError(f"{path} holds no float32 weights")
    if found.model is None and found.filters is None and _SERVER_FILE.search(Path(path).name):
        names = ", ".join(sorted(four_dimensional(found.arrays)))
        raise OptionError(
            f"{path} is a server's checkpoint that does not say in which order {names} is",
            hint="`mindfl export --from` it with --device_model, the .ms file of the devices",
        )
    return arrays


def initial_weights(path: PathLike, *, kchw: bool | None = None) -> Arrays:
    """Return the weights in ``path`` as :func:`device_weights` does.

    ``kchw`` False: in the order of the file; True: all that have four dimensions are turned from [out, in, height,
    width] to [out, height, width, in].
    """
    if kchw is None:
        return device_weights(path).arrays
    found = _read(path).arrays
    return _turned(found, four_dimensional(found)) if kchw else found


def four_dimensional(arrays: Arrays) -> frozenset[str]:
    """Return the names of the arrays of four dimensions, whose order may differ between devices and MindSpore."""
    return frozenset(name for name, value in arrays.items() if value.ndim == 4)


def unknown_order(path: PathLike, names: Iterable[str]) -> str:
    """Return the warning that ``path`` does not say how its weights of four dimensions are ordered."""
    return (
        f"warning: {path} does not say in which order {', '.join(sorted(names))} is: devices get it as it is there, and"
        " hold filters as [out, height, width, in]; a .ms or .mindir file says it"
    )


def _turned(arrays: Arrays, names: Collection[str]) -> Arrays:
    return {
        name: np.ascontiguousarray(value.transpose(_TO_KHWC)) if name in names else value
        for name, value in arrays.items()
    }


def _read(path: PathLike) -> _Found:
    found = _READERS[_kind(path)](path)
    if not found.arrays:
        raise ModelFormatError(f"{path} holds no float32 weights to train")
    return found


def _kind(path: PathLike) -> str:
    if not str(path):
        raise OptionError("the path of the model file is empty")
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


def _from_ms(path: PathLike) -> _Found:
    from mindfl.lite.model import LiteModel
    from mindfl.lite.weight_order import khwc_weights

    model = LiteModel.load(path)
    weights = dict(model.weights)
    try:
        filters = khwc_weights(model) & weights.keys()
    except ModelFormatError:
        return _Found(weights, model=model)
    return _Found(weights, filters, model=model)


def _from_mindir(path: PathLike) -> _Found:
    from mindfl.convert.mindir import optimizer_states, parameters, read_mindir

    model = read_mindir(path)
    values, trained = parameters(model), optimizer_states(model)
    chosen = {name: values[name] for name in trained or values if name in values}
    weights = {name: value.view(np.float32) for name, value in chosen.items() if value.dtype == np.float32}
    # The converter turns every parameter of four dimensions beside a convolution, its filters and others.
    return _Found(weights, four_dimensional(weights), in_mindspore_order=True)


def _from_ckpt(path: PathLike) -> _Found:
    from mindfl.server.ckpt import read_marked_ckpt

    weights, filters = read_marked_ckpt(path)
    return _archive(weights) if filters is None else _Found(weights, filters, in_mindspore_order=True)


def _from_npz(path: PathLike) -> _Found:
    from mindfl.server.array_files import read_npz

    return _archive(read_npz(path))


def _from_safetensors(path: PathLike) -> _Found:
    from mindfl.server.array_files import read_safetensors

    return _archive(read_safetensors(path))


def _archive(weights: Arrays) -> _Found:
    """Return arrays of which nothing says whether they are filters: where none can be, both orders are the same."""
    return _Found(weights, None if four_dimensional(weights) else frozenset())


_READERS: dict[str, Callable[[PathLike], _Found]] = {
    ".ms": _from_ms,
    ".mindir": _from_mindir,
    ".ckpt": _from_ckpt,
    ".npz": _from_npz,
    ".safetensors": _from_safetensors,
}
MODEL_FILES = tuple(_READERS)
"""The endings of files that the functions here read."""
