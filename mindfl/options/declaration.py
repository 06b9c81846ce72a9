"""The declaration of an option beside the dataclass field that holds it.

From it come the Python keyword, the option of the command line, the check of its value, and its row in docs/options.md.
Importing this module is cheap: ``mindfl --help`` needs it.
"""

from __future__ import annotations

import inspect
import math
import os
import re
import struct
import sys
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields, replace
from functools import cache, wraps
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from mindfl.errors import OptionError
from mindfl.files import local_path
from mindfl.spelling import CallableT, checked_arguments, nearest

#: name in an annotation -> kind of the option
_KINDS: dict[str, type] = {
    **{"int": int, "float": float, "str": str, "bool": bool},
    **dict.fromkeys(("Path", "PathLike", "DataSource", "ModelSource", "tuple[Path, ...]"), Path),
}
#: annotation of an option that takes two values
_PAIR = "tuple[int, int]"
#: kind -> the types that a value may have, and what a value must be in words
_TYPES: dict[type, tuple[tuple[type, ...], str]] = {
    Path: ((str, os.PathLike), "a path"),
    str: ((str,), "a text"),
    bool: ((bool,), "True or False"),
    int: ((int,), "a whole number"),
    float: ((int, float), "a number"),
}
_SHOWN = 60
#: Python does not write whole numbers of more than 4,300 digits
_MOST_BITS = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One option.

    Args:
        name: the Python keyword; filled in from the field, as are ``kind``, ``optional`` and ``choices``.
        kind: int, float, str, bool, Path, or object for a value that is an object in Python and a text elsewhere.
        optional: None is allowed.
        count: number of values; 2 for a pair, each of which is of this kind and in this range.
        default: default value; MISSING if the option is required.
        choices: allowed texts; empty: any.
        known: mindfl's own values of an option that also takes others.
        least, above, most, below: the range; ``above`` and ``below`` do not include their limit.
        pattern: regular expression that a text must match completely.
        form: such a text in words, with an example: ``a size such as 256m``.
        unit: unit of a number, such as ``ms``.
        help: description in complete sentences.
        file_default: the default in a server's YAML file if it differs; MISSING if the file must contain it.
        implied: the value that counts if the default is None and no value is given.
        shown: the default in words, if neither value says it.
        spellings: names on the command line, the tutorial's first; empty: ``--name``.
        objects: a value may also be an object in Python, or the name of one: ``file.py:NAME`` or ``module:NAME``, which
            is kept with the absolute path of the file.
        takes_value: a bool that is written ``--name true`` instead of ``--name``.
        bare: the value of the name alone, without a value behind it, on the command line; None: a value is required.
        several: a list, which the command line takes one by one.
        group: heading in the help and in docs/options.md.
    """

    name: str = ""
    kind: type = object
    optional: bool = False
    count: int = 1
    default: Any = MISSING
    choices: tuple[str, ...] = ()
    known: tuple[str, ...] = ()
    least: float | None = None
    above: float | None = None
    most: float | None = None
    below: float | None = None
    pattern: str = ""
    form: str = ""
    unit: str = ""
    help: str = ""
    file_default: Any = ...
    implied: Any = None
    shown: str = ""
    spellings: tuple[str, ...] = ()
    objects: bool = False
    takes_value: bool = False
    bare: str | None = None
    several: bool = False
    group: str = ""

    @property
    def file_value(self) -> Any:
        """The default in a server's YAML file; MISSING where the file must have the key."""
        return self.default if self.file_default is ... else self.file_default

    @property
    def limits(self) -> str:
        """The range in words; empty if there is none."""
        given = {"at least": self.least, "above": self.above, "at most": self.most, "below": self.below}
        return " and ".join(f"{word} {limit}" for word, limit in given.items() if limit is not None)

    @property
    def requirement(self) -> str:
        """Requirement on values, in words."""
        if self.choices:
            return f"one of {', '.join(self.choices)}"
        words, limits = _TYPES[self.kind][1], self.limits
        if not limits:
            return words
        if self.kind is float and self.most is None and self.below is None:
            words = "a finite number"
        return f"{words} of {limits}" if limits.startswith("at") else f"{words} {limits}"

    def check(self, value: Any) -> Any:
        """Check ``value`` and return it normalised: NumPy numbers as Python's, paths with the home folder for ``~``.

        Raises :class:`OptionError`.
        """
        value = _python_number(value)
        if value is None and self.optional:
            return value
        if self.count > 1:
            if not isinstance(value, tuple | list) or len(value) != self.count:
                raise OptionError(f"{self.name} must be {self.count} values, got {shown(value)}")
            return tuple(replace(self, count=1).check(each) for each in value)
        if self.objects:
            from mindfl.extensions import absolute, is_reference

            if is_reference(value):
                return absolute(value)
            if not isinstance(value, str | os.PathLike):
                return value
        if self.kind is object:
            return value
        if fault := self.fault(value):
            near = nearest(value, self.choices) if isinstance(value, str) and self.choices else None
            raise OptionError(f"{self.name} {fault}", hint=f"did you mean {near}?" if near else "")
        return local_path(value) if self.kind is Path else value

    def fault(self, value: Any) -> str:
        """Return the error in ``value``, a sentence without its subject; empty if the value can be used."""
        if not self._fits(value):
            needed = self.form if self.form and isinstance(value, str) else self.requirement
            return f"must be {needed}, got {shown(value)}"
        if self.kind is int and value.bit_length() > _MOST_BITS:
            return "is a number of thousands of digits: records could not hold it"
        if self.kind is float and not is_float32(value):
            return f"{shown(value)} is beyond 32-bit floating point numbers"
        return ""

    def is_of_kind(self, value: Any) -> bool:
        """Say whether ``value`` has the option's type; whole numbers are numbers too."""
        return isinstance(value, _TYPES[self.kind][0]) and (self.kind is bool or not isinstance(value, bool))

    def _fits(self, value: Any) -> bool:
        if not self.is_of_kind(value):
            return False
        if self.choices:
            return value in self.choices
        if self.pattern:
            return re.fullmatch(self.pattern, value) is not None
        if self.kind not in (int, float):
            return True
        return (
            (isinstance(value, int) or math.isfinite(value))
            and (self.least is None or value >= self.least)
            and (self.above is None or value > self.above)
            and (self.most is None or value <= self.most)
            and (self.below is None or value < self.below)
        )


