"""Protobuf messages from a table of their fields, for formats whose generated classes would need another package."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

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
