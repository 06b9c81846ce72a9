"""Algorithms by name, and in words."""

from __future__ import annotations

import hashlib
import sys
from contextlib import suppress
from typing import Any

import numpy as np

from mindfl.algorithms.base import Algorithm
from mindfl.errors import MindflError, OptionError
from mindfl.extensions import FILE_MODULE, make_object

#: mindfl's own algorithms
REGISTERED = {"fedavg": Algorithm}
#: entry points of installed packages
GROUP = "mindfl.algorithms"
_OPTION = "algorithm"


def make_algorithm(given: str | Algorithm) -> Algorithm:
    """Return the algorithm that ``given`` is or names.

    Args:
        given: an object, or ``name``, ``module:attribute`` or ``file.py:attribute``, with its settings behind a colon.

    Raises:
        OptionError: there is none of that name, it does not take the settings, or it is no :class:`Algorithm`.

    Example:
        >>> make_algorithm("fedavg") == make_algorithm("fedavg"), type(make_algorithm("fedavg"))
        (False, <class 'mindfl.algorithms.base.Algorithm'>)
    """
    if isinstance(given, Algorithm):
        return given
    if not isinstance(given, str):
        hint = "make an object of the class, as in FedProx(0.1)" if isinstance(given, type) else ""
        raise OptionError(f"{_OPTION} must be a text or an Algorithm, not {type(given).__name__}", hint=hint)
    if given.startswith("<"):
        raise OptionError(
            f"the run was made with the algorithm {given}, an object that its record cannot make again",
            hint="give it again: algorithm=... in Python, --algorithm file.py:Class on the command line",
        )
    made = make_object(given, REGISTERED, GROUP, _OPTION)
    if not isinstance(made, Algorithm):
        raise OptionError(
            f"{_OPTION} {given} is no Algorithm, but {type(made).__name__}",
            hint="name a subclass of mindfl.algorithms.Algorithm, or an object of one",
        )
    return made


def describe(algorithm: Algorithm) -> str:
    """Return class and settings in words.

    Example:
        >>> describe(Algorithm())
        'FedAvg'
    """
    name = "FedAvg" if type(algorithm) is Algorithm else type(algorithm).__name__
    return " ".join((name, *(f"{key}={_word(value)}" for key, value in vars(algorithm).items())))


def recorded(given: Algorithm) -> str:
    """Return the text by which :func:`make_algorithm` makes the algorithm again, in another process too.

    For an object that no text can make, a description in angle brackets, which :func:`make_algorithm` refuses.

    Example:
        >>> recorded(Algorithm())
        'fedavg'
    """
    kind = type(given)
    home = kind.__module__
    if home.startswith(FILE_MODULE):
        home = str(sys.modules[home].__file__)
    settings = vars(given)
    words = ",".join(f"{name}={_word(value)}" for name, value in settings.items())
    text = f"{home}:{kind.__qualname__}" + (words and f":{words}")
    text = next((name for name, known in REGISTERED.items() if known is kind), text)
    if home != "__main__" and all(type(value) in (int, float, bool, str) for value in settings.values()):
        with suppress(MindflError):
            made = vars(make_algorithm(text))
            if [(type(value), value) for value in made.values()] == [
                (type(value), value) for value in settings.values()
            ]:
                return text
    return f"<{kind.__module__}:{kind.__qualname__}{words and f' {words}'}>"


def _word(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"array({hashlib.sha256(value.tobytes()).hexdigest()[:8]})"
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, int | float | str) else type(value).__name__
