"""Each command that a page names exists, and has the options that it is given there."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from command_words import command_of, options
from tutorial_blocks import REPOSITORY

PAGES = [*sorted((REPOSITORY / "docs").glob("*.md")), REPOSITORY / "README.md", REPOSITORY / "README_CN.md"]
#: a line of a block, or code in a sentence
_COMMAND = re.compile(r"^(?: {4,})?mindfl ([a-z][^`\n]*)$|`mindfl ([a-z][^`]*)`", re.MULTILINE)
_REST = re.compile(r"\s(?:#|&&|\|\|?|&|>)(?:\s.*)?$")


def commands(text: str) -> Iterator[list[str]]:
    """Return the words of each command, without ``mindfl`` and what a shell does with it; prose has no options."""
    for in_block, in_sentence in _COMMAND.findall(text.replace("\\\n", " ")):
        words = shlex.split(_REST.sub("", in_block or in_sentence), comments=True)
        if "COMMAND" not in words and (in_sentence or any(word.startswith("--") for word in words)):
            yield words


def wrong(words: list[str]) -> list[str]:
    """Return the options that the command does not have; underscores and dashes are the same."""
    known = {name.replace("_", "-") for name in options(command_of(words))} | {"--help"}
    given = [word.partition("=")[0] for word in words if word.startswith("--")]
    return [name for name in given if name.replace("_", "-") not in known]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_and_their_options_exist(page: Path) -> None:
    text = page.read_text("utf-8")
    assert [words for words in commands(text) if wrong(words)] == []


def test_enough_commands_are_found() -> None:
    assert sum(len(list(commands(page.read_text("utf-8")))) for page in PAGES) > 250


def test_a_wrong_option_and_a_wrong_command_are_found() -> None:
    text = "Use `mindfl simulate --iteration 3`:\n\n    mindfl data csv \\\n        --inputs x && mindfl finish\n"
    assert [wrong(words) for words in commands(text)] == [["--iteration"], ["--inputs"]]
    with pytest.raises(AssertionError, match="no command 'simulates'"):
        wrong(next(commands("`mindfl simulates --seed 1`")))
