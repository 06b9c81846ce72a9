"""Callbacks of a training, with the names and states of the user's own; and reporters of a job."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mindfl.errors import OptionError, SimulationError
from mindfl.extensions import RESUME_HINT, make_object
from mindfl.notices import logger, warn
from mindfl.sim.history import IterationRow, average_words
from mindfl.sim.run_state import plain_values
from mindfl.user_code import raised

if TYPE_CHECKING:
    from mindfl.sim.config import JobConfig
    from mindfl.sim.history import IterationRow
    from mindfl.sim.result import Result


#: entry points of installed packages
GROUP = "mindfl.callbacks"
#: flat float32 arrays by name, read-only
Model = Mapping[str, NDArray[np.float32]]
#: state of a callback
State = dict[str, Any]


@dataclass(frozen=True)
class Progress:
    """Clients uploaded: ``clients_done`` of ``clients`` in ``iteration`` of ``iterations``; ``loss`` is the mean over
    those so far."""

    iteration: int
    clients_done: int
    clients: int
    loss: float
    iterations: int


class Callback:
    """Observes a training. Every method is optional; a class with some of them need not inherit from this one.

    ``begin`` and ``row`` may take a further argument ``state``: a dictionary of plain values and arrays, empty at
    first, which the job saves after each round, and which ``--resume`` restores.

    Example:
        >>> class EarlyStopping:
        ...     def __init__(self, patience: int = 3) -> None:
        ...         self.patience = patience
        ...
        ...     def row(self, row, model, state):
        ...         best = state["best"] = max(row.avg, state.get("best", 0.0))
        ...         state["waited"] = 0 if row.avg == best else state.get("waited", 0) + 1
        ...         row.metrics["best_avg"] = best
        ...         return state["waited"] >= self.patience
    """

    @property
    def name(self) -> str:
        """The name in messages: that of the class."""
        return type(self).__name__

    def begin(self, config: JobConfig, model: Model) -> None:
        """Training begins, or continues, with ``model``: flat float32 arrays by name."""

    def upload(self, progress: Progress) -> None:
        """A client uploaded; called in the thread of the round loop."""

    def row(self, row: IterationRow, model: Model) -> bool | None:
        """A round ended.

        Args:
            row: what happened in it. Numbers put into ``row.metrics`` stand in the history, in memory and on disk.
            model: the new model; empty as long as it is unknown (Java clients).

        Returns:
            True ends the training after this round.
        """

    def end(self, result: Result) -> None:
        """Training ended: finished, stopped by a callback, or interrupted."""


class NamedCallback(Callback):
    """A user's object as a callback: its failures name it, its state and metrics are checked.

    ``stops`` tells whether its latest ``row`` ended the training.

    Raises :class:`OptionError` if it has no method of a callback, or one with other arguments.
    """

    def __init__(self, given: Any) -> None:
        self._name = type(given).__name__
        self.state: State = {}
        self.stops = False
        calls = {name: getattr(given, name, None) for name in ("begin", "upload", "row", "end")}
        if isinstance(given, type) or not any(map(callable, calls.values())):
            raise OptionError(
                f"callback {given!r} has none of the methods {', '.join(calls)}",
                hint="give an object with some of them",
            )
        self._stateful = {name for name in ("begin", "row") if _takes(calls[name], 3)}
        for name, call in calls.items():
            if callable(call) and not _takes(call, 2 if name in ("begin", "row") else 1) and name not in self._stateful:
                arguments = {"begin": "config, model[, state]", "row": "row, model[, state]", "upload": "progress"}
                raise OptionError(f"callback {self.name}: {name} must take ({arguments.get(name, 'result')})")
        self._calls = calls

    @property
    def name(self) -> str:
        """The name in messages: that of the user's class."""
        return self._name

    def begin(self, config: JobConfig, model: Model) -> None:
        """Call its ``begin``."""
        self._call("begin", "before the first iteration", config, model)

    def upload(self, progress: Progress) -> None:
        """Call its ``upload``."""
        self._call("upload", f"in iteration {progress.iteration}", progress)

    def row(self, row: IterationRow, model: Model) -> bool:
        """Call its ``row``; return whether it ends the training."""
        where = f"in iteration {row.iteration}"
        self.stops = bool(self._call("row", where, row, model))
        self.state = plain_values(self.state, f"callback {self.name} {where}")
        for metric, value in row.metrics.items():
            row.metrics[metric] = self._number(metric, value, where, type(row).__dataclass_fields__)
        return self.stops

    def end(self, result: Result) -> None:
        """Call its ``end``."""
        self._call("end", "at the end", result)

    def _call(self, method: str, where: str, *arguments: Any) -> Any:
        call = self._calls[method]
        if call is None:
            return None
        try:
            return call(*arguments, *([self.state] if method in self._stateful else []))
        except Exception as error:
            cause = f"callback {self.name} failed {where}: {raised(error)}"
            raise SimulationError(cause, hint=RESUME_HINT) from error

    def _number(self, metric: Any, value: Any, where: str, columns: Mapping[str, Any]) -> float | int:
        if not isinstance(metric, str) or not metric.strip() or metric in columns:
            raise SimulationError(
                f"callback {self.name} {where}: a metric cannot be named {metric!r}",
                hint="choose a text that is no column of the history",
            )
        if isinstance(value, np.ndarray | np.generic) and value.ndim == 0:
            value = value.item()
        if not isinstance(value, int | float):
            raise SimulationError(
                f"callback {self.name} {where}: metric {metric} must be a number, got {value!r}", hint=RESUME_HINT
            )
        return value


