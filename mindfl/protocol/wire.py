"""Messages as bytes: the endpoints of the MindSpore Federated 0.1.0 server, and the codec of what they exchange.

A message is one FlatBuffers root table, without identifier and size prefix. How each field lies on the wire is derived
from the dataclasses: position is slot, annotation is form.

=============================  ====================================================================
annotation (``| None`` aside)  on the wire
=============================  ====================================================================
``int``, ``float``, ``bool``   int32, float32, uint8
a subclass of ``IntEnum``      int8
``str``                        string
``bytes``                      vector of uint8
``NDArray[T]``                 vector of T
``tuple[T, ...]``              vector of T: strings, tables or enumeration values
``Weights``                    vector of ``FeatureMap`` tables: slot 0 the name, slot 1 the values
a dataclass                    table
=============================  ====================================================================

Numbers that are 0 are left out, as absent ones read as 0.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from enum import IntEnum
from functools import cache
from types import MappingProxyType, NoneType, UnionType
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar, get_args, get_origin, get_type_hints, overload

import numpy as np
from numpy.typing import NDArray

from mindfl.errors import ProtocolError
from mindfl.protocol import hybrid, messages, secure, texts
from mindfl.protocol.flatbuf import POINTER_CELL, BrokenBufferError, Buffer, Pointer, Table, Writer
from mindfl.protocol.messages import PlainText, Request, Response
from mindfl.protocol.values import FloatVector, Weights

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

AnyRequest: TypeAlias = Request | hybrid.HybridRequest
AnyResponse: TypeAlias = Response | hybrid.HybridResponse

REQUESTS: dict[str, type[AnyRequest]] = {
    "startFLJob": messages.RequestFLJob,
    "updateModel": messages.RequestUpdateModel,
    "getModel": messages.RequestGetModel,
    "exchangeKeys": secure.RequestExchangeKeys,
    "getKeys": secure.GetExchangeKeys,
    "shareSecrets": secure.RequestShareSecrets,
    "getSecrets": secure.GetShareSecrets,
    "getClientList": secure.GetClientList,
    "pushListSign": secure.SendClientListSign,
    "getListSign": secure.RequestAllClientListSign,
    "reconstructSecrets": secure.SendReconstructSecret,
    "pullWeight": hybrid.RequestPullWeight,
    "pushWeight": hybrid.RequestPushWeight,
    "pushMetrics": hybrid.RequestPushMetrics,
}
"""Last part of the URL -> type of the request posted to it."""

ENDPOINTS: dict[type[AnyRequest], str] = {request: endpoint for endpoint, request in REQUESTS.items()}
"""Request type -> last part of the URL it is posted to."""

RESPONSES: dict[type[AnyRequest], type[AnyResponse]] = {
    messages.RequestFLJob: messages.ResponseFLJob,
    messages.RequestUpdateModel: messages.ResponseUpdateModel,
    messages.RequestGetModel: messages.ResponseGetModel,
    secure.RequestExchangeKeys: secure.ResponseExchangeKeys,
    secure.GetExchangeKeys: secure.ReturnExchangeKeys,
    secure.RequestShareSecrets: secure.ResponseShareSecrets,
    secure.GetShareSecrets: secure.ReturnShareSecrets,
    secure.GetClientList: secure.ReturnClientList,
    secure.SendClientListSign: secure.ResponseClientListSign,
    secure.RequestAllClientListSign: secure.ReturnAllClientListSign,
    secure.SendReconstructSecret: secure.ReconstructSecret,
    hybrid.RequestPullWeight: hybrid.ResponsePullWeight,
    hybrid.RequestPushWeight: hybrid.ResponsePushWeight,
    hybrid.RequestPushMetrics: hybrid.ResponsePushMetrics,
}
"""Request type -> type of the table that answers it."""

LONGEST_PLAIN_TEXT = 512
"""Longest body, in bytes, that a device of MindSpore Federated 0.1.0 searches for a plain text."""

_PLAIN_TEXTS = tuple(text.encode() for text in (texts.SAFEMODE, texts.FINISHED, texts.NOT_READY, texts.START_SCHEMA))


def encode_response(response: AnyResponse) -> bytes:
    """Return the body of a response; raises :class:`~mindfl.errors.ProtocolError` as :func:`encode` does."""
    return response.text.encode() if isinstance(response, PlainText) else encode(response)


@overload
def decode_response(data: bytes, request: type[Request]) -> Response: ...


@overload
def decode_response(data: bytes, request: type[AnyRequest]) -> AnyResponse: ...


def decode_response(data: bytes, request: type[AnyRequest]) -> AnyResponse:
    """Return the response that the body ``data`` holds, given the type of the request that it answers.

    A short body that contains one of the known plain texts is a :class:`PlainText`, whatever surrounds the text. Raises
    :class:`BrokenBufferError` if the body is neither that nor the expected table.
    """
    if len(data) <= LONGEST_PLAIN_TEXT and any(text in data for text in _PLAIN_TEXTS):
        return PlainText(data.decode(errors="replace"))
    return decode(data, RESPONSES[request])


def encode(message: DataclassInstance) -> bytes:
    """Return a message as bytes.

    Arrays may have any shape; they are sent in row-major order. Raises :class:`~mindfl.errors.ProtocolError` if a
    value has no form on the wire (an integer beyond 32 bits, say) or the message exceeds the 2 GiB of the format.
    """
    writer = Writer()
    append_table(writer, writer.root, message)
    return writer.finish()


def decode(data: Buffer, message: type[MessageT]) -> MessageT:
    """Return the ``message`` in ``data``. Raises :class:`BrokenBufferError` if it is invalid.

    Arrays and weights are read-only views into ``data``. Absent fields read as the dataclass's defaults, and unknown
    values of an enumeration are kept. All fields of the type are checked (see :mod:`mindfl.protocol.flatbuf`); bytes
    after the buffer, and fields that the type does not have, are ignored.
    """
    return read_table(Table.root(data), message)


MessageT = TypeVar("MessageT", bound="DataclassInstance")
_WEIGHT_CELLS = ((0, POINTER_CELL), (1, POINTER_CELL))
_MEMBER_COST = 16  # bytes that one byte of an enumeration vector takes in memory while it is read
_NO_VALUES = np.frombuffer(b"", np.float32)
_NUMBERS = {int: "i", float: "f", bool: "?"}


@dataclass(frozen=True, slots=True)
class Form:
    """How a field is read and written.

    A number is packed by ``pack`` into a cell of its table; anything else is appended by ``append`` behind a pointer.
    """

    read: Callable[[Table, int], Any]
    pack: struct.Struct | None = None
    append: Callable[[Writer, Pointer, Any], None] | None = None


def read_table(table: Table, message: type[MessageT]) -> MessageT:
    """Return ``table`` as a ``message``; raises :class:`BrokenBufferError`."""
    return message(**{name: form.read(table, slot) for name, slot, form in _layout(message)})


def append_table(writer: Writer, pointer: Pointer, message: DataclassInstance) -> None:
    """Append ``message``. Raises :class:`ProtocolError` naming a field with a value that cannot be sent."""
    cells, parts = [], []
    for name, slot, form in _layout(type(message)):
        value = getattr(message, name)
        if form.append is not None and value is not None:
            cells.append((slot, POINTER_CELL))
            parts.append((len(cells) - 1, name, form.append, value))
        elif form.pack is not None and value:
            cells.append((slot, _packed(message, name, form.pack, value)))
    pointers = writer.table(pointer, cells)
    for index, name, append, value in parts:
        try:
            append(writer, pointers[index], value)
        except (TypeError, ValueError, OverflowError) as error:
            raise _unsendable(message, name, error) from None


def _packed(message: DataclassInstance, name: str, code: struct.Struct, value: float) -> bytes:
    try:
        return code.pack(value)
    except (struct.error, OverflowError) as error:
        raise _unsendable(message, name, error) from None


def _unsendable(message: DataclassInstance, name: str, error: Exception) -> ProtocolError:
    return ProtocolError(f"{type(message).__name__} cannot be sent, {name} has no form on the wire: {error}")


@cache
def _layout(message: type[DataclassInstance]) -> tuple[tuple[str, int, Form], ...]:
    """Return name, slot and form of each field; those of one byte last, which keeps the others aligned."""
    hints = get_type_hints(message)
    layout = [(field.name, slot, _form(hints[field.name])) for slot, field in enumerate(fields(message))]
    return tuple(sorted(layout, key=lambda entry: entry[2].pack is not None and entry[2].pack.size == 1))


@cache
def _form(hint: Any) -> Form:
    """Return the form of a field by its annotation."""
    if get_origin(hint) is UnionType:
        (hint,) = (kind for kind in get_args(hint) if kind is not NoneType)
    if get_origin(hint) is NDArray:  # an alias of its own in some versions of NumPy and Python
        return _array_form(np.dtype(get_args(hint)[0]).newbyteorder("<"))
    if get_origin(hint) is np.ndarray:
        (item,) = get_args(get_args(hint)[1])
        return _array_form(np.dtype(item).newbyteorder("<"))
    if get_origin(hint) is tuple:
        return _tuple_form(get_args(hint)[0])
    if get_origin(hint) is Mapping:
        return Form(_read_weights, append=_append_weights)
    return _plain_form(hint)


def _plain_form(kind: type[Any]) -> Form:
    if kind in _NUMBERS:
        code = _NUMBERS[kind]
        return Form(lambda table, slot: table.scalar(slot, code, kind(0)), struct.Struct("<" + code))
    if issubclass(kind, IntEnum):
        return Form(lambda table, slot: kind(table.integer(slot, "b")), struct.Struct("<b"))
    if kind is str:
        return Form(lambda table, slot: table.string(slot) if table.has(slot) else None, append=Writer.text)
    if kind is bytes:
        return Form(_read_bytes, append=lambda writer, at, value: writer.vector(at, np.frombuffer(value, np.uint8)))
    if is_dataclass(kind):
        return Form(lambda table, slot: _read_child(table, slot, kind), append=append_table)
    raise TypeError(f"no form on the wire for {kind!r}")


def _array_form(dtype: np.dtype[Any]) -> Form:
    return Form(
        lambda table, slot: table.array(slot, dtype),
        append=lambda writer, at, value: writer.vector(at, np.ascontiguousarray(value, dtype)),
    )


def _tuple_form(item: type[Any]) -> Form:
    if item is str:
        return Form(_read_texts, append=_append_texts)
    if issubclass(item, IntEnum):
        members = {value: item(value) for value in range(-128, 128)}
        return Form(
            lambda table, slot: _read_members(table, slot, members),
            append=lambda writer, at, value: writer.vector(at, np.array(value, np.int8)),
        )
    return Form(lambda table, slot: _read_children(table, slot, item), append=_append_children)


def _read_bytes(table: Table, slot: int) -> bytes | None:
    octets = table.array(slot, np.uint8)
    return None if octets is None else octets.tobytes()


def _read_members(table: Table, slot: int, members: Mapping[int, IntEnum]) -> tuple[IntEnum, ...] | None:
    values = table.array(slot, np.int8)
    if values is None:
        return None
    table.allowance.spend(_MEMBER_COST * values.size)
    return tuple(members[value] for value in values.tolist())


def _read_texts(table: Table, slot: int) -> tuple[str, ...] | None:
    return tuple(table.strings(slot)) if table.has(slot) else None


def _append_texts(writer: Writer, pointer: Pointer, texts: tuple[str, ...]) -> None:
    for place, text in zip(writer.pointers(pointer, len(texts)), texts, strict=True):
        writer.text(place, text)


def _read_child(table: Table, slot: int, kind: type[MessageT]) -> MessageT | None:
    child = table.table(slot)
    return None if child is None else read_table(child, kind)


def _read_children(table: Table, slot: int, kind: type[MessageT]) -> tuple[MessageT, ...] | None:
    return tuple(read_table(child, kind) for child in table.tables(slot)) if table.has(slot) else None


def _append_children(writer: Writer, pointer: Pointer, children: tuple[DataclassInstance, ...]) -> None:
    for place, child in zip(writer.pointers(pointer, len(children)), children, strict=True):
        append_table(writer, place, child)


def _read_weights(table: Table, slot: int) -> Weights | None:
    """Return views by name; of two entries with one name the later counts, as in the reference server's map."""
    if not table.has(slot):
        return None
    weights: dict[str, FloatVector] = {}
    for entry in table.tables(slot):
        if not entry.has(0):
            raise BrokenBufferError("a weight has no name")
        values = entry.array(1, "<f4")
        weights[entry.string(0)] = _NO_VALUES if values is None else values.view(np.float32)
    return MappingProxyType(weights)


def _append_weights(writer: Writer, pointer: Pointer, weights: Weights) -> None:
    for place, (name, values) in zip(writer.pointers(pointer, len(weights)), weights.items(), strict=True):
        to_name, to_values = writer.table(place, _WEIGHT_CELLS)
        writer.text(to_name, name)
        writer.vector(to_values, np.ascontiguousarray(values, "<f4"))
