"""One file of a journal: a header, then records, each framed so that damage is noticed and its extent is known.

Header: magic and version (8 bytes), job (16), position of the first record in the journal (u64), salt (8), CRC-32.
Record: salt (8), length of the payload (u64), kind (u8), 3 zero bytes, CRC-32 of the payload, CRC-32 of this head; then
the payload. All numbers are little endian. The salt is random for each file and never leaves the server, so a device
cannot upload bytes that pass for a record.
"""

from __future__ import annotations

import mmap
import os
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from mindfl.errors import StorageError
from mindfl.files import write_atomic
from mindfl.server.events import Buffer

MAGIC = b"mindflJ\x01"
SYNCED = 255
"""Kind of a record that says up to which position the journal was safely on disk when it was written."""

_HEADER = struct.Struct("<8s16sQ8s")
_HEAD = struct.Struct("<8sQB3xI")
_CRC = struct.Struct("<I")
_POSITION = struct.Struct("<Q")
HEADER_SIZE = _HEADER.size + _CRC.size
HEAD_SIZE = _HEAD.size + _CRC.size


@dataclass(frozen=True, eq=False)
class Record:
    """A record ready to be written: its kind, payload in parts, length and checksum of the payload."""

    kind: int
    parts: Sequence[Buffer]
    length: int
    checksum: int

    @classmethod
    def of(cls, kind: int, parts: Sequence[Buffer]) -> Record:
        """Measure and sum up the payload."""
        checksum = 0
        for part in parts:
            checksum = zlib.crc32(part, checksum)
        return cls(kind, parts, sum(len(part) for part in parts), checksum)


def synced_record(position: int) -> Record:
    """Return the record that says that everything before ``position`` is on disk."""
    return Record.of(SYNCED, [_POSITION.pack(position)])


def synced_position(payload: bytes) -> int:
    """Return the position in the payload of such a record."""
    return int.from_bytes(payload, "little")


class BadRecordError(Exception):
    """There is no whole record at ``position``, though the file continues."""

    def __init__(self, position: int) -> None:
        super().__init__(position)
        self.position = position


@dataclass(frozen=True)
class Segment:
    """A file of a journal; ``base`` is the position of its first record."""

    path: Path
    base: int
    salt: bytes

    @classmethod
    def create(cls, folder: Path, job: bytes, base: int) -> Segment:
        """Write a new file without records; it appears whole or not at all. Raises :class:`StorageError`."""
        segment = cls(folder / f"journal-{base:016x}", base, os.urandom(8))
        header = _HEADER.pack(MAGIC, job, base, segment.salt)
        write_atomic(segment.path, header + _CRC.pack(zlib.crc32(header)))
        return segment

    @classmethod
    def find(cls, folder: Path, job: bytes) -> list[Segment]:
        """Return the files of ``job`` in ``folder``, in order. Raises :class:`StorageError` for any other file."""
        return sorted((cls._open(path, job) for path in folder.glob("journal-*")), key=lambda segment: segment.base)

    @classmethod
    def _open(cls, path: Path, job: bytes) -> Segment:
        try:
            with path.open("rb") as file:
                data = file.read(HEADER_SIZE)
        except OSError as error:
            raise StorageError.from_os_error(error, "read", path) from None
        header = data[: _HEADER.size]
        if len(data) < HEADER_SIZE or _CRC.unpack_from(data, _HEADER.size)[0] != zlib.crc32(header):
            raise damaged(path, 0)
        magic, owner, base, salt = _HEADER.unpack(header)
        if magic != MAGIC or owner != job:
            raise StorageError(
                f"{path} belongs to another job or another version of mindfl",
                hint="remove it, or choose another state folder",
            )
        return cls(path, base, salt)

    def head(self, record: Record) -> bytes:
        """Return the bytes before the payload of ``record`` in this file."""
        head = _HEAD.pack(self.salt, record.length, record.kind, record.checksum)
        return head + _CRC.pack(zlib.crc32(head))

    def offset(self, position: int) -> int:
        """Return where in the file a position of the journal lies."""
        return position - self.base + HEADER_SIZE

    def records(self, start: int) -> Iterator[tuple[int, int, bytes]]:
        """Yield (position after the record, kind, payload) from the position ``start`` to the end of the file.

        Raises :class:`BadRecordError` at the first place that holds no whole record, :class:`StorageError` where the
        file cannot be read.
        """
        try:
            with self.path.open("rb") as file:
                end = self.base + os.fstat(file.fileno()).st_size - HEADER_SIZE
                file.seek(self.offset(start))
                position = start
                while position < end:
                    kind, payload = self._read(file, position, end)
                    position += HEAD_SIZE + len(payload)
                    yield position, kind, payload
        except OSError as error:
            raise StorageError.from_os_error(error, "read", self.path) from None

    def _read(self, file: BinaryIO, position: int, end: int) -> tuple[int, bytes]:
        kind, length, checksum = self._check_head(file.read(HEAD_SIZE)) or (0, -1, 0)
        if not 0 <= length <= end - position - HEAD_SIZE:
            raise BadRecordError(position)
        payload = file.read(length)
        if len(payload) != length or zlib.crc32(payload) != checksum:
            raise BadRecordError(position)
        return kind, payload

    def _check_head(self, data: bytes) -> tuple[int, int, int] | None:
        head = data[: _HEAD.size]
        if len(data) < HEAD_SIZE or _CRC.unpack_from(data, _HEAD.size)[0] != zlib.crc32(head):
            return None
        salt, length, kind, checksum = _HEAD.unpack(head)
        return (kind, length, checksum) if salt == self.salt else None

    def vouches_for(self, position: int) -> bool:
        """Return whether a record anywhere in the file says that the journal was safe beyond ``position``."""
        try:
            with self.path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                at = data.find(self.salt, max(self.offset(position), HEADER_SIZE))
                while at >= 0:
                    if self._synced(data, at) > position:
                        return True
                    at = data.find(self.salt, at + 1)
        except OSError as error:
            raise StorageError.from_os_error(error, "read", self.path) from None
        return False

    def _synced(self, data: mmap.mmap, at: int) -> int:
        """Return the position that the record at byte ``at`` vouches for, or -1 if it is no such record."""
        kind, _, checksum = self._check_head(data[at : at + HEAD_SIZE]) or (0, 0, 0)
        payload = data[at + HEAD_SIZE : at + HEAD_SIZE + _POSITION.size]
        whole = kind == SYNCED and zlib.crc32(payload) == checksum
        return int(_POSITION.unpack(payload)[0]) if whole else -1


def damaged(path: Path, offset: int) -> StorageError:
    """Return the error for stored data that differs from the written data."""
    return StorageError(
        f"{path} is damaged at byte {offset}, where uploads that were acknowledged may be stored",
        hint="restore the state folder from a backup, or begin anew in another one",
    )
