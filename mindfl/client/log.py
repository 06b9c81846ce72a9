"""The file ``client.log`` of one device, written as Java writes it: two-line records of ``java.util.logging``."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from pathlib import Path

import numpy as np

from mindfl.errors import StorageError
from mindfl.files import PathLike, make_dir

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def java_float(value: float) -> str:
    """Return ``value``, rounded to float32, as ``Float.toString`` does: ``0.33333334``, ``1.0E-8``, ``4.1258564``.

    The shortest decimal that reads back as the same float32, with at least one digit after the point; plain from
    1.0E-3 up to (not including) 1.0E7, scientific elsewhere; ``NaN``, ``Infinity``.
    """
    if 1e-3 <= value < 9e6:
        return str(np.float32(value))  # by far the most frequent case, and here NumPy writes as Java does
    with np.errstate(over="ignore"):
        single = np.float32(value)
    if math.isnan(single):
        return "NaN"
    if math.isinf(single):
        return "Infinity" if single > 0 else "-Infinity"
    if single == 0 or 1e-3 <= abs(single) < 1e7:
        return np.format_float_positional(single, unique=True, trim="0")
    # Of several two-digit decimals Java takes the nearest, where NumPy may stop at one digit (1.4E-45, not 1.0E-45).
    two_digits = f"{float(single):.1e}"
    shortest = np.format_float_scientific(single, unique=True, trim="0")
    mantissa, exponent = (two_digits if np.float32(two_digits) == single else shortest).split("e")
    return f"{mantissa}E{int(exponent)}"


def java_double(value: float) -> str:
    """Return ``value``, rounded to float32, as ``Double.toString`` does for ordinary numbers."""
    return repr(float(np.float32(value)))


def java_log_time(moment: datetime) -> str:
    """Return ``moment`` as the head of a ``java.util.logging`` record: ``Nov 22, 2026 7:44:19 AM``.

    Always English: the reference follows the machine's language, which only makes its logs harder to search.
    """
    half = "AM" if moment.hour < 12 else "PM"
    clock = f"{moment.hour % 12 or 12}:{moment.minute:02}:{moment.second:02} {half}"
    return f"{_MONTHS[moment.month - 1]} {moment.day}, {moment.year} {clock}"


PREFIX = "<FLClient> "
_PACKAGE = "com.mindspore.flclient."


class ClientLog:
    """Collects records in memory and appends them to ``path`` on :meth:`flush`.

    So thousands of clients do not write line by line.

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
        """Append the collected records to the file: all of them or, if that fails, none.

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
