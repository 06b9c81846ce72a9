"""An algorithm at work in a server's job: its further arrays beside the weights, its state, and its step, checked."""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mindfl.algorithms.base import Algorithm, Arrays, Round, Step
from mindfl.algorithms.naming import describe
from mindfl.errors import AlgorithmError, OptionError

#: what the names of an algorithm's further arrays begin with where they travel beside the weights
EXTRA = "mindfl.extra/"


class ServerAlgorithm:
    """The server's side of ``algorithm`` (None: FedAvg).

    Args:
        algorithm: the user's object.
        constant: names of weights that keep their values.
    """

    def __init__(self, algorithm: Algorithm | None = None, constant: Set[str] = frozenset()) -> None:
        self._algorithm = algorithm or Algorithm()
        self._settings = dict(vars(self._algorithm))
        self._constant = constant
        kind = type(self._algorithm)
        self._averages = kind.step is Algorithm.step and kind.extras is Algorithm.extras
        self._name = describe(self._algorithm)
        self.description = "" if kind is Algorithm else self._name

    def first(self, model: Mapping[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
        """Return ``model`` (float32, any shape, not changed) with the algorithm's further arrays.

        Raises :class:`OptionError` where a weight has the name of one, :class:`AlgorithmError` for unusable arrays.
        """
        if type(self._algorithm) is Algorithm:
            return dict(model)
        if reserved := [name for name in model if name.startswith(EXTRA)]:
            raise OptionError(f"the weight {reserved[0]} has a name that begins with {EXTRA}, which is reserved")
        extras = self._call("extras", 0, lambda: self._algorithm.extras(_flat(model)))
        return {**model, **{EXTRA + name: values for name, values in self._float32(extras, "extras", 0).items()}}

    def first_state(self, model: Arrays) -> dict[str, NDArray[Any]]:
        """Return the state before the first iteration. Raises :class:`AlgorithmError`."""
        return self._kept(self._call("state", 0, lambda: self._algorithm.state(_flat(model))), 0)

    def next(
        self, iteration: int, sent: Arrays, average: Arrays, state: Arrays, clients: int
    ) -> tuple[Arrays, Mapping[str, NDArray[Any]]]:
        """Return what the clients are sent next, and the next state.

        Args:
            iteration: number of the iteration that ends.
            sent: weights and further arrays that the clients began with, flat float32 by name.
            average: the weighted mean of their uploads, likewise.
            state: the algorithm's state.
            clients: number of uploads.

        Raises:
            AlgorithmError: the algorithm's ``step`` failed, or returned unusable arrays.
        """
        if self._averages:
            return average, state
        (model, extras), (mean, uploaded) = split(sent), split(average)
        given = Round(
            iteration=iteration,
            model=model,
            average=mean,
            sent=extras,
            extras=uploaded,
            state=state,
            clients=clients,
        )
        made = self._call("step", iteration, lambda: self._algorithm.step(given))
        if not isinstance(made, Step):
            raise self._error(iteration, f"step returned {type(made).__name__}, not a Step")
        self._check_settings(iteration)
        weights = self._float32(made.model, "model", iteration, like=model)
        further = self._float32({**extras, **made.extras}, "extras", iteration, like=extras)
        weights.update({name: model[name] for name in self._constant if name in model})
        return {**weights, **{EXTRA + name: further[name] for name in extras}}, self._kept(made.state, iteration)

    def _call(self, name: str, iteration: int, action: Any) -> Any:
        try:
            with np.errstate(all="ignore"):  # what is not finite is refused below
                return action()
        except Exception as error:
            raise self._error(iteration, f"{name}: {type(error).__name__}: {error}") from error

    def _float32(self, arrays: Any, what: str, iteration: int, like: Arrays | None = None) -> dict[str, Any]:
        """Return flat float32 copies of finite ``arrays``, which have the names and sizes of ``like``."""
        found = self._kept(arrays, iteration, what)
        if like is not None and found.keys() != like.keys():
            name = min(found.keys() ^ like.keys())
            raise self._error(iteration, f"{what} {'lacks' if name in like else 'has an unknown array'} {name}")
        flat = {}
        for name, values in found.items():
            with np.errstate(over="ignore"):
                flat[name] = values.astype(np.float32).reshape(-1)
            if like is not None and flat[name].size != like[name].size:
                size, expected = flat[name].size, like[name].size
                raise self._error(iteration, f"{what}: {name} has {size} elements, not {expected}")
            if not np.isfinite(flat[name]).all():
                raise self._error(iteration, f"{what}: {name} is not finite")
        return flat

    def _kept(self, arrays: Any, iteration: int, what: str = "state") -> dict[str, NDArray[Any]]:
        """Return read-only copies of finite, numeric ``arrays``."""
        if not isinstance(arrays, Mapping):
            raise self._error(iteration, f"{what} is {type(arrays).__name__}, not arrays by name")
        kept = {}
        for name, values in arrays.items():
            array = np.array(values)
            if not isinstance(name, str) or array.dtype.kind not in "biuf" or not array.size:
                raise self._error(iteration, f"{what}: {name!r} is not a non-empty array of numbers")
            if not np.isfinite(array).all():
                raise self._error(iteration, f"{what}: {name} is not finite")
            array.flags.writeable = False
            kept[name] = array
        return kept

    def _check_settings(self, iteration: int) -> None:
        """Refuse an algorithm that remembers something in its attributes: a resumed run would not have it."""
        now = vars(self._algorithm)
        changed = [name for name in {**self._settings, **now} if now.get(name) is not self._settings.get(name)]
        if changed:
            raise self._error(iteration, f"its attribute {changed[0]} changed", hint="keep it in Step.state")

    def _error(self, iteration: int, cause: str, *, hint: str = "") -> AlgorithmError:
        return AlgorithmError(self._name, iteration, cause, hint=hint)


def split(arrays: Arrays) -> tuple[dict[str, NDArray[Any]], dict[str, NDArray[Any]]]:
    """Return the weights among ``arrays`` as they travel, and an algorithm's further arrays by its own names."""
    weights = {name: values for name, values in arrays.items() if not name.startswith(EXTRA)}
    return weights, {name[len(EXTRA) :]: arrays[name] for name in arrays.keys() - weights.keys()}


def _flat(model: Arrays) -> dict[str, NDArray[Any]]:
    flat = {name: np.asarray(values, np.float32).reshape(-1).view() for name, values in split(model)[0].items()}
    for values in flat.values():
        values.flags.writeable = False
    return flat
