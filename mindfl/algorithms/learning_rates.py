"""Learning rates that change from round to round: :class:`Schedule`, and ``constant``, ``step`` and ``cosine``.

The server puts the rate of a round into the plan that its clients receive. So every device and every algorithm
calculates with the same rate, and a schedule must depend on the number of the round and on its settings alone.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import numpy as np

from mindfl import extensions
from mindfl.algorithms.setting_checks import checked, whole
from mindfl.errors import OptionError, SimulationError
from mindfl.extensions import RESUME_HINT, make_object, object_reference
from mindfl.user_code import raised

#: entry points of installed packages
GROUP = "mindfl.lr_schedules"
_OPTION = "lr_schedule"


class Schedule(ABC):
    """The learning rate of each round, from that of the job."""

    @abstractmethod
    def rate(self, first: float, iteration: int) -> float:
        """Return the rate of a round.

        Args:
            first: the job's learning rate.
            iteration: number of the round, from 1.
        """


class ConstantRate(Schedule):
    """The job's learning rate in every round.

    Example:
        >>> ConstantRate().rate(0.1, 7)
        0.1
    """

    def rate(self, first: float, iteration: int) -> float:
        """Return ``first``."""
        return first


class StepDecay(Schedule):
    """The rate is multiplied by ``factor`` after every so many rounds: first * factor^floor((k - 1) / every).

    Args:
        every: rounds between two changes, at least 1.
        factor: factor of each change, above 0.

    Raises:
        OptionError: a setting is out of range.

    Example:
        >>> [StepDecay(every=2, factor=0.5).rate(0.1, k) for k in (1, 2, 3)]
        [0.1, 0.1, 0.05]
    """

    def __init__(self, every: int = 10, factor: float = 0.1) -> None:
        self.every = whole(self, "every", every)
        self.factor = checked(self, "factor", factor, above=0)

    def rate(self, first: float, iteration: int) -> float:
        """Return the rate of a round."""
        return first * self.factor ** ((iteration - 1) // self.every)


class CosineDecay(Schedule):
    """Half a cosine from the job's rate to ``least``: least + (first - least) (1 + cos(pi (k - 1) / rounds)) / 2.

    It is the schedule of arXiv 1608.03983 without restarts. From round ``rounds + 1`` on the rate is ``least``.

    Args:
        rounds: rounds of the decay, at least 1; None: all of the job.
        least: rate at the end, at least 0.

    Raises:
        OptionError: a setting is out of range.

    Example:
        >>> CosineDecay(rounds=4, least=0.02).rate(0.1, 3)
        0.06
    """

    def __init__(self, rounds: int | None = None, least: float = 0.0) -> None:
        self.rounds = None if rounds is None else whole(self, "rounds", rounds)
        self.least = checked(self, "least", least, least=0)

    def rate(self, first: float, iteration: int) -> float:
        """Return the rate of a round."""
        assert self.rounds is not None, "settled() says how many rounds the job has"
        done = min(iteration - 1, self.rounds) / self.rounds
        return self.least + (first - self.least) * (1 + math.cos(math.pi * done)) / 2


class _Called(Schedule):
    """A user's function of the round's number, which returns the rate itself."""

    def __init__(self, function: Callable[[int], Any]) -> None:
        self.function = function

    def rate(self, first: float, iteration: int) -> Any:
        """Return what the function returns."""
        return self.function(iteration)


#: mindfl's own schedules by name
REGISTERED: dict[str, type[Schedule]] = {"constant": ConstantRate, "step": StepDecay, "cosine": CosineDecay}


def make_schedule(given: str | Schedule | Callable[[int], float]) -> Schedule:
    """Return the schedule that ``given`` is or names.

    Args:
        given: a function of the round's number that returns the rate; a :class:`Schedule`; or ``name``,
            ``module:attribute`` or ``file.py:attribute`` of one, with its settings behind a colon.

    Raises:
        OptionError: there is none of that name, it does not take the settings, or it cannot be called.

    Example:
        >>> make_schedule("step:every=5").factor, make_schedule(lambda iteration: 1 / iteration).rate(0.1, 4)
        (0.1, 0.25)
    """
    made = make_object(given, REGISTERED, GROUP, _OPTION) if isinstance(given, str) else given
    if isinstance(made, Schedule):
        return made
    if isinstance(made, type) or not callable(made):
        raise OptionError(
            f"{_OPTION} {given if isinstance(given, str) else type(given).__name__} cannot be called",
            hint="give constant, step, cosine, or a function that takes the iteration and returns its learning rate",
        )
    return _Called(made)


def settled(given: Any, iterations: int) -> Any:
    """Return the text of a schedule of mindfl's with all its settings, for so many iterations; others as given.

    Raises:
        OptionError: as :func:`make_schedule` does.

    Example:
        >>> settled("cosine:least=0.001", 20), settled("step", 20)
        ('cosine:rounds=20,least=0.001', 'step:every=10,factor=0.1')
    """
    made = make_schedule(given)
    if isinstance(made, CosineDecay) and made.rounds is None:
        made = CosineDecay(iterations, made.least)
    return recorded(made) if type(made) in REGISTERED.values() else given


def recorded(given: Any) -> str:
    """Return the text by which :func:`make_schedule` makes a schedule again, in another process too.

    For an object that no text can make, a description in angle brackets, which :func:`make_schedule` refuses.

    Example:
        >>> recorded(StepDecay(5)), recorded(math.sqrt), recorded(lambda iteration: 0.1)
        ('step:every=5,factor=0.1', 'math:sqrt', '<lambda>')
    """
    if isinstance(given, str) or not hasattr(given, "__qualname__"):
        return extensions.recorded(given, REGISTERED, GROUP, _OPTION)
    name = given.__qualname__.rpartition("<locals>.")[2]
    return object_reference(given) or (name if name.startswith("<") else f"<{name}>")


class LearningRates:
    """The rates of a job's rounds, as plans carry them.

    Args:
        given: as for :func:`make_schedule`.
        iterations: rounds of the job.

    Raises:
        OptionError: as :func:`make_schedule` does.

    Example:
        >>> rates = LearningRates("step:every=1,factor=0.5", 20)
        >>> rates.name, rates.planned(1, 3)
        ('step:every=1,factor=0.5', 0.25)
    """

    def __init__(self, given: Any, iterations: int) -> None:
        whole = settled(given, iterations)
        self.name = recorded(whole)
        self._schedule = make_schedule(whole)
        self._iterations = iterations

    @property
    def constant(self) -> bool:
        """Whether every round has the job's rate."""
        return type(self._schedule) is ConstantRate  # a subclass may have another rate()

    def planned(self, first: float, iteration: int) -> float:
        """Return the learning rate of a round as a plan carries it: a float32.

        Args:
            first: the job's learning rate.
            iteration: number of the round, from 1.

        Raises:
            SimulationError: the schedule failed, or returned no number above 0.
        """
        try:
            found = self._schedule.rate(first, iteration)
        except Exception as error:
            raise self._failed(iteration, raised(error)) from error
        if isinstance(found, bool) or not isinstance(found, (int, float, np.integer, np.floating)):
            raise self._failed(iteration, f"a learning rate must be a number, got {found!r}")
        try:
            with np.errstate(over="ignore", under="ignore"):
                rate = float(np.float32(found))
        except OverflowError as error:  # a whole number beyond float64
            raise self._failed(iteration, f"a learning rate must be finite: {error}") from None
        if math.isfinite(rate) and rate > 0:
            return rate
        why = ", and devices take a rate of their own for a plan with 0" if rate == 0 else ""
        raise self._failed(iteration, f"a learning rate must be finite and above 0, got {float(found):g}{why}")

    def check(self, first: float) -> None:
        """Raise :class:`OptionError` where a schedule of mindfl's has no usable rate for a round of the job.

        Their rates rise or fall all the way, so that the first and the last round say it. A user's function is not
        called before the round begins.
        """
        if type(self._schedule) in REGISTERED.values():
            for iteration in (1, self._iterations):
                try:
                    self.planned(first, iteration)
                except SimulationError as error:
                    raise OptionError(str(error), hint=f"choose other settings of {_OPTION}") from None

    def _failed(self, iteration: int, cause: str) -> SimulationError:
        return SimulationError(f"{_OPTION} {self.name} failed in iteration {iteration}: {cause}", hint=RESUME_HINT)
