"""Reads a LEAF shard as a stream: the JSON text of one user is decoded at a time, so memory stays small."""

from __future__ import annotations

import gzip
import io
import json
import re
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, TextIO

from mindfl.errors import DataError
from mindfl.files import open_file

_CHUNK = 1 << 20
#: characters; a writer has about 3 MB, so this stops only hostile files from filling the memory
_LONGEST_VALUE = 1 << 27
_SPACE = re.compile(r"[ \t\r\n]*")
_MARK = re.compile(r'["\[\]{}]')
_IN_STRING = re.compile(r'\\.|"', re.DOTALL)
_DEPTH = {"{": 1, "[": 1, "}": -1, "]": -1, '"': 0}
_SCALAR = re.compile(r'[^\s,:\[\]{}"]+')


@contextmanager
def open_shard(path: Path, advance: Callable[[int], object]) -> Iterator[TextIO]:
    """Open a shard, gzipped or not, as text; report the bytes read so far through ``advance``."""
    try:
        raw = open_file(path)
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from None
    with raw, io.BufferedReader(_Counted(raw, advance), _CHUNK) as counted:
        if path.name.endswith(".gz"):
            with gzip.open(counted, "rt", encoding="utf-8-sig") as text:
                yield text
        else:
            with io.TextIOWrapper(counted, encoding="utf-8-sig") as text:
                yield text


def read_shard(text: TextIO, path: Path) -> Iterator[tuple[str, str | None, Any]]:
    """Yield (key, None, value) for each top-level entry, and ("user_data", user, value) for each user before it.

    The value of user_data itself is None; a user whose text is broken has a :class:`ValueError` as its value. Raises
    :class:`DataError` if the structure around the users is broken.
    """
    stream = _Stream(text, path)
    for key in stream.members():
        if key == "user_data":
            for user in stream.members():
                yield key, user, _decoded(stream.value())
            yield key, None, None
        else:
            value = _decoded(stream.value())
            if isinstance(value, ValueError):
                raise DataError(f"{path} is not valid JSON: {key} cannot be read")
            yield key, None, value
    stream.end()


def _decoded(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        return error
    except RecursionError:
        return ValueError("nested too deeply")


class _Stream:
    """Cuts JSON text into members and values without decoding them."""

    def __init__(self, text: TextIO, path: Path) -> None:
        self._text = text
        self._path = path
        self._buffer = ""
        self._at = 0

    def members(self) -> Iterator[str]:
        """Enter an object and yield each key; the caller reads the value before the next key."""
        self._expect("{")
        if self._peek() == "}":
            self._expect("}")
            return
        while True:
            key = _decoded(self.value()) if self._peek() == '"' else None
            if not isinstance(key, str):
                raise self._broken("a key")
            self._expect(":")
            yield key
            if self._peek() == "}":
                self._expect("}")
                return
            self._expect(",")

    def value(self) -> str:
        """Return the text of the next value."""
        opening = self._peek()
        self._buffer = self._buffer[self._at :]
        self._at = 0
        end = self._scalar_end() if opening not in '{["' else self._bracket_end()
        value = self._buffer[:end]
        self._at = end
        return value

    def end(self) -> None:
        """Check that nothing follows."""
        if self._peek():
            raise self._broken("the end of the file")

    def _scalar_end(self) -> int:
        while (match := _SCALAR.match(self._buffer)) and match.end() == len(self._buffer) and self._more():
            pass
        if not match:
            raise self._broken("a value")
        return match.end()

    def _bracket_end(self) -> int:
        depth = scanned = 0
        while True:
            mark = _MARK.search(self._buffer, scanned)
            end = self._string_end(mark.end()) if mark and mark[0] == '"' else mark.end() if mark else None
            if mark and end:
                depth += _DEPTH[mark[0]]
                scanned = end
                if depth <= 0:
                    return scanned
            else:
                scanned = mark.start() if mark else len(self._buffer)
                if not self._more():
                    raise DataError(f"{self._path} is not valid JSON: it ends in the middle of a value (truncated?)")

    def _string_end(self, start: int) -> int | None:
        return next((found.end() for found in _IN_STRING.finditer(self._buffer, start) if found[0] == '"'), None)

    def _peek(self) -> str:
        while True:
            self._at = _SPACE.match(self._buffer, self._at).end()  # type: ignore[union-attr]  # matches nothing too
            if self._at < len(self._buffer):
                return self._buffer[self._at]
            self._buffer, self._at = "", 0
            if not self._more():
                return ""

    def _expect(self, character: str) -> None:
        if self._peek() != character:
            raise self._broken(f"'{character}'")
        self._at += 1

    def _more(self) -> bool:
        if len(self._buffer) > _LONGEST_VALUE:
            raise DataError(f"{self._path} has a value of more than {_LONGEST_VALUE >> 20} MiB of text")
        try:
            chunk = self._text.read(max(_CHUNK, len(self._buffer)))
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise DataError(f"{self._path} is not a complete gzip file: {error}") from None
        except UnicodeDecodeError as error:
            raise DataError(f"{self._path} is not UTF-8 text: {error.reason}") from None
        except OSError as error:
            raise DataError(f"cannot read {self._path}: {error.strerror}") from None
        self._buffer += chunk
        return bool(chunk)

    def _broken(self, expected: str) -> DataError:
        found = repr(self._buffer[self._at : self._at + 20]) if self._at < len(self._buffer) else "the end of the file"
        return DataError(f"{self._path} is not valid JSON: {expected} expected, {found} found")


class _Counted(io.RawIOBase):
    """Forwards reads and reports the number of bytes."""

    def __init__(self, raw: BinaryIO, advance: Callable[[int], object]) -> None:
        super().__init__()
        self._raw = raw
        self._advance = advance

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        count: int = self._raw.readinto(buffer)  # type: ignore[attr-defined]  # a file of the operating system
        self._advance(count)
        return count