def make_callbacks(given: Sequence[Any]) -> list[NamedCallback]:
    """Return the callbacks that ``given`` are or name. Raises :class:`OptionError`."""
    return [
        NamedCallback(make_object(each, {}, GROUP, "callback") if isinstance(each, str) else each) for each in given
    ]


def states(callbacks: Iterable[NamedCallback]) -> dict[str, State]:
    """Return the states of ``callbacks`` by name; several of one class are numbered."""
    return {name: callback.state for name, callback in _by_name(callbacks).items() if callback.state}


def restore(callbacks: Iterable[NamedCallback], states: Mapping[str, State]) -> None:
    """Restore the states of ``callbacks``."""
    for name, callback in _by_name(callbacks).items():
        callback.state = dict(states.get(name, {}))


def _by_name(callbacks: Iterable[NamedCallback]) -> dict[str, NamedCallback]:
    named: dict[str, NamedCallback] = {}
    for callback in callbacks:
        number = sum(each.name == callback.name for each in named.values())
        named[f"{callback.name} {number + 1}" if number else callback.name] = callback
    return named


def _takes(call: Callable[..., Any] | None, arguments: int) -> bool:
    if not callable(call):
        return False
    try:
        inspect.signature(call).bind(*range(arguments))
    except (TypeError, ValueError):
        return False
    return True


class Reporter(Protocol):
    """Observes a job: its stages, warnings and progress.

    The default is :class:`PythonReporter`; the command line draws a progress bar.
    """

    def stage(self, text: str) -> None:
        """A stage such as "exporting" begins."""

    def warning(self, text: str) -> None:
        """Something needs the user's attention; the job continues."""

    def progress(self, progress: Progress) -> None:
        """A client uploaded."""

    def row(self, row: IterationRow) -> None:
        """An iteration ended."""


class PythonReporter:
    """Warns through ``warnings`` (:class:`~mindfl.errors.MindflWarning`), logs stages and rows to ``mindfl`` at INFO.

    A base for reporters that need only some of the four methods.
    """

    def stage(self, text: str) -> None:
        """Log the stage."""
        logger.info("%s", text)

    def warning(self, text: str) -> None:
        """Warn."""
        warn(text)

    def progress(self, progress: Progress) -> None:
        """Ignore: one call per client is too much for a log."""

    def row(self, row: IterationRow) -> None:
        """Log the iteration's accuracy and loss."""
        average = average_words(row, 4)
        logger.info("iteration %d: %d clients, loss %.4f, %s", row.iteration, row.clients, row.loss, average)


class Silent(PythonReporter):
    """Reports nothing."""

    def stage(self, text: str) -> None:
        """Ignore."""

    def warning(self, text: str) -> None:
        """Ignore."""

    def row(self, row: IterationRow) -> None:
        """Ignore."""
