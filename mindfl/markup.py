"""What notebooks show of mindfl's objects: small HTML without colours of its own, so it suits light and dark pages."""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Iterable, Sequence
from html import escape
from typing import TypeVar

Row = TypeVar("Row")

#: rows of a table before and after those that are left out
_BEGIN, _END = 6, 4


def table(
    head: Sequence[str], rows: Sequence[Row], cells: Callable[[Row], Iterable[object]], *, whole: bool = False
) -> str:
    """Return a table; of many rows the first and the last ones, unless it is to be ``whole``.

    Args:
        head: titles of the columns.
        rows: what the rows show; only the shown ones are asked for.
        cells: returns the cells of a row: texts, or numbers, of which NaN is shown as nothing.
        whole: show all rows.

    Returns:
        HTML in which all texts are escaped.

    Example:
        >>> table(["n"], range(100), lambda n: [n]).count("<tr>")
        12
    """
    left_out = 0 if whole else len(rows) - _BEGIN - _END
    shown = [*rows] if left_out <= 1 else [*rows[:_BEGIN], *rows[-_END:]]
    lines = [_row("td", map(_text, cells(row))) for row in shown]
    if left_out > 1:
        lines.insert(_BEGIN, _row("td", ["⋮", f"{left_out:,} more", *[""] * (len(head) - 2)][: len(head)]))
    return f"<table><thead>{_row('th', head)}</thead><tbody>{''.join(lines)}</tbody></table>"


def section(title: str, *parts: str, note: str = "") -> str:
    """Return ``parts``, which are HTML, below a title and a note, which are texts."""
    small = f"<div><small>{escape(note)}</small></div>" if note else ""
    return f"<div><strong>{escape(title)}</strong>{small}{''.join(parts)}</div>"


def lines_of(text: str) -> str:
    """Return a text of several lines as HTML."""
    return f'<pre style="white-space: pre-wrap">{escape(text)}</pre>'


def folded(title: str, content: str) -> str:
    """Return HTML that is shown after a click on its title, a text."""
    return f"<details><summary>{escape(title)}</summary>{content}</details>"


def picture(png: bytes, text: str) -> str:
    """Return a picture within the page; ``text`` says what it shows."""
    source = f"data:image/png;base64,{base64.b64encode(png).decode()}"
    return f'<img src="{source}" alt="{escape(text)}" style="max-width: 100%; width: 40em">'


def _row(kind: str, cells: Iterable[str]) -> str:
    return f"<tr>{''.join(f'<{kind}>{escape(cell)}</{kind}>' for cell in cells)}</tr>"


def _text(value: object) -> str:
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
