"""Calls of a user's algorithm, whose faults become one error each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mindfl.algorithms.algorithm import Algorithm, Arrays
from mindfl.algorithms.naming import describe
from mindfl.errors import MindflError, OptionError
from mindfl.user_code import raised

#: (cause, hint) -> the error to raise
Fault = Callable[[str, str], MindflError]


class Checked:
    """An algorithm whose methods are called through :meth:`call`.

    Args:
        algorithm: the user's object, whose attributes must stay as they are now.
    """

    def __init__(self, algorithm: Algorithm) -> None:
        self.algorithm = algorithm
        self.name = describe(algorithm)
        self._settings = dict(vars(algorithm))

    def call(self, method: str, given: Any, result: type[Any], fault: Fault, *, optional: bool = False) -> Any:
        """Return ``algorithm.method(given)``, which must be a ``result``, or None if it is ``optional``.

        Raises what ``fault`` returns. Attributes that changed are refused too: a resumed run would not have them.
        """
        try:
            with np.errstate(all="ignore"):  # values that are not finite are refused later
                made = getattr(self.algorithm, method)(given)
        except OptionError as error:
            raise fault(str(error), error.hint) from error
        except Exception as error:
            raise fault(f"{method}: {raised(error)}", "") from error
        if not (isinstance(made, result) or (optional and made is None)):
            raise fault(f"{method} returned {type(made).__name__}, not {result.__name__}", "")
        now = vars(self.algorithm)
        changed = [name for name in {**self._settings, **now} if now.get(name) is not self._settings.get(name)]
        if changed:
            raise fault(f"{method} changed its attribute {changed[0]}", "return what is remembered as named arrays")
        return made


def named(arrays: Any, what: str, fault: Fault) -> Mapping[str, Any]:
    """Return ``arrays``, which must be by name."""
    if not isinstance(arrays, Mapping):
        raise fault(f"{what} is {type(arrays).__name__}, not arrays by name", "")
    return arrays


def kept(arrays: Any, what: str, fault: Fault) -> dict[str, NDArray[Any]]:
    """Return read-only copies of ``arrays``: finite numbers by name.

    They lie in memory as a stored state is read back, since sums in another order may have other last bits.
    """
    copies = {}
    for name, values in named(arrays, what, fault).items():
        try:
            array = np.array(values, order="C")
        except Exception as error:  # rows of different lengths, or what another package's arrays raise
            raise fault(f"{what}: {name!r} is no array: {error}", "") from error
        if not isinstance(name, str) or array.dtype.kind not in "biuf" or not array.size:
            raise fault(f"{what}: {name!r} is not a non-empty array of numbers", "")
        if not np.isfinite(array).all():
            raise fault(f"{what}: {name} is not finite", "")
        array.flags.writeable = False
        copies[name] = array
    return copies


def flat32(arrays: Any, what: str, fault: Fault, like: Arrays | None = None) -> dict[str, NDArray[np.float32]]:
    """Return flat float32 copies of ``arrays``, which must have names and sizes of ``like``, where that is given."""
    found = kept(arrays, what, fault)
    if like is not None and found.keys() != like.keys():
        name = min(found.keys() ^ like.keys())
        raise fault(f"{what} {'lacks' if name in like else 'has an unknown array'} {name}", "")
    flat = {}
    for name, values in found.items():
        with np.errstate(over="ignore"):
            flat[name] = values.astype(np.float32).reshape(-1)
        if like is not None and flat[name].size != like[name].size:
            raise fault(f"{what}: {name} has {flat[name].size} elements, not {like[name].size}", "")
        if not np.isfinite(flat[name]).all():
            raise fault(f"{what}: {name} is not finite", "")
    return flat


def lent(arrays: Arrays) -> dict[str, NDArray[Any]]:
    """Return flat read-only views of ``arrays``."""
    views = {name: np.asarray(values, np.float32).reshape(-1).view() for name, values in arrays.items()}
    for view in views.values():
        view.flags.writeable = False
    return views
