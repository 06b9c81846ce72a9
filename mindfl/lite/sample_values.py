"""Samples and labels of a model, checked, as the kernels read them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mindfl.errors import DataError
from mindfl.lite.model import Tensor
from mindfl.lite.model_graph import Graph
from mindfl.lite.program import alike, core

Numbers = NDArray[np.int32]
SamplesLike: TypeAlias = ArrayLike | Sequence[ArrayLike]
_WHOLE = np.iinfo(np.int32)


@dataclass(frozen=True)
class Packable:
    """Samples, checked: float32 (count, features) and int32 (count, numbers), the latter of one row at least.

    ``folded``: one channel of the images represents all equal ones.
    """

    floats: NDArray[np.float32]
    numbers: Numbers
    count: int
    folded: bool = False


def packable(samples: SamplesLike, graph: Graph) -> Packable:
    """Return samples, an array or one for each input of the model. Raises :class:`DataError` for unusable ones."""
    inputs = graph.samples
    if graph.image is not None and not (isinstance(samples, tuple) and len(samples) == 1):
        images, folded = _images(samples, graph)
        return Packable(images, np.zeros((1, 0), np.int32), len(images), folded)
    parts = _parts(samples, inputs)
    count = len(parts[0])
    columns = [_checked(part, tensor, graph) for part, tensor in zip(parts, inputs, strict=True)]
    floats = [part for part in columns if part.dtype == np.float32]
    numbers = [part for part in columns if part.dtype == np.int32]
    return Packable(
        own(np.concatenate(floats, axis=1), np.float32) if floats else np.zeros((count, 0), np.float32),
        own(np.concatenate(numbers, axis=1), np.int32) if numbers else np.zeros((1, 0), np.int32),
        count,
    )


def packed_labels(labels: ArrayLike, count: int, graph: Graph) -> Numbers:
    """Return the labels of ``count`` samples, one sample's after the other's; floats as the same 32 bits.

    Raises :class:`DataError` for a wrong shape or type, a class number out of range, and targets that are not finite.
    """
    try:
        array = np.asarray(labels)
    except ValueError:
        raise DataError("the labels are not an array of numbers") from None
    if graph.label_kind == "targets":
        return _targets(array, count, graph)
    tokens, classes = graph.labels_of_sample, graph.classes
    if graph.label_kind != "tokens" and array.shape == (count, classes) and array.ndim == 2:
        array = _class_numbers(array)
    if graph.label_kind == "classes" and array.shape == (count, 1):
        array = array[:, 0]
    if graph.label_kind == "tokens" and graph.labels is not None and array.shape == (count, *graph.labels.dims[1:]):
        array = array.reshape(count, tokens)
    shape = (count, tokens) if graph.label_kind == "tokens" else (count,)
    if array.shape != shape or array.dtype.kind not in "iu":
        wanted = f", which need whole numbers of shape {shape}" if graph.label_kind == "tokens" else ""
        raise DataError(f"there are {count} images, and labels of shape {array.shape} and type {array.dtype}{wanted}")
    wrong = array[(array < 0) | (array >= classes)]
    if wrong.size:
        raise DataError(f"label {wrong[0]} is out of range: the model has classes 0 to {classes - 1}")
    return own(array.reshape(-1), np.int32)


def own(values: ArrayLike, dtype: type[Any]) -> NDArray[Any]:
    """Return a contiguous, aligned, writable array: for any other numba would compile the machine again."""
    return np.require(values, dtype, ["C", "A", "W"])


def _images(images: SamplesLike, graph: Graph) -> tuple[NDArray[np.float32], bool]:
    """Return samples as float32 (count, features), and whether one channel represents all equal ones."""
    try:
        array = own(images, np.float32)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise DataError("the images are not an array of numbers") from None
    shape = graph.samples[0].dims[1:]
    if array.size == 0:
        raise DataError("there are no images")
    if array.shape[1:] == shape:
        folded = graph.equal_channels and bool((array[..., :1] == array).all())
        array = np.ascontiguousarray(array[..., 0]) if folded else array
    elif array.shape[1:] == shape[:-1] and len(shape) == 3:
        folded = graph.equal_channels
        array = array if folded else np.repeat(array[..., None], shape[-1], axis=-1)
    elif array.ndim and (alike(array.shape[1:], shape) or _is_row(array, shape)):
        folded = False
    else:
        raise DataError(f"images have shape {array.shape[1:]}, the model takes {shape}")
    return array.reshape(len(array), -1), folded


def _is_row(array: NDArray[Any], shape: tuple[int, ...]) -> bool:
    """Return whether samples are rows of numbers, for an input of ``shape`` that is no image, whose axes are turned."""
    return len(shape) != 3 and array.shape[1:] == (math.prod(shape),)


def _parts(samples: SamplesLike, inputs: tuple[Tensor, ...]) -> list[NDArray[Any]]:
    """Return an array for each input."""
    try:
        if isinstance(samples, tuple):
            parts = [np.asarray(part) for part in samples]
        else:
            parts = _divided(np.asarray(samples), inputs)
    except ValueError:
        raise DataError("the samples are not an array of numbers") from None
    if len(parts) != len(inputs):
        names = ", ".join(tensor.name for tensor in inputs)
        raise DataError(f"there are {len(parts)} arrays of samples, the model has the inputs {names}")
    for part, tensor in zip(parts, inputs, strict=True):
        if not part.ndim or not alike(part.shape[1:], tensor.dims[1:]):
            raise DataError(
                f"input {tensor.name}: samples have shape {part.shape[1:]}, the model takes {tensor.dims[1:]}"
            )
        if len(part) != len(parts[0]):
            raise DataError(f"input {tensor.name} has {len(part)} samples, {inputs[0].name} has {len(parts[0])}")
    if not len(parts[0]):
        raise DataError("there are no samples")
    return parts


def _divided(array: NDArray[Any], inputs: tuple[Tensor, ...]) -> list[NDArray[Any]]:
    """Divide an array of samples that hold the inputs one after the other."""
    shapes = [tensor.dims[1:] for tensor in inputs]
    if len(inputs) == 1:
        return [array]
    sizes = [math.prod(shape) for shape in shapes]
    own_shape = array.shape[1:]
    rows = {core(shape) for shape in shapes}
    stacked = len(rows) == 1 and core(own_shape) == core((len(inputs), *rows.pop()))
    if not array.ndim or not (stacked or own_shape == (sum(sizes),)):
        raise DataError(f"samples have shape {own_shape}, the model takes inputs of {', '.join(map(str, shapes))}")
    flat = array.reshape(len(array), -1)
    parts = np.split(flat, np.cumsum(sizes)[:-1], axis=1)
    if len({tensor.dtype for tensor in inputs}) > 1:
        parts = [
            whole_numbers(part, tensor.name) if tensor.dtype == np.int32 else part
            for part, tensor in zip(parts, inputs, strict=True)
        ]
    return [part.reshape(len(array), *shape) for part, shape in zip(parts, shapes, strict=True)]


def whole_numbers(part: NDArray[Any], name: str) -> NDArray[Any]:
    """Return the values of an input of whole numbers that came in one table with other numbers, as int32.

    Raises :class:`DataError` for one that is not whole; ``name``: of the input.
    """
    if part.dtype.kind in "iu":
        return part
    wrong = part[(part != np.rint(part)) | (np.abs(part) > _WHOLE.max)]
    if wrong.size or part.dtype.kind != "f":
        found = f"not {wrong[0]:g}" if wrong.size else f"not {part.dtype}"
        raise DataError(f"input {name} takes whole numbers (int32), {found}")
    return part.astype(np.int32)


def _checked(part: NDArray[Any], tensor: Tensor, graph: Graph) -> NDArray[Any]:
    """Return an input's samples as (count, values) of its type."""
    flat = part.reshape(len(part), -1)
    if tensor.dtype == np.float32:
        if flat.dtype.kind not in "fiub":
            raise DataError(f"input {tensor.name} takes numbers, not {flat.dtype}")
        return flat.astype(np.float32, copy=False)
    if tensor.dtype == np.bool_:
        if flat.dtype.kind not in "fiub" or not ((flat == 0) | (flat == 1)).all():
            raise DataError(f"input {tensor.name} takes flags, true and false, or 1 and 0")
        return flat.astype(np.float32)
    if flat.dtype.kind not in "iu":
        raise DataError(f"input {tensor.name} takes whole numbers (int32), not {flat.dtype}")
    rows = graph.vocabularies.get(tensor.index)
    least, most = (_WHOLE.min, _WHOLE.max) if rows is None else (0, rows - 1)
    wrong = flat[(flat < least) | (flat > most)]
    if wrong.size:
        what = "" if rows is None else f": the model has tokens 0 to {most}"
        raise DataError(f"input {tensor.name}: {wrong[0]} is out of range{what}")
    return flat.astype(np.int32, copy=False)