def option(default: Any = MISSING, *, help: str = "", **declared: Any) -> Any:
    """Declare a dataclass field as an option; the keywords are those of :class:`Option`.

    Example:
        >>> from dataclasses import dataclass
        >>> @dataclass(frozen=True, kw_only=True)
        ... class Settings:
        ...     epochs: int = option(5, least=1, help="Local epochs per iteration.")
        >>> options_of(Settings)["epochs"].requirement
        'a whole number of at least 1'
    """
    return field(default=default, metadata={"option": Option(default=default, help=help, **declared)})


@cache
def options_of(declarations: type) -> Mapping[str, Option]:
    """Return the options that the fields of a dataclass declare, by name."""
    found = {}
    for item in fields(declarations):
        if "option" in item.metadata:
            kind, optional, choices = _kind(declarations, item.name, str(item.type))
            declared: Option = item.metadata["option"]
            found[item.name] = replace(
                declared,
                name=item.name,
                kind=kind,
                optional=optional,
                choices=declared.choices or choices,
                count=2 if str(item.type).startswith(_PAIR) else 1,
                shown=declared.shown or ("" if declared.implied is None else str(declared.implied)),
            )
    return found


def same_option(declarations: type, name: str, **changed: Any) -> Any:
    """Declare a dataclass field as the option ``name`` of other ``declarations``, with some attributes ``changed``.

    Its default is the value that counts if none is given there.

    Example:
        >>> from dataclasses import dataclass
        >>> @dataclass(frozen=True, kw_only=True)
        ... class Job:
        ...     heap: str | None = option(None, implied="256m", help="Largest heap of one client.")
        >>> @dataclass(frozen=True, kw_only=True)
        ... class Client:
        ...     heap: str = same_option(Job, "heap")
        >>> Client().heap
        '256m'
    """
    declared = options_of(declarations)[name]
    if declared.implied is not None:
        changed = {"default": declared.implied, "implied": None, "shown": "", **changed}
    declared = replace(declared, **{"group": "", **changed})
    return field(default=declared.default, metadata={"option": declared})


def declared_arguments(declarations: type) -> Callable[[CallableT], CallableT]:
    """Decorate a function so that its arguments are checked by the options of ``declarations``.

    Unknown keywords raise :class:`OptionError` too.
    """

    def decorate(function: CallableT) -> CallableT:
        signature, options = inspect.signature(function), options_of(declarations)

        @wraps(function)
        def checked(*arguments: Any, **keywords: Any) -> Any:
            try:
                given = signature.bind(*arguments, **keywords)
            except TypeError:
                return function(*arguments, **keywords)  # raises the TypeError
            for name in given.arguments.keys() & options.keys():
                given.arguments[name] = options[name].check(given.arguments[name])
            return function(*given.args, **given.kwargs)

        return checked_arguments(checked)  # type: ignore[return-value]

    return decorate


def check_options(settings: Any) -> None:
    """Check each declared field of the frozen dataclass ``settings``, and store the normalised values.

    Raises :class:`OptionError` naming the first unusable option.
    """
    for name, declared in options_of(settings.__class__).items():
        value = getattr(settings, name)
        if (checked := declared.check(value)) is not value:
            object.__setattr__(settings, name, checked)


def shown(value: object) -> str:
    """Return ``value`` for an error message: short, and text in quotes."""
    try:
        text = repr(value)
    except ValueError:  # a whole number of thousands of digits
        return "a number of thousands of digits"
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def is_float32(value: float) -> bool:
    """Return whether ``value`` can be stored as a 32-bit floating point number, as devices and messages do."""
    try:
        kept = struct.unpack("<f", struct.pack("<f", value))[0]
    except (OverflowError, struct.error):
        return False
    return value == 0 or abs(kept) >= 2.0**-126


def _kind(declarations: type, name: str, annotation: str) -> tuple[type, bool, tuple[str, ...]]:
    """Return the kind, whether None is allowed, and the choices of an annotation."""
    home = next(base for base in declarations.__mro__ if name in inspect.get_annotations(base))
    names = vars(sys.modules[home.__module__])
    first, *others = annotation.split(" | ")
    if first == _PAIR:
        return int, "None" in others, ()
    if any(each != "None" for each in others):
        return object, "None" in others, ()
    choices = get_args(names[first]) if get_origin(names.get(first)) is Literal else ()
    return str if choices else _KINDS.get(first, object), "None" in others, choices


def _python_number(value: Any) -> Any:
    """Convert a NumPy number to Python's; return other values unchanged."""
    numpy = sys.modules.get("numpy")
    return value.item() if numpy is not None and isinstance(value, numpy.generic) else value
