"""CSV as mindfl writes it: lines end with LF, and what is no finite number is an empty cell, as it is null in JSON."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Sequence


def csv_text(rows: Iterable[Sequence[object]]) -> str:
    """Return ``rows`` as CSV.

    Example:
        >>> csv_text([["iteration", "avg"], [1, math.nan]])
        'iteration,avg\\n1,\\n'
    """
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([[_cell(value) for value in row] for row in rows])
    return text.getvalue()


def decimals(value: float, places: int = 6) -> str:
    """Return ``value`` with a fixed number of decimal places, as a cell; empty where it is no finite number."""
    return f"{value:.{places}f}" if math.isfinite(value) else ""


def _cell(value: object) -> object:
    return "" if isinstance(value, float) and not math.isfinite(value) else value
