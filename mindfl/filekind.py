"""Detects the type of a file from its first bytes, for errors about files of a wrong type."""

from __future__ import annotations

import re
from dataclasses import dataclass

#: number of bytes examined
HEAD = 512
_LITE = b"MSL"
_SHORTEST = 8  # bytes: no model of any kind is shorter
_TAR = slice(257, 262)
_MINDIR = re.compile(rb"\n.[0-9.]{1,12}\x12.MindSpore", re.DOTALL)
#: a checkpoint's first value: its tag (name), then its tensor with dims or type
_CHECKPOINT = re.compile(rb"\n[\x00-\xff]{1,5}?\n.[\x20-\x7e]+\x12", re.DOTALL)


@dataclass(frozen=True)
class FileKind:
    """A type of files.

    Args:
        name: such as "a zip archive".
        hint: how to get a model from it.
        is_lite: a MindSpore Lite model of any version.
        is_mindir: a MINDIR.
    """

    name: str
    hint: str = ""
    is_lite: bool = False
    is_mindir: bool = False


_UNPACK = "unpack it, and name the model file in it"
_MAGIC: tuple[tuple[int, bytes, FileKind], ...] = (
    (4, b"TFL3", FileKind("a TensorFlow Lite model")),
    (0, b"PK\x03\x04", FileKind("a zip archive", _UNPACK)),
    (0, b"PK\x05\x06", FileKind("an empty zip archive")),
    (0, b"\x1f\x8b", FileKind("a gzip archive", _UNPACK)),
    (0, b"BZh", FileKind("a bzip2 archive", _UNPACK)),
    (0, b"\xfd7zXZ", FileKind("an xz archive", _UNPACK)),
    (0, b"\x28\xb5\x2f\xfd", FileKind("a zstd archive", _UNPACK)),
    (0, b"7z\xbc\xaf\x27\x1c", FileKind("a 7-zip archive", _UNPACK)),
    (_TAR.start, b"ustar", FileKind("a tar archive", _UNPACK)),
    (0, b"\x89HDF", FileKind("an HDF5 file")),
    (0, b"\x93NUMPY", FileKind("a NumPy array (.npy)")),
    (0, b"\x89PNG", FileKind("a PNG picture")),
    (0, b"\xff\xd8\xff", FileKind("a JPEG picture")),
    (0, b"%PDF", FileKind("a PDF document")),
    (0, b"\x7fELF", FileKind("a program or library")),
    (0, b"\x80\x02", FileKind("a Python pickle, such as an old PyTorch checkpoint")),
    (0, b"version https://git-lfs", FileKind("a Git LFS pointer, not the file itself", "fetch it with: git lfs pull")),
)
#: by a part of the text, in lower case
_TEXTS: tuple[tuple[bytes, FileKind], ...] = (
    (b"<!doctype html", FileKind("a web page, not the file itself", "download it again: the address leads to a page")),
    (b"<html", FileKind("a web page, not the file itself", "download it again: the address leads to a page")),
)
_CONVERT = "convert it with: mindfl convert --modelFile FILE --outputFile FILE.ms"
_CONVERT_AGAIN = "convert its MINDIR again, with mindfl convert or a MindSpore Lite from 1.2 on"


def file_kind(content: bytes) -> FileKind | None:
    """Return the type of ``content`` (the whole file or at least its first :data:`HEAD` bytes); None if unknown."""
    head = content[:HEAD]
    if not head:
        return FileKind("empty", "make or copy it again")
    if len(content) < _SHORTEST:
        return FileKind(f"cut off after {len(content)} bytes", "make or copy it again")
    if not any(head):
        return FileKind("full of zeros: it was not written to its end", "make or copy it again")
    for place, magic, kind in _MAGIC:
        if head[place : place + len(magic)] == magic:
            return _archive(kind, content)
    if head[4:7] == _LITE:
        return _lite(head[7:8])
    if _MINDIR.match(head):
        return FileKind("a MINDIR (MindSpore's graph before conversion)", _CONVERT, is_mindir=True)
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 2**32:
        return FileKind("a safetensors file")
    if _CHECKPOINT.match(head):
        return FileKind("a MindSpore checkpoint (.ckpt): weights without a graph")
    return _text(head)


def _archive(kind: FileKind, content: bytes) -> FileKind:
    head = content[:HEAD]
    if not head.startswith(b"PK"):
        return kind
    if b".npy" in head:
        return FileKind("a NumPy archive (.npz): weights without a graph")
    if b"data.pkl" in head:
        return FileKind("a PyTorch checkpoint: weights without a graph")
    return kind


def _lite(version: bytes) -> FileKind:
    if version in (b"0", b"1"):
        name = f"a model of MindSpore Lite 1.0 or 1.1 (identifier MSL{version.decode()}), whose format is another one"
        return FileKind(name, _CONVERT_AGAIN, is_lite=True)
    if version == b"2":
        return FileKind("a MindSpore Lite model (.ms)", is_lite=True)
    return FileKind("a MindSpore Lite model of a format that mindfl does not know", _CONVERT_AGAIN, is_lite=True)


def _text(head: bytes) -> FileKind | None:
    lowered = head.lower()
    for part, kind in _TEXTS:
        if part in lowered:
            return kind
    try:
        text = head.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.start < HEAD - 4:
            return None
        text = head[: error.start].decode("utf-8")
    printable = all(letter.isprintable() or letter in "\r\n\t" for letter in text)
    return FileKind("text") if printable else None
