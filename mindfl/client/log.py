"""The file ``client.log`` of one device, in the two-line records of ``java.util.logging``."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from mindfl.client.javatext import java_log_time
from mindfl.errors import StorageError
from mindfl.files import PathLike, make_dir

PREFIX = "<FLClient> "
_PACKAGE = "com.mindspore.flclient."


class ClientLog:
    """Collects records in memory and appends them to ``path`` on :meth:`flush`, so that thousands of clients do not
    write line by line.

    ``clock`` gives the local time of a record. ``brief`` leaves out the loss of every single batch. Nothing is
    created before the first flush.
    """

    def __init__(self, path: PathLike, clock: Callable[[], datetime], *, brief: bool = False) -> None:
        self.path = Path(path)
        self.brief = brief
        self._clock = clock
        self._records: list[str] = []
        self._second: tuple[int, ...] = ()
        self._second_text = ""

    def record(self, source: str, text: str, *, level: str = "INFO", prefix: str = PREFIX) -> None:
        """Add one record. ``source`` is the reference's class below ``com.mindspore.flclient`` and its method."""
        self._records.append(f"{self._time()} {_PACKAGE}{source}\n{level}: {prefix}{text}\n")

    def _time(self) -> str:
        moment = self._clock()
        second = (moment.year, moment.month, moment.day, moment.hour, moment.minute, moment.second)
        if second != self._second:
            self._second, self._second_text = second, java_log_time(moment)
        return self._second_text

    def flush(self) -> None:
        """Append the collected records to the file: all of them, or, where that fails, none.

        Raises :class:`StorageError` naming the file.
        """
        if not self._records:
            return
        content = "".join(self._records).encode()
        try:
            try:
                _append(self.path, content)
            except FileNotFoundError:
                make_dir(self.path.parent)
                _append(self.path, content)
        except OSError as error:
            raise StorageError.from_os_error(error, "write", self.path) from None
        self._records.clear()


def _append(path: Path, content: bytes) -> None:
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        size = os.fstat(file).st_size
        left = memoryview(content)
        try:
            while left:
                left = left[os.write(file, left) :]
        except OSError:
            with suppress(OSError):
                os.ftruncate(file, size)
            raise
    finally:
        os.close(file)
