"""A thing is described once: rows of a table differ in the first cell, entries of the changelog in their beginning."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pytest
from tutorial_blocks import REPOSITORY

#: their tables of measurements have several rows of one thing
MEASURED = {"benchmarks.md", "privacy.md", "testing.md"}
PAGES = [
    *(path for path in sorted((REPOSITORY / "docs").glob("*.md")) if path.name not in MEASURED),
    REPOSITORY / "README.md",
    REPOSITORY / "README_CN.md",
]
CHANGELOG = (REPOSITORY / "CHANGELOG.md").read_text("utf-8")
#: of https://keepachangelog.com/en/1.1.0/
GROUPS = ["Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"]
_BEGINNING = 30


def doubled(texts: Iterable[str]) -> list[str]:
    return [text for text, count in Counter(texts).items() if count > 1]


def first_cells(text: str) -> list[list[str]]:
    """Return the first cells of each table, without its head."""
    tables = re.findall(r"(?:^\|.*\n?)+", text, re.MULTILINE)
    return [[line.split("|")[1].strip() for line in table.splitlines()[2:]] for table in tables]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_table_has_two_rows_of_one_thing(page: Path) -> None:
    assert [found for cells in first_cells(page.read_text("utf-8")) if (found := doubled(cells))] == []


def test_two_rows_of_one_thing_are_found() -> None:
    assert [doubled(cells) for cells in first_cells("| a | b |\n|---|---|\n| x | 1 |\n| y | 2 |\n| x | 3 |")] == [["x"]]


def test_the_changelog_has_the_groups_of_its_format_in_order() -> None:
    releases = re.split(r"^## ", CHANGELOG, flags=re.MULTILINE)[1:]
    for release in releases:
        groups = re.findall(r"^### (.*)$", release, re.MULTILINE)
        assert groups and groups == [group for group in GROUPS if group in groups]
        assert release.index("\n- ") > release.index("\n### "), "entries stand in a group"


def test_no_two_entries_of_a_release_begin_alike() -> None:
    for release in re.split(r"^## ", CHANGELOG, flags=re.MULTILINE)[1:]:
        assert doubled(entry[:_BEGINNING] for entry in re.findall(r"^- (.*)$", release, re.MULTILINE)) == []
