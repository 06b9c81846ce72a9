"""Checks of the settings of mindfl's own algorithms and schedules."""

from __future__ import annotations

import math
from numbers import Integral, Real

from mindfl.errors import OptionError


def checked(
    algorithm: object,
    name: str,
    value: object,
    *,
    least: float = -math.inf,
    above: float = -math.inf,
    below: float = math.inf,
    most: float = math.inf,
) -> float:
    """Return a setting of ``algorithm`` as a float.

    Args:
        algorithm: the object whose setting it is; its class is named in the error.
        name: the setting's name.
        value: what the user gave.
        least: the smallest value that is allowed.
        above: what it must be greater than.
        below: what it must be less than.
        most: the largest value that is allowed.

    Raises:
        OptionError: it is no finite number in that range.

    Example:
        >>> checked(object(), "mu", 0.1, least=0)
        0.1
    """
    bounds = [("at least", least), ("above", above), ("below", below), ("at most", most)]
    number = float(value) if isinstance(value, Real) and not isinstance(value, bool) else math.nan
    if math.isfinite(number) and least <= number <= most and above < number < below:
        return number
    words = " and ".join(f"{word} {bound:g}" for word, bound in bounds if math.isfinite(bound))
    raise OptionError(f"{type(algorithm).__name__}: {name} must be a number {words}, got {value!r}")


def whole(owner: object, name: str, value: object, *, least: int = 1) -> int:
    """Return a setting of ``owner`` that counts something.

    Args:
        owner: the object whose setting it is; its class is named in the error.
        name: the setting's name.
        value: what the user gave.
        least: the smallest value that is allowed.

    Raises:
        OptionError: it is no whole number of at least ``least``.

    Example:
        >>> whole(object(), "layers", 2)
        2
    """
    if isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= least:
        return int(value)
    raise OptionError(f"{type(owner).__name__}: {name} must be a whole number of at least {least}, got {value!r}")
