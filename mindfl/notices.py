"""Warnings, progress messages (``logging``), and warnings for options that have no effect."""

from __future__ import annotations

import contextlib
import logging
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from mindfl.errors import MindflWarning

Settings = TypeVar("Settings")

#: switch that is on by default -> option that turns it off
_SWITCHED_OFF = {"journal": "--no-journal"}

FOR_TEXTS = ("image classification", "it is for texts")
ONE_PORT = ("a server that runs already", "without --use_elb all requests go to the port in --domain_name")
#: receives progress messages at level INFO
logger = logging.getLogger("mindfl")
#: prefix of warnings in functions that report lines of text
WARNING = "warning: "
#: files whose stack frames are not the caller's
_LIBRARY = (str(Path(__file__).parent), contextlib.__file__)


def warn(text: str) -> None:
    """Emit a :class:`MindflWarning` with the location of the caller's code."""
    level, frame = 1, sys._getframe()
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_LIBRARY):
        level, frame = level + 1, frame.f_back
    warnings.warn(text, MindflWarning, stacklevel=level)


def announce(text: str) -> None:
    """Emit ``text`` as a warning if it begins with "warning: ", otherwise log it."""
    if text.startswith(WARNING):
        warn(text.removeprefix(WARNING))
    else:
        logger.info("%s", text)


def once(say: Callable[[str], None]) -> Callable[[str], None]:
    """Return a function that passes texts on to ``say``, each warning only the first time.

    Example:
        >>> say = once(print)
        >>> say("warning: no mask"), say("warning: no mask")
        warning: no mask
        (None, None)
    """
    told: set[str] = set()

    def tell(text: str) -> None:
        if text not in told:
            say(text)
        if text.startswith(WARNING):
            told.add(text)

    return tell


@dataclass(frozen=True)
class Rule(Generic[Settings]):
    """If ``applies``, each of the settings ``names`` has no effect on ``whom``, because of ``why``."""

    names: tuple[str, ...]
    applies: Callable[[Settings], bool]
    whom: str
    why: str


def without_effect(
    rules: Iterable[Rule[Settings]], settings: Settings, is_chosen: Callable[[str], bool]
) -> Iterator[str]:
    """Yield a line for each chosen setting (``is_chosen``) that has no effect."""
    for rule in rules:
        if rule.applies(settings):
            for name in filter(is_chosen, rule.names):
                yield f"{_spelled(name, _value(settings, name))} has no effect on {rule.whom}: {rule.why}"


def _value(settings: Any, name: str) -> object:
    return settings[name] if isinstance(settings, dict) else getattr(settings, name)


def _spelled(name: str, value: object) -> str:
    if value is False and name in _SWITCHED_OFF:
        return _SWITCHED_OFF[name]
    return f"--{name} {value}" if isinstance(value, int | str) and not isinstance(value, bool) else f"--{name}"


def tls_without_https(options: tuple[str, ...], domain_name: Callable[[Settings], str | None]) -> Rule[Settings]:
    """Return the rule for the TLS ``options`` of a client that connects to ``domain_name``."""

    def plain(settings: Settings) -> bool:
        name = domain_name(settings)
        return name is not None and name.lower().startswith("http:")

    return Rule(options, plain, "http://", "nothing is encrypted")
