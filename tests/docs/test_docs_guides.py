"""How-to guides that are one terminal's commands: they run in order and print what the page shows."""

from __future__ import annotations

from pathlib import Path

import pytest
from tutorial_blocks import REPOSITORY, Terminal, blocks, shown_as

GUIDES = [REPOSITORY / "docs" / name for name in ("resume.md", "weights.md")]


@pytest.mark.slow
@pytest.mark.usefixtures("converter_library")
@pytest.mark.parametrize("page", GUIDES, ids=lambda page: page.stem)
def test_guide(page: Path, tmp_path: Path) -> None:
    guide = blocks(page.read_text("utf-8"))
    terminal = Terminal(tmp_path, guide)
    try:
        for block in guide:
            printed, shown = terminal.run(block), terminal.shown(block)
            assert shown_as(shown).fullmatch(printed), f"the page shows\n{shown}\nand the command printed\n{printed}"
    finally:
        terminal.close()


@pytest.mark.parametrize("page", GUIDES, ids=lambda page: page.stem)
def test_each_fence_is_a_command_or_its_output(page: Path) -> None:
    text = page.read_text("utf-8")
    found = blocks(text)
    assert len(found) > 2 and {block.language for block in found} <= {"sh", "python"}
    assert text.count("```") == 2 * len(found) + 2 * sum(bool(block.output) for block in found)
