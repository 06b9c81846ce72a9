"""Tables in CSV and Markdown, and JSON. In CSV, lines end with LF, and numbers that are not finite are empty cells."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Sequence
from typing import Any


def csv_text(rows: Iterable[Sequence[object]]) -> str:
    """Return ``rows`` as CSV.

    Example:
        >>> csv_text([["iteration", "avg"], [1, math.nan]])
        'iteration,avg\\n1,\\n'
    """
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([[_cell(value) for value in row] for row in rows])
    return text.getvalue()


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]], numbers: range = range(0)) -> list[str]:
    """Return the lines of a Markdown table; the columns at the positions ``numbers`` are aligned to the right.

    Example:
        >>> markdown_table(["mode", "AVG"], [["plain", "0.5"]], range(1, 2))
        ['| mode | AVG |', '|---|--:|', '| plain | 0.5 |']
    """
    rule = "".join("|--:" if place in numbers else "|---" for place in range(len(header)))
    return [f"| {' | '.join(header)} |", f"{rule}|", *(f"| {' | '.join(row)} |" for row in rows)]


def json_text(value: Any) -> str:
    """Return ``value`` as JSON of several lines, in ASCII if it holds a path that is not UTF-8.

    Example:
        >>> json_text({"größe": 1})
        '{\\n  "größe": 1\\n}\\n'
    """
    text = json.dumps(value, indent=2, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:
        text = json.dumps(value, indent=2)
    return text + "\n"


def decimals(value: float) -> str:
    """Return ``value`` with six decimal places, as a cell; empty if it is not finite."""
    return f"{value:.6f}" if math.isfinite(value) else ""


def number(value: float, digits: int) -> str:
    """Return ``value`` with so many significant digits, without exponent; a dash for NaN."""
    if not math.isfinite(value):
        return "-" if value != value else "infinite"
    if value == 0:
        return "0"
    places = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    return f"{value:,.{places}f}"


def _cell(value: object) -> object:
    return "" if isinstance(value, float) and not math.isfinite(value) else value
