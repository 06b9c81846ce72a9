"""Follows a text file that a program writes line by line, and that another run may replace."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path


class LineTail:
    """Reads the complete lines of ``path`` as they come; the last line waits until its newline is there.

    A file that is missing has no lines. :meth:`poll` notices that it was replaced, shortened or removed. Methods raise
    ``OSError`` if the file cannot be read.

    Example:
        >>> from pathlib import Path
        >>> path = Path("tail.jsonl")
        >>> _ = path.write_bytes(b"one\\ntw")
        >>> tail = LineTail(path)
        >>> tail.poll(), [line for _, line in tail.lines()]
        (False, [b'one'])
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: tuple[int, int] | None = None
        self._state: tuple[int, int] | None = None
        self._offset = 0
        self._last = (0, b"")

    def poll(self) -> bool:
        """Return whether what was read is no longer there; reading then begins anew."""
        try:
            status = self.path.stat()
        except (FileNotFoundError, NotADirectoryError):
            found, state, size = None, None, 0
        else:
            found, state, size = (status.st_dev, status.st_ino), (status.st_size, status.st_mtime_ns), status.st_size
        if found == self._file and state == self._state:
            return False
        same = self._file is None or (found == self._file and size >= self._offset and self._last_line_stands())
        had_lines = self._offset > 0
        if not same:
            self._offset, self._last = 0, (0, b"")
        self._file, self._state = found, state
        return had_lines and not same

    def lines(self) -> Iterator[tuple[int, bytes]]:
        """Yield offset and content of each line that is complete and new, without its newline."""
        if self._file is None or self._state is None or self._state[0] <= self._offset:
            return
        try:
            file = self.path.open("rb")
        except (FileNotFoundError, NotADirectoryError):
            return
        with file:
            status = os.fstat(file.fileno())
            if (status.st_dev, status.st_ino) != self._file:
                return
            file.seek(self._offset)
            for line in file:
                if not line.endswith(b"\n"):
                    return
                start, self._offset = self._offset, self._offset + len(line)
                self._last = (start, line)
                yield start, line[:-1]

    def at(self, offset: int) -> bytes:
        """Return the line that begins at ``offset``, without its newline; empty if it is no longer there."""
        try:
            with self.path.open("rb") as file:
                file.seek(offset)
                return file.readline().removesuffix(b"\n")
        except (FileNotFoundError, NotADirectoryError):
            return b""

    def _last_line_stands(self) -> bool:
        offset, line = self._last
        return self.at(offset) == line.removesuffix(b"\n")
