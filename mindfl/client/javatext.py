"""Texts as Java writes them, so that logs read and parse like those of the reference's device client."""

from __future__ import annotations

import math
from datetime import datetime

import numpy as np

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
