"""Every command of the tutorials runs, in order, in an empty folder, and prints what the tutorial shows."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator

import pytest
from made_once import all_made
from tutorial_blocks import REPOSITORY, Block, Terminal, blocks, shown_as

TEXTS = {
    language: (REPOSITORY / "docs" / name).read_text()
    for language, name in (("en", "tutorial.md"), ("zh", "tutorial.zh.md"))
}
TUTORIALS = {language: blocks(text) for language, text in TEXTS.items()}
NEEDS = {"", "federated", "femnist", "java"}
#: how long a process that was ended may still be seen
GONE_SECONDS = 60.0

#: the English tutorial's commands, which are those of the Chinese one
TUTORIAL = TUTORIALS["en"]


def each_block() -> Iterator[object]:
    for block in TUTORIAL:
        mark = pytest.mark.real_server if block.needs == "federated" else pytest.mark.slow
        yield pytest.param(block, id=f"{block.number:02}", marks=mark)


@pytest.fixture(scope="module")
def terminal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Terminal]:
    """A terminal whose commands export and convert as a user's do."""
    with all_made():
        opened = Terminal(tmp_path_factory.mktemp("terminal"), TUTORIAL)
    yield opened
    opened.close()


@pytest.mark.usefixtures("converter_library")
@pytest.mark.parametrize("block", list(each_block()))
def test_block(block: Block, terminal: Terminal, request: pytest.FixtureRequest) -> None:
    if block.needs:
        request.getfixturevalue(f"provide_{block.needs}")(terminal.folder)
    printed = terminal.run(block)
    shown = terminal.shown(block)
    assert shown_as(shown).fullmatch(printed), f"the tutorial shows\n{shown}\nand the command printed\n{printed}"


@pytest.mark.slow
@pytest.mark.usefixtures("converter_library")
def test_nothing_is_left_running(terminal: Terminal) -> None:
    assert_all_ended(terminal, len(TUTORIAL))


@pytest.mark.real_server
@pytest.mark.usefixtures("converter_library")
def test_nothing_is_left_of_the_real_server(terminal: Terminal) -> None:
    assert_all_ended(terminal, len(TUTORIAL))


def assert_all_ended(here: Terminal, count: int) -> None:
    here.run_up_to(count)
    deadline = time.monotonic() + GONE_SECONDS
    while (left := here.processes()) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not left


def test_both_languages_have_the_same_blocks() -> None:
    assert TUTORIALS["en"] == TUTORIALS["zh"]


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS.keys())
def test_no_command_escapes(text: str) -> None:
    found = blocks(text)
    assert len(found) > 20
    assert {block.language for block in found} == {"sh", "python"}
    assert {block.needs for block in found} == NEEDS
    # Each fence is one of these blocks or an output, and nothing is shown as code by indenting it.
    assert text.count("```") == 2 * len(found) + 2 * sum(bool(block.output) for block in found)
    assert not re.search(r"^\n( {4}|\t)", re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S), re.M)


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS.keys())
def test_links_lead_somewhere(text: str) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", text):
        assert (REPOSITORY / "docs" / target).exists(), target


@pytest.mark.parametrize(
    ("shown", "printed"),
    [
        ("5 clients\n", "5 clients\n"),
        ("in 2.0 s\n", "in 13 s\n"),
        ("loss 0.0007,\n", "loss 1e-05,\n"),
        ("[4.13]\n", "[-4.5, 1e-3]\n"),
        ("a ... z\n", "a b c z\n"),
        ("...\nz\n", "a\nb\nz\n"),
        ("...\nz\n", "z\n"),
        ("http://127.0.0.1:80\n", "http://127.0.0.1:80\n"),
    ],
)
def test_what_an_output_stands_for(shown: str, printed: str) -> None:
    assert shown_as(shown).fullmatch(printed)


@pytest.mark.parametrize(
    ("shown", "printed"),
    [
        ("5 clients\n", "4 clients\n"),
        ("in 2.0 s\n", "in s\n"),
        ("a ... z\n", "a\nz\n"),
        ("z\n", "y\nz\n"),
        ("z\n", "z\ny\n"),
        ("", "z\n"),
        ("http://127.0.0.1:80\n", "http://127.0.0.2:80\n"),
        ("[4.13]\n", "[]\n"),
    ],
)
def test_what_it_does_not_stand_for(shown: str, printed: str) -> None:
    assert not shown_as(shown).fullmatch(printed)
