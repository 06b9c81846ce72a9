"""Numbers in messages."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import mindfl
from mindfl.spelling import counted

#: a number of what a test, or a user, may have one of, with a noun that stays plural
_FIXED = re.compile(r"\{(?:len\()?[a-z_.]*(?:clients|users)\)?\} (?:Java |usable )?(?:clients|users)\b")


@pytest.mark.parametrize(
    ("number", "noun", "plural", "text"),
    [
        (1, "client", "", "1 client"),
        (0, "client", "", "0 clients"),
        (3500, "client", "", "3500 clients"),
        (1, "batch", "batches", "1 batch"),
        (2, "batch", "batches", "2 batches"),
        (1, "client was", "clients were", "1 client was"),
    ],
)
def test_a_noun_agrees_with_its_number(number: int, noun: str, plural: str, text: str) -> None:
    assert counted(number, noun, plural) == text


def test_no_message_says_1_clients() -> None:
    found = [
        f"{path.name}: {line.strip()}"
        for path in Path(mindfl.__file__).parent.rglob("*.py")
        for line in path.read_text("utf-8").splitlines()
        if _FIXED.search(line)
    ]
    assert found == []
