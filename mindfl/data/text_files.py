"""Reads text files: UTF-8, with the file and line of what is not."""

from __future__ import annotations

from pathlib import Path

from mindfl.errors import DataError
from mindfl.files import read_file


def read_text(path: Path) -> str:
    """Return the text of a file; line ends become ``\\n``, and a byte order mark is left out.

    Raises :class:`DataError` naming the line that is not UTF-8 text, and :class:`StorageError` for an unreadable file.
    """
    content = read_file(path)
    zero = content.find(b"\0")
    if zero >= 0:
        raise DataError(f"{path}, line {_line(content, zero)}: a zero byte, so this is no text file")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        wrong = content[error.start]
        raise DataError(
            f"{path}, line {_line(content, error.start)}: the byte 0x{wrong:02x} is not UTF-8 text",
            hint="store the file as UTF-8",
        ) from None
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _line(content: bytes, position: int) -> int:
    return content.count(b"\n", 0, position) + 1
