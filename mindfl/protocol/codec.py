"""Messages to and from the bytes on the wire: one FlatBuffers root table, without identifier and size prefix."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mindfl.flatbuf import Buffer, Table
from mindfl.flatbuf_writer import Writer
from mindfl.protocol.layout import MessageT, append_table, read_table

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


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
