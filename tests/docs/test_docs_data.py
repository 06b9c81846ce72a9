"""docs/data.md: its commands run in order and print what it shows; its partitions and options exist."""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np
import pytest
from tutorial_blocks import REPOSITORY, Terminal, blocks, shown_as

from mindfl.data import partition

TEXT = (REPOSITORY / "docs" / "data.md").read_text("utf-8")
BLOCKS = blocks(TEXT)


@pytest.fixture(scope="module")
def terminal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Terminal]:
    here = Terminal(tmp_path_factory.mktemp("data"), BLOCKS)
    yield here
    here.close()


@pytest.mark.slow
@pytest.mark.usefixtures("converter_library")
@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: str(block.number))
def test_block(block: object, terminal: Terminal) -> None:
    printed, shown = terminal.run(block), terminal.shown(block)  # type: ignore[arg-type]
    assert shown_as(shown).fullmatch(printed), f"the page shows\n{shown}\nand the command printed\n{printed}"


def test_the_blocks_are_commands_or_their_outputs() -> None:
    assert len(BLOCKS) == 7 and {block.language for block in BLOCKS} == {"sh", "python"}
    assert TEXT.count("```") == 2 * len(BLOCKS) + 2 * sum(bool(block.output) for block in BLOCKS)


def test_links_and_pictures_are_there() -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", TEXT):
        assert (REPOSITORY / "docs" / target).exists(), target


def test_the_partitions_of_the_table_divide_samples() -> None:
    named = re.findall(r"^\| `([a-z_]+(?::[a-z0-9_.=]+)?)` \|", TEXT, re.M)
    assert len(named) == 5
    for how in named:
        assert sum(map(len, partition(np.arange(400) % 5, how, 4))) == 400