def _targets(array: NDArray[Any], count: int, graph: Graph) -> Numbers:
    tensor = graph.labels
    assert tensor is not None, "it has a kind"
    shape = tensor.dims[1:]
    if array.dtype.kind not in "fiub" or array.shape[:1] != (count,) or not alike(array.shape[1:], shape):
        raise DataError(
            f"there are {count} samples, and labels of shape {array.shape} and type {array.dtype}: the model takes"
            f" numbers of shape {(count, *shape)}"
        )
    if tensor.dtype == np.float32:
        values = array.astype(np.float32)
        if not np.isfinite(values).all():
            raise DataError("the labels hold a number that is not finite")
        return own(values.reshape(-1).view(np.int32), np.int32)
    if array.dtype.kind not in "iub":
        raise DataError(f"the model takes labels that are whole numbers, not {array.dtype}")
    wrong = array[(array < _WHOLE.min) | (array > _WHOLE.max)]
    if wrong.size:
        raise DataError(f"label {wrong[0]} is out of range: the model takes int32")
    return own(array.reshape(-1), np.int32)


def _class_numbers(one_hot: NDArray[Any]) -> NDArray[Any]:
    """Return one-hot labels as class numbers. Raises :class:`DataError` for a row without exactly one 1."""
    if not ((one_hot == 0) | (one_hot == 1)).all() or not (one_hot.sum(axis=1) == 1).all():
        raise DataError("labels of shape (count, classes) must be one-hot: one 1 in each row, else 0")
    classes: NDArray[Any] = one_hot.argmax(axis=1)
    return classes
