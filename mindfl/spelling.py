"""Words of messages: plurals, the nearest known word, and the refusal of unknown keywords and empty paths."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import wraps
from typing import Any, TypeVar

from mindfl.errors import OptionError

CallableT = TypeVar("CallableT", bound=Callable[..., Any])
#: shorter words are the beginning of too many others
_LEAST_LETTERS = 4


def nearest(word: str, known: Iterable[str]) -> str | None:
    """Return the word of ``known`` that is most similar to ``word``; None if none is similar.

    Case, dashes, underscores and spaces are ignored, and the beginning of a word matches the word.

    Example:
        >>> nearest("clinet-num", ["client_num", "seed"])
        'client_num'
    """
    letters, by_letters = _letters(word), {_letters(name): name for name in known}
    matches = difflib.get_close_matches(letters, by_letters, 1, cutoff=0.75)
    if not matches and len(letters) >= _LEAST_LETTERS:
        matches = [other for other in by_letters if other and (other.startswith(letters) or letters.startswith(other))]
    return by_letters[matches[0]] if matches else None


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return a hint that names the nearest word of ``known``, or else lists them all."""
    names = list(known)
    near = nearest(word, names)
    return f"choose one of {', '.join(names)}" if near is None else f"did you mean {near}?"


def check_keywords(given: Mapping[str, object], known: Iterable[str], owner: str) -> None:
    """Raise :class:`OptionError` for the first of ``given`` that ``owner`` does not take."""
    names = set(known)
    for name in given:
        if name not in names:
            near = nearest(name, sorted(names))
            hint = f"did you mean {near}?" if near else f"see help({owner})"
            raise OptionError(f"{owner} has no keyword {name}", hint=hint)


def checked_arguments(target: CallableT) -> CallableT:
    """Decorate a function or a class: unknown keywords and empty paths raise :class:`OptionError`."""
    parameters = inspect.signature(target).parameters.values()
    known = [each.name for each in parameters if each.kind in (each.KEYWORD_ONLY, each.POSITIONAL_OR_KEYWORD)]
    paths = [each.name for each in parameters if "Path" in str(each.annotation)]
    name = target.__name__
    if isinstance(target, type):
        target.__init__ = _checked(target.__init__, ["self", *known], paths, name)  # type: ignore[misc]
        return target
    return _checked(target, known, paths, name)


def check_path(path: object, name: str) -> None:
    """Raise :class:`OptionError` if the path ``name`` is empty, which would mean the current folder."""
    if isinstance(path, str) and not path.strip():
        raise OptionError(f"{name} is empty", hint="give a path, or leave it out; the current folder is .")


def _checked(function: CallableT, known: Sequence[str], paths: Sequence[str], owner: str) -> CallableT:
    @wraps(function)
    def checked(*arguments: Any, **keywords: Any) -> Any:
        check_keywords(keywords, known, owner)
        given = {**dict(zip(known, arguments, strict=False)), **keywords}
        for name in paths:
            check_path(given.get(name), name)
        return function(*arguments, **keywords)

    return checked  # type: ignore[return-value]


def _letters(word: str) -> str:
    return "".join(letter for letter in word.casefold() if letter.isalnum())


def counted(number: int, noun: str, plural: str = "") -> str:
    """Return ``number`` and ``noun``, which gets an s (or is ``plural``) for any number but one.

    Example:
        >>> counted(1, "client"), counted(3, "client"), counted(0, "batch", "batches")
        ('1 client', '3 clients', '0 batches')
    """
    return f"{number} {noun}" if number == 1 else f"{number} {plural or f'{noun}s'}"
