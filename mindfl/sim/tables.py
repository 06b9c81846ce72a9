"""Tables in CSV, Markdown, LaTeX and plain text, and JSON.

In CSV, lines end with LF, and numbers that are not finite are empty cells.
"""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Iterable, Sequence
from typing import Any
from unicodedata import combining, east_asian_width


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

    Texts are escaped.

    Example:
        >>> markdown_table(["mode", "AVG"], [["plain", "0.5"]], range(1, 2))
        ['| mode | AVG |', '|---|--:|', '| plain | 0.5 |']
    """
    rule = "".join("|--:" if place in numbers else "|---" for place in range(len(header)))
    head, *lines = [" | ".join(map(markdown_text, line)) for line in (header, *rows)]
    return [f"| {head} |", f"{rule}|", *(f"| {line} |" for line in lines)]


#: letters that Markdown takes for markup; an underscore between letters is none
_MARKDOWN = re.compile(r"[\\`*\[\]<>|~]|&(?=#?\w+;)|(?<![^\W_])_|_(?![^\W_])")


def markdown_text(text: str) -> str:
    """Return what Markdown shows as ``text`` in a cell of a table.

    Example:
        >>> print(markdown_text("top_k *of* <all>"))
        top_k \\*of\\* \\<all\\>
    """
    return _MARKDOWN.sub(r"\\\g<0>", _one_line(text))


def text_table(header: Sequence[str], rows: Iterable[Sequence[str]], numbers: range = range(0)) -> list[str]:
    """Return the lines of a table for the terminal; the columns at the positions ``numbers`` are aligned to the right.

    Example:
        >>> text_table(["mode", "AVG"], [["plain", "0.5"]], range(1, 2))
        ['mode   AVG', 'plain  0.5']
    """
    lines = [[_one_line(cell) for cell in line] for line in (header, *rows)]
    widths = [max(map(_columns, cells)) for cells in zip(*lines, strict=True)]
    return [
        "  ".join(
            _aligned(cell, width, place in numbers)
            for place, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]


def _columns(text: str) -> int:
    """Return the width of a text in a terminal, where letters of East Asia take two columns."""
    return sum(0 if combining(letter) else 1 + (east_asian_width(letter) in "WF") for letter in text)


def _aligned(text: str, width: int, right: bool) -> str:
    space = " " * (width - _columns(text))
    return space + text if right else text + space


def latex_table(header: Sequence[str], rows: Iterable[Sequence[str]], numbers: range = range(0)) -> list[str]:
    """Return the lines of a ``tabular`` of LaTeX with the rules of booktabs; texts are escaped.

    Example:
        >>> for line in latex_table(["mode", "AVG"], [["top_k", "50 %"]], range(1, 2)):
        ...     print(line)
        % needs \\usepackage{booktabs}
        \\begin{tabular}{lr}
        \\toprule
        mode & AVG \\\\
        \\midrule
        top\\_k & 50 \\% \\\\
        \\bottomrule
        \\end{tabular}
    """
    form = "".join("r" if place in numbers else "l" for place in range(len(header)))
    head, *lines = [f"{' & '.join(map(latex_text, line))} \\\\" for line in (header, *rows)]
    lines = [re.sub(r"(?<=& )([+-])(?=\d)", r"$\1$", line) for line in lines]  # a minus is longer than a hyphen
    needs = ["% needs \\usepackage{booktabs}"]
    if any(ord(letter) > _LATIN for line in lines for letter in line):
        needs.append("% needs XeLaTeX or LuaLaTeX, and a font with all letters")
    begin = [*needs, f"\\begin{{tabular}}{{{form}}}", "\\toprule", head, "\\midrule"]
    return [*begin, *lines, "\\bottomrule", "\\end{tabular}"]


#: the last letter that pdflatex knows without packages
_LATIN = 0x17F
_LATEX = {
    **{letter: f"\\{letter}" for letter in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "[": "{[}",
    "]": "{]}",
    "±": r"$\pm$",
}


def latex_text(text: str) -> str:
    """Return what LaTeX sets as ``text``.

    Example:
        >>> print(latex_text("50 % of x_1"))
        50 \\% of x\\_1
    """
    return "".join(_LATEX.get(letter, letter) for letter in _one_line(text))


def _one_line(text: str) -> str:
    return " ".join(text.split())


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
