"""What a setting may be: its type and range, declared beside the dataclass field that holds it."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from dataclasses import MISSING, dataclass, field
from typing import Any

import numpy as np

from mindfl.options import options_of
from mindfl.options.declaration import shown
from mindfl.options.server import ServerJobOptions

_TYPE_NAMES = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}
_LIMITS = {"at least": "least", "above": "above", "at most": "most", "below": "below"}
_HOLDS: dict[str, Callable[[float, float], bool]] = {
    "at least": operator.ge,
    "above": operator.gt,
    "at most": operator.le,
    "below": operator.lt,
}


@dataclass(frozen=True, slots=True)
class Rule:
    """Limits of one setting; ``above`` and ``below`` are exclusive, ``least`` and ``most`` inclusive."""

    least: float | None = None
    above: float | None = None
    most: float | None = None
    below: float | None = None
    choices: tuple[str, ...] = ()

    def fault(self, value: object, kind: type) -> str | None:
        """Return why ``value`` is no usable setting of type ``kind``, or None. Whole numbers are numbers too."""
        if not is_of_kind(value, kind):
            return f"must be {_TYPE_NAMES[kind]}, not {shown(value)}{_number_hint(value, kind)}"
        if isinstance(value, str):
            return self._text_fault(value)
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return self._number_fault(value, kind)
        return None

    def _text_fault(self, value: str) -> str | None:
        if not self.choices or value in self.choices:
            return None
        return f"must be one of {', '.join(self.choices)}, not {shown(value)}"

    def _number_fault(self, value: int | float, kind: type) -> str | None:
        # The reference keeps numbers with a fraction in float32 and checks that.
        kept = _float32(value) if kind is float else value
        if isinstance(kept, float) and not math.isfinite(kept):
            return f"must be a finite number, not {shown(value)}"
        given = [(word, limit) for word, name in _LIMITS.items() if (limit := getattr(self, name)) is not None]
        if all(_HOLDS[word](kept, limit) for word, limit in given):
            return None
        return f"must be {' and '.join(f'{word} {limit}' for word, limit in given)}, not {shown(value)}"


def setting(
    default: Any = MISSING,
    *,
    least: float | None = None,
    above: float | None = None,
    most: float | None = None,
    below: float | None = None,
    choices: tuple[str, ...] = (),
) -> Any:
    """Declare a setting of the YAML file as a dataclass field; one without a default is required."""
    return field(default=default, metadata={"rule": Rule(least, above, most, below, choices)})


def declared(name: str) -> Any:
    """Declare the setting ``name`` of the YAML file as a dataclass field, with default and range of
    :class:`~mindfl.options.server.ServerJobOptions`.
    """
    option = options_of(ServerJobOptions)[name]
    default = option.default if option.file_default is ... else option.file_default
    limits = {each: getattr(option, each) for each in ("least", "above", "most", "below", "choices")}
    return setting(default, **limits)


@dataclass(frozen=True, slots=True)
class Misfit:
    """A setting without a usable value: ``value`` is None where it is missing, else no ``kind`` or against ``rule``."""

    key: str
    value: object
    kind: type
    rule: Rule


def is_of_kind(value: object, kind: type) -> bool:
    """Return whether ``value`` has the type of a setting; whole numbers are numbers too."""
    return type(value) is kind or (kind is float and type(value) is int)


def _float32(value: int | float) -> float:
    try:
        with np.errstate(over="ignore"):
            return float(np.float32(value))
    except OverflowError:
        return math.inf


def _number_hint(value: object, kind: type) -> str:
    """A number that YAML 1.1 takes for text: in quotes, or 1e-3, which needs a point before the exponent."""
    if kind not in (int, float) or not isinstance(value, str):
        return ""
    try:
        number = kind(float(value))
    except (ValueError, OverflowError):
        return ""
    written = repr(number) if "." in repr(number) else repr(number).replace("e", ".0e")
    return f" (YAML reads it as text: write {written})"
