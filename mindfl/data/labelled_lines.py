"""Reads labelled texts: lines ``<<<label>>>text``, a file for each user, as in MindSpore Federated's ALBERT demo."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from mindfl.data.samples import check_name, natural_key
from mindfl.data.text_files import read_text
from mindfl.errors import DataError
from mindfl.spelling import counted

EVAL_FILE, VOCABULARY_FILE, IDS_FILE = "eval.txt", "vocab.txt", "vocab_map_ids.txt"
_OTHERS = (EVAL_FILE, VOCABULARY_FILE, IDS_FILE)
_LINE = re.compile(r"<<<(.+?)>>>(.*\S.*)")


class Line(NamedTuple):
    """The label and the text of a line; ``place`` says where it stands."""

    label: str
    text: str
    place: str


class TextFolder(NamedTuple):
    """The files of a folder of texts: those of users by name, and test texts of no user and the vocabulary, if any."""

    users: dict[str, Path]
    test: Path | None
    vocabulary: Path | None
    ids: Path | None


def find_texts(folder: Path) -> TextFolder:
    """Return the files in ``folder``: its .txt files, or those in its folder ``client``, are those of users.

    Raises :class:`DataError` where there are none.
    """
    try:
        client = folder / "client"
        files = sorted((client if client.is_dir() else folder).glob("*.txt"), key=lambda path: natural_key(path.name))
        users = {check_name(path.stem): path for path in files if path.is_file() and path.name not in _OTHERS}
    except OSError as error:
        raise DataError(f"cannot read {folder}: {error.strerror}") from None
    if not users:
        raise DataError(f"no texts in {folder}", hint="name a folder of .txt files, one for each user")

    def first(*paths: Path) -> Path | None:
        return next((path for path in paths if path.is_file()), None)

    test = first(folder / EVAL_FILE, folder / "eval" / EVAL_FILE)
    return TextFolder(users, test, first(folder / VOCABULARY_FILE), first(folder / IDS_FILE))


def read_lines(path: Path, problems: list[DataError]) -> list[Line]:
    """Return the labelled lines of a file; empty ones are passed over.

    Lines in another form are added to ``problems``, as one. Raises :class:`DataError` for a file that is no text.
    """
    lines, wrong = [], []
    for number, text in enumerate(read_text(path).split("\n"), 1):
        found = _LINE.fullmatch(text.strip())
        # Without the spaces around it: "good " would be a class beside "good".
        if found and (label := found[1].strip()):
            lines.append(Line(label, found[2], f"{path}, line {number}"))
        elif text.strip():
            wrong.append(number)
    if wrong:
        problems.append(DataError(f"{path}, line {wrong[0]} is not <<<label>>>text{_more(wrong)}"))
    return lines


def known_lines(lines: list[Line], labels: dict[str, int], problems: list[DataError]) -> Iterator[Line]:
    """Yield the lines that have one of ``labels``; the others are added to ``problems``, as one."""
    wrong = [line for line in lines if line.label not in labels]
    if wrong:
        problems.append(DataError(f"{wrong[0].place}: unknown label {wrong[0].label[:40]!r}{_more(wrong)}"))
    return (line for line in lines if line.label in labels)


def _more(wrong: list[int] | list[Line]) -> str:
    return f", nor are {counted(len(wrong) - 1, 'other line')}" if len(wrong) > 1 else ""
