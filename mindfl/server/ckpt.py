"""MindSpore's checkpoint files (``.ckpt``), read and written without importing MindSpore.

A checkpoint is the protobuf message described below, the same in MindSpore 2.0 to 2.10. A file written here may name
the filters of convolutions, which devices hold in another order, and ends with a checksum: in fields that MindSpore
skips as unknown. A file that MindSpore saved with ``crc_check`` is checked too.
"""

from __future__ import annotations

import binascii
import math
from collections.abc import Collection, Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from mindfl.errors import ModelFormatError, StorageError
from mindfl.files import PathLike, read_file

_FLOAT32 = "Float32"
_CHECKSUM_LENGTH = 5  # the last field: a tag of one byte, four bytes of CRC-32
_MOST_BYTES = 2**31 - 1  # of a protobuf message
_MOST_DIMENSIONS = 32
_MINDSPORE_MARK = b"crc_num"
_MINDSPORE_TAIL = len(_MINDSPORE_MARK) + 10

_MESSAGES = {
    "Checkpoint": (
        (1, "value", "Value", "repeated"),
        (14, "filters", "string", "repeated"),
        (15, "checksum", "fixed32", "optional"),
    ),
    "Value": ((1, "tag", "string", "required"), (2, "tensor", "TensorProto", "optional")),
    "TensorProto": (
        (1, "dims", "int64", "repeated"),
        (2, "tensor_type", "string", "required"),
        (3, "tensor_content", "bytes", "required"),
    ),
}


def read_ckpt(path: PathLike) -> dict[str, NDArray[np.float32]]:
    """Return the float32 tensors in the checkpoint ``path`` by name, in their shapes, read-only; others are skipped.

    Raises :class:`StorageError` if the file cannot be read, :class:`ModelFormatError` naming it if it is no
    checkpoint, is damaged, or holds no float32 tensor.
    """
    return read_marked_ckpt(path)[0]


def read_marked_ckpt(path: PathLike) -> tuple[dict[str, NDArray[np.float32]], frozenset[str] | None]:
    """Return what :func:`read_ckpt` does, and which of it are the filters of convolutions in MindSpore's order; None
    where the file does not say it. Raises as :func:`read_ckpt`."""
    try:
        if Path(path).stat().st_size > _MOST_BYTES:
            raise _DamagedError(f"it is larger than the {_MOST_BYTES} bytes of a message")
        weights, filters = _decode(read_file(path))
    except OSError as error:
        raise StorageError.from_os_error(error, "read", path) from None
    except _DamagedError as error:
        raise ModelFormatError(f"{path} is not a MindSpore checkpoint, or is damaged: {error}") from None
    if not weights:
        raise ModelFormatError(f"{path} holds no float32 weights")
    return weights, filters


def encode_ckpt(weights: Mapping[str, NDArray[np.float32]], filters: Collection[str] = ()) -> bytes:
    """Return the bytes of a checkpoint with ``weights`` (float32, any shape).

    ``filters`` names those that are [out, in, height, width] in it and [out, height, width, in] on devices.
    """
    message = _message_class()
    # First, so that a file that is cut off does not lose them alone.
    marks: bytes = message(filters=sorted(filters)).SerializeToString()
    body = marks + b"".join(_encode_value(name, value) for name, value in weights.items())
    checksum: bytes = message(checksum=binascii.crc32(body)).SerializeToString()
    return body + checksum


class _DamagedError(Exception):
    pass


@cache
def _message_class() -> Any:
    return message_class("mindfl.checkpoint", _MESSAGES, "Checkpoint")


def _encode_value(name: str, value: NDArray[np.float32]) -> bytes:
    message = _message_class()()
    entry = message.value.add(tag=name)
    entry.tensor.dims.extend(value.shape or (0,))  # MindSpore's way to write a scalar
    entry.tensor.tensor_type = _FLOAT32
    entry.tensor.tensor_content = np.ascontiguousarray(value, "<f4").tobytes()
    encoded: bytes = message.SerializeToString()
    return encoded


def _decode(content: bytes) -> tuple[dict[str, NDArray[np.float32]], frozenset[str] | None]:
    if content[-_MINDSPORE_TAIL:].startswith(_MINDSPORE_MARK):
        content, tail = content[:-_MINDSPORE_TAIL], content[-10:]
        _check(content, int.from_bytes(tail, "big"))
    message = _message_class()()
    try:
        message.ParseFromString(content)
    except (DecodeError, ValueError, RecursionError):  # the latter two: protobuf's pure Python decoder
        raise _DamagedError("it cannot be decoded") from None
    if message.HasField("checksum"):
        _check(content[:-_CHECKSUM_LENGTH], message.checksum)
    parts: dict[str, list[Any]] = {}
    for value in message.value:
        if value.HasField("tensor") and value.tensor.tensor_type == _FLOAT32:
            parts.setdefault(value.tag, []).append(value.tensor)
    weights = {name: _array(name, tensors) for name, tensors in parts.items()}
    wrong = [name for name in message.filters if name not in weights or weights[name].ndim != 4]
    if wrong:
        raise _DamagedError(f"{wrong[0]} is named as a filter, and has not four dimensions")
    return weights, frozenset(message.filters) or None


def _check(content: bytes, checksum: int) -> None:
    if binascii.crc32(content) != checksum:
        raise _DamagedError("its checksum is wrong")


def _array(name: str, tensors: Iterable[Any]) -> NDArray[np.float32]:
    """Join the slices of one tensor: MindSpore splits a large one into several entries of the same name."""
    slices = list(tensors)
    if len(slices[0].dims) > _MOST_DIMENSIONS:
        raise _DamagedError(f"{name} has {len(slices[0].dims)} dimensions")
    dims = tuple(slices[0].dims)
    shape = () if dims == (0,) else dims
    content = b"".join(item.tensor_content for item in slices)
    if any(dim < 0 for dim in shape) or math.prod(shape) * 4 != len(content):
        raise _DamagedError(f"{name} has {len(content)} bytes, which is not its shape")
    return np.frombuffer(content, "<f4").reshape(shape)


#: message -> its fields: number, name, type (a scalar's, or another message of the table), label
Messages = Mapping[str, tuple[tuple[int, str, str, str], ...]]


def message_class(package: str, messages: Messages, name: str) -> Any:
    """Return the class of message ``name``. Fields that the table lacks survive parsing and writing."""
    field_type = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name=f"{package}.proto", package=package)
    for message_name, fields in messages.items():
        message = file.message_type.add(name=message_name)
        for number, field, kind, label in fields:
            entry = message.field.add(name=field, number=number, label=getattr(field_type, f"LABEL_{label.upper()}"))
            if kind in messages:
                entry.type, entry.type_name = field_type.TYPE_MESSAGE, f".{package}.{kind}"
            else:
                entry.type = getattr(field_type, f"TYPE_{kind.upper()}")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{package}.{name}"))
