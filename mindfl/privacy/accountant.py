"""Privacy accountants: epsilon after a number of iterations, and when to warn and to stop.

Epsilon depends on the observer. **The server** sees every upload of a device: sampling rate 1, and as many uploads as
the device made. **An observer of the models only**, who does not know which devices took part, learns less: sampling
rate q = clients_per_iteration / clients, over all iterations. That is computed for Poisson sampling (each device takes
part with probability q, independently), the usual approximation of a fixed number of devices drawn at random. Devices
that are served first come, first served are not drawn at random and get no such reduction.

An iteration that failed after devices had uploaded costs as much as any other.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from typing import Any, Protocol

from mindfl.errors import OptionError
from mindfl.imports import lacks
from mindfl.privacy.dp import gaussian_epsilon
from mindfl.spelling import counted

LOSS_STEP = 1e-4
"""Discretisation interval of privacy losses for noise multipliers from 1 on: dp-accounting's default.

Below 1 the losses grow with the inverse square of the multiplier, and so does the interval.
"""


class Accountant(Protocol):
    """Computes the privacy cost of iterations at ``delta``."""

    @property
    def delta(self) -> float:
        """Probability that epsilon is exceeded."""

    def epsilon(self, iterations: int) -> float:
        """Return the epsilon of the first ``iterations`` together; 0 for none."""


@dataclass(frozen=True, slots=True)
class GaussianAccountant:
    """``DP_ENCRYPT``: clipped updates with Gaussian noise.

    ``noise_multiplier`` is sigma / C (see :func:`mindfl.privacy.dp.noise_multiplier`), ``sampling_rate`` the q of the
    module's text. Neighbouring inputs differ in one device's updates, added or removed. Raises :class:`OptionError` for
    values out of range.
    """

    noise_multiplier: float
    delta: float
    sampling_rate: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.noise_multiplier < math.inf:
            raise OptionError(f"the noise multiplier must be a number from 0 on, got {self.noise_multiplier}")
        if not 0 < self.delta < 1:
            raise OptionError(f"delta must lie between 0 and 1, got {self.delta}")
        if not 0 < self.sampling_rate <= 1:
            raise OptionError(f"the sampling rate must lie above 0 and not above 1, got {self.sampling_rate}")

    def epsilon(self, iterations: int) -> float:
        """Return the epsilon of ``iterations``: exact without sampling, else an upper bound from dp-accounting.

        The bound uses privacy loss distributions and is tight up to the discretisation; it may take a second or two.
        Raises :class:`OptionError` if dp-accounting is needed and missing.
        """
        if iterations <= 0:
            return 0.0
        if self.noise_multiplier == 0:
            return math.inf
        if self.sampling_rate == 1:
            return gaussian_epsilon(self.noise_multiplier / math.sqrt(iterations), self.delta)
        losses = _sampled_gaussian(self.noise_multiplier, self.sampling_rate)
        return float(losses.self_compose(iterations).get_epsilon_for_delta(self.delta))


@dataclass(frozen=True, slots=True)
class PureAccountant:
    """``SIGNDS``: every upload is ``upload_epsilon``-differentially private with delta 0, and the costs add up."""

    upload_epsilon: float
    delta: float = 0.0

    def epsilon(self, iterations: int) -> float:
        """Return the epsilon of ``iterations``."""
        return self.upload_epsilon * max(iterations, 0)


class Decision(Enum):
    """The budget's decision about the next iteration. The value is for reports."""

    GO = "within the budget"
    WARN = "beyond the part of the budget at which to warn"
    STOP = "it would exceed the budget"


@dataclass(frozen=True, slots=True)
class Spending:
    """The state of a budget: epsilon spent, epsilon after one more iteration, and the decision."""

    iterations: int
    spent: float
    next_spent: float
    decision: Decision

    def line(self, budget: float | None) -> str:
        """Return the state as one line."""
        limit = "" if budget is None else f" of {budget:g}"
        return (
            f"privacy: epsilon {self.spent:.4g}{limit} spent in {counted(self.iterations, 'iteration')}, "
            f"{self.next_spent:.4g} with the next: {self.decision.value}"
        )


class PrivacyBudget:
    """Decides before each iteration whether it may run.

    ``stop_at``: epsilon that is never exceeded; None: no limit. ``warn_at``: epsilon above which to warn; None: four
    fifths of ``stop_at``. The budget does not count iterations: a resumed job passes the number of earlier ones.
    Raises :class:`OptionError` for limits that are not above 0 or in the wrong order.
    """

    def __init__(self, accountant: Accountant, *, stop_at: float | None = None, warn_at: float | None = None) -> None:
        for name, limit in (("stop_at", stop_at), ("warn_at", warn_at)):
            if limit is not None and not limit > 0:
                raise OptionError(f"the privacy budget's {name} must be above 0, got {limit}")
        if stop_at is not None and warn_at is not None and warn_at > stop_at:
            raise OptionError(f"the privacy budget's warn_at {warn_at:g} is above its stop_at {stop_at:g}")
        self.stop_at = math.inf if stop_at is None else stop_at
        self.warn_at = 0.8 * self.stop_at if warn_at is None else warn_at
        # epsilon(n + 1) of this iteration is epsilon(n) of the next one.
        self._epsilon: Callable[[int], float] = lru_cache(4)(accountant.epsilon)

    def after(self, iterations: int) -> Spending:
        """Return the state after ``iterations``, with the decision about the next one."""
        spent, following = self._epsilon(iterations), self._epsilon(iterations + 1)
        if following > self.stop_at:
            decision = Decision.STOP
        else:
            decision = Decision.WARN if following > self.warn_at else Decision.GO
        return Spending(iterations, spent, following, decision)

    def affordable(self, most: int) -> int:
        """Return how many iterations the budget allows, at most ``most``."""
        low, high = 0, most
        while low < high:
            middle = (low + high + 1) // 2
            if self._epsilon(middle) <= self.stop_at:
                low = middle
            else:
                high = middle - 1
        return low


def affordable_iterations(budget: PrivacyBudget, asked: int) -> int:
    """Return how many iterations ``budget`` allows, at most ``asked``. Raises :class:`OptionError` for none."""
    count = budget.affordable(asked)
    if not count:
        first = budget.after(0).next_spent
        raise OptionError(
            f"dp_budget {budget.stop_at:g} does not pay for one iteration, which costs epsilon {first:.4g}",
            hint="raise it, or lower dp_eps or sign_eps",
        )
    return count


@lru_cache(4)
def _sampled_gaussian(multiplier: float, rate: float) -> Any:
    """Return dp-accounting's distribution of one iteration's privacy loss."""
    try:
        from dp_accounting.pld import privacy_loss_distribution
    except ModuleNotFoundError:
        raise lacks("accounting for sampled clients", "dp-accounting") from None
    return privacy_loss_distribution.from_gaussian_mechanism(
        multiplier, sampling_prob=rate, value_discretization_interval=LOSS_STEP * max(1.0, multiplier**-2)
    )
