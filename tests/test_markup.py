"""HTML for notebooks: well-formed, escaped, short."""

from __future__ import annotations

import math
from xml.etree import ElementTree

from mindfl.markup import folded, lines_of, picture, section, table


def test_texts_are_escaped() -> None:
    nasty = "<script>&\"'"
    parts = [table([nasty], [nasty], lambda text: [text]), lines_of(nasty), folded(nasty, ""), picture(b"", nasty)]
    found = ElementTree.fromstring(section(nasty, *parts, note=nasty).replace('40em">', '40em"/>'))
    assert "script" not in {element.tag for element in found.iter()}
    assert [element.text for element in found.iter() if element.tag in ("strong", "small", "th", "td", "pre")] == [
        nasty
    ] * 5
    assert found.find("img").get("alt") == nasty


def test_long_tables_show_their_ends() -> None:
    asked: list[int] = []

    def cells(number: int) -> list[object]:
        asked.append(number)
        return [number, 0.123456]

    rows = ElementTree.fromstring(table(["n", "x"], range(3500), cells)).findall("tbody/tr")
    assert asked == [0, 1, 2, 3, 4, 5, 3496, 3497, 3498, 3499]
    assert [cell.text for cell in rows[6]] == ["⋮", "3,490 more"]
    assert [cell.text for cell in rows[-1]] == ["3,499", "0.1235"]
    assert table(["n", "x"], range(11), cells).count("<tr>") == 12  # one row is not worth a line that it is missing


def test_an_unknown_number_is_no_text() -> None:
    (row,) = ElementTree.fromstring(table(["a", "b"], [0], lambda _: [math.nan, True])).findall("tbody/tr")
    assert [cell.text for cell in row] == [None, "True"]
