"""Which clients take part in a round: the seam :class:`Sampler`, and :class:`Uniform`, the default."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

import numpy as np

from mindfl.errors import OptionError, SimulationError
from mindfl.extensions import RESUME_HINT, make_object
from mindfl.user_code import raised

#: entry points of installed packages
GROUP = "mindfl.samplers"


class Sampler(Protocol):
    """Chooses the cohort of each round. It must depend on the arguments of ``sample`` and on its settings alone.

    A sampler may also have a method ``rate(clients) -> float``: the probability with which each of so many clients
    takes part in a round, above 0 and at most 1. The privacy accountant uses it; without one it assumes 1.

    Example:
        >>> class Poisson:
        ...     def __init__(self, probability: float = 0.1) -> None:
        ...         self.probability = probability
        ...
        ...     def rate(self, clients: int) -> float:
        ...         return self.probability
        ...
        ...     def sample(self, clients, iteration, rng, state):
        ...         return np.flatnonzero(rng.random(clients) < self.probability)
        >>> cohort(Poisson(0.5), clients=6, iteration=1, seed=0, state={})
        [4, 5]
    """

    def sample(self, clients: int, iteration: int, rng: np.random.Generator, state: dict[str, Any]) -> Iterable[int]:
        """Return the clients that take part in a round.

        Args:
            clients: number of clients of the job.
            iteration: number of the round, from 1.
            rng: generator of this round; it follows from the job's seed and ``iteration``.
            state: what the sampler remembers: plain values and arrays by name, empty at first. The job saves it after
                each round, and ``--resume`` restores it.

        Returns:
            Numbers from 0 to ``clients - 1``, each at most once, in any order. None at all is a round without clients,
            which keeps the model.
        """


class Uniform:
    """A fixed number of clients, each set of them equally likely.

    Args:
        cohort: clients of a round; None: all.

    Example:
        >>> cohort(Uniform(2), clients=5, iteration=1, seed=0, state={})
        [2, 4]
    """

    def __init__(self, cohort: int | None = None) -> None:
        if cohort is not None and (not isinstance(cohort, int) or cohort < 1):
            raise OptionError(f"sampler uniform: cohort must be a whole number of at least 1, got {cohort!r}")
        self.cohort = cohort

    def rate(self, clients: int) -> float:
        """Return the share of the clients that take part in a round."""
        return 1.0 if self.cohort is None else min(1.0, self.cohort / clients)

    def sample(self, clients: int, iteration: int, rng: np.random.Generator, state: dict[str, Any]) -> Iterable[int]:
        """Return all clients, or so many that ``rng`` draws without replacement."""
        if self.cohort is None or self.cohort >= clients:
            return range(clients)
        return rng.choice(clients, self.cohort, replace=False)


class OnlyFirst:
    """The first client alone: of the algorithm ``centralized``, which has all data there."""

    def sample(self, clients: int, iteration: int, rng: np.random.Generator, state: dict[str, Any]) -> Iterable[int]:
        """Return the first client."""
        return [0]


#: mindfl's own samplers by name
REGISTERED = {"uniform": Uniform}


def make_sampler(given: str | Sampler) -> Sampler:
    """Return the sampler that ``given`` is or names.

    Raises :class:`OptionError`: there is none of that name, it does not take its settings, or has no ``sample``.
    """
    made = make_object(given, REGISTERED, GROUP, "sampler") if isinstance(given, str) else given
    if isinstance(made, type) or not callable(getattr(made, "sample", None)):
        raise OptionError(
            f"sampler {given if isinstance(given, str) else type(given).__name__} has no method sample",
            hint="give an object with sample(clients, iteration, rng, state)",
        )
    return made


def cohort(sampler: Sampler, *, clients: int, iteration: int, seed: int, state: dict[str, Any]) -> list[int]:
    """Return the cohort that ``sampler`` chooses for a round, ascending; ``state`` may change.

    Raises :class:`SimulationError` naming sampler and iteration if it fails or returns no valid cohort.
    """
    name = type(sampler).__name__
    try:
        chosen = sampler.sample(clients, iteration, np.random.default_rng((seed, iteration)), state)
        indices = np.asarray(chosen if isinstance(chosen, np.ndarray) else list(chosen))
    except Exception as error:
        cause = raised(error)
        raise SimulationError(f"sampler {name} failed in iteration {iteration}: {cause}", hint=RESUME_HINT) from error
    if fault := _fault(indices, clients):
        raise SimulationError(f"sampler {name} in iteration {iteration}: {fault}", hint=RESUME_HINT)
    return sorted(indices.tolist())


def sampling_rate(sampler: Sampler, clients: int) -> float | None:
    """Return the probability with which each client takes part in a round; None if ``sampler`` has no rate.

    Raises :class:`OptionError` if it is no probability above 0.
    """
    rate = getattr(sampler, "rate", None)
    if rate is None:
        return None
    value = rate(clients) if callable(rate) else None
    if isinstance(value, (int, float, np.number)) and 0 < value <= 1:
        return float(value)
    raise OptionError(
        f"sampler {type(sampler).__name__}: rate({clients}) must be a number above 0 and at most 1, got {value!r}",
        hint="rate(clients) is a method that returns the probability with which a client takes part",
    )


def _fault(indices: np.ndarray[Any, Any], clients: int) -> str:
    """Return what keeps ``indices`` from being a cohort; empty: nothing."""
    if indices.ndim != 1:
        return f"clients must be a list of numbers, got an array of shape {indices.shape}"
    if not indices.size:
        return ""
    if indices.dtype.kind == "b":
        return "clients must be numbers, got truth values (numpy.flatnonzero makes numbers of them)"
    if indices.dtype.kind not in "iu":
        return f"clients must be whole numbers, got {indices.tolist()[0]!r}"
    if indices.min() < 0 or indices.max() >= clients:
        wrong = indices.min() if indices.min() < 0 else indices.max()
        return f"there is no client {wrong}: they are numbered from 0 to {clients - 1}"
    values, counts = np.unique(indices, return_counts=True)
    return "" if counts.max() == 1 else f"client {values[counts.argmax()]} was chosen {counts.max()} times"
