"""The endpoints of the MindSpore Federated 0.1.0 server: what is posted to each, what it answers, and both as bytes.

A message is one FlatBuffers root table, without identifier and size prefix.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias, overload

from mindfl.flatbuf import Buffer, Table
from mindfl.flatbuf_writer import Writer
from mindfl.protocol import hybrid, messages, secure, texts
from mindfl.protocol.layout import MessageT, append_table, read_table
from mindfl.protocol.messages import PlainText, Request, Response

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


AnyRequest: TypeAlias = Request | secure.SecureRequest | hybrid.HybridRequest
AnyResponse: TypeAlias = Response | secure.SecureResponse | hybrid.HybridResponse

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
    :class:`mindfl.flatbuf.BrokenBufferError` where the body is neither that nor the expected table.
    """
    if len(data) <= LONGEST_PLAIN_TEXT and any(text in data for text in _PLAIN_TEXTS):
        return PlainText(data.decode(errors="replace"))
    return decode(data, RESPONSES[request])


def encode(message: DataclassInstance) -> bytes:
    """Return a message as bytes.

    Arrays may have any shape; they are sent in row-major order. Raises :class:`~mindfl.errors.ProtocolError` where a
    value has no form on the wire (an integer beyond 32 bits, say) or the message exceeds the 2 GiB of the format.
    """
    writer = Writer()
    append_table(writer, writer.root, message)
    return writer.finish()


def decode(data: Buffer, message: type[MessageT]) -> MessageT:
    """Return the ``message`` that ``data`` holds; raises :class:`mindfl.flatbuf.BrokenBufferError` where it does not.

    Arrays and weights are read-only views into ``data``. Absent fields read as the dataclass's defaults, and unknown
    values of an enumeration are kept. All that the type reaches is checked (see :mod:`mindfl.flatbuf`); bytes after
    the buffer, and fields that the type does not know, are not looked at.
    """
    return read_table(Table.root(data), message)
