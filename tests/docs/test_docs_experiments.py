"""docs/experiments.md: its experiment files say what the text says, its commands run and print what it shows."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from tutorial_blocks import REPOSITORY, Block, Terminal, blocks, shown_as

from mindfl.errors import OptionError
from mindfl.sweeps import read_experiment

TEXT = (REPOSITORY / "docs" / "experiments.md").read_text("utf-8")
BLOCKS = blocks(TEXT)


class WithFiles(Terminal):
    """A terminal in whose folder a block of TOML becomes exp.toml."""

    def _run(self, block: Block) -> str:
        if block.language != "toml":
            return super()._run(block)
        (self.folder / "exp.toml").write_text(block.code)
        return ""


@pytest.fixture(scope="module")
def terminal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Terminal]:
    here = WithFiles(tmp_path_factory.mktemp("experiments"), BLOCKS)
    yield here
    here.close()


@pytest.mark.slow
@pytest.mark.usefixtures("converter_library")
@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: str(block.number))
def test_block(block: Block, terminal: Terminal) -> None:
    printed, shown = terminal.run(block), terminal.shown(block)
    assert shown_as(shown).fullmatch(printed), f"the page shows\n{shown}\nand the command printed\n{printed}"


def test_the_blocks_are_commands_files_or_outputs() -> None:
    assert {block.language for block in BLOCKS} == {"sh", "python", "toml"}


def test_the_experiment_files_have_the_runs_that_they_show(tmp_path: Path) -> None:
    runs = []
    for block in BLOCKS:
        if block.language == "toml":
            (tmp_path / "exp.toml").write_text(block.code)
            assert len(block.code.splitlines()) <= 20
            runs.append(len(read_experiment(tmp_path / "exp.toml").runs))
    assert runs == [1, 6, 5, 6, 12]


def test_the_mistakes_are_named_as_shown(tmp_path: Path) -> None:
    path = tmp_path / "exp.toml"
    path.write_text('train_dataset = "writers"\nclint_num = 3\niterations = 0\n')
    shown = next(line.strip() for line in TEXT.splitlines() if line.startswith("    exp.toml:"))
    with pytest.raises(OptionError, match=re.escape(shown.replace("exp.toml", str(path)))):
        read_experiment(path)
