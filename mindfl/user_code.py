"""Says where an exception was raised in the code of a user."""

from __future__ import annotations

import os
import re
import site
import sysconfig
import traceback
from collections.abc import Iterable, Iterator
from pathlib import Path

_OWN = str(Path(__file__).parent) + os.sep
#: where packages and Python itself are
_INSTALLED = tuple(
    folder + os.sep
    for folder in {
        *(sysconfig.get_path(kind) for kind in ("stdlib", "platstdlib", "purelib", "platlib")),
        *site.getsitepackages(),
        site.getusersitepackages(),
    }
)
#: how MindSpore names the lines of a network that it cannot compile
_NETWORK_LINE = re.compile(r"In file (/[^\n]+?):(\d+)")


def raised(error: BaseException) -> str:
    """Return kind and message of what code of a user raised, with the user's file and line, if any.

    Example:
        >>> raised(ValueError("no such letter"))
        'ValueError: no such letter'
    """
    text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    # A syntax error says itself where it is.
    return text if isinstance(error, SyntaxError) else text + raised_where(error)


def raised_where(error: BaseException) -> str:
    """Return the user's file and line in which ``error`` was raised, to be put behind a message; empty: in none.

    It is the innermost one outside of mindfl and of installed packages; or the line of a network that MindSpore's
    message names.
    """
    frames = ((frame.filename, frame.lineno or 0) for frame in traceback.extract_tb(error.__traceback__))
    named = ((path, int(line)) for path, line in _NETWORK_LINE.findall(str(error)))
    place = _last(_of_users(named)) or _last(_of_users(frames))
    return f", in {_shown(place[0])}, line {place[1]}" if place else ""


def _of_users(places: Iterable[tuple[str, int]]) -> Iterator[tuple[str, int]]:
    return (place for place in places if not place[0].startswith((_OWN, *_INSTALLED, "<frozen")))


def _last(places: Iterable[tuple[str, int]]) -> tuple[str, int] | None:
    return next(reversed(list(places)), None)


def _shown(path: str) -> str:
    """Return a path as users give it: relative to the working folder where it is in it."""
    near = Path(path)
    return str(near.relative_to(Path.cwd())) if near.is_relative_to(Path.cwd()) else path
