"""What a training costs in privacy."""

from __future__ import annotations

import math

from mindfl.algorithms.sampler import sampling_rate
from mindfl.modes import PLAIN
from mindfl.privacy import Decision, PrivacyBudget
from mindfl.privacy.accountant import affordable_iterations
from mindfl.sim.config import JobConfig
from mindfl.sim.pool import server_settings
from mindfl.spelling import counted


class Spending:
    """What the training of ``clients`` spends.

    Epsilon is that towards somebody who sees the models only, see :mod:`mindfl.privacy.accountant`. A server that runs
    already has settings of its own, which are not known here: nothing is counted then. Raises :class:`OptionError`
    where the budget does not pay for one iteration, or what counts is not installed.
    """

    def __init__(self, config: JobConfig, clients: int) -> None:
        self._elsewhere = not config.server_side.planned_here
        own = config.derived(encrypt_type=PLAIN) if self._elsewhere else config
        self._settings = server_settings(own, min(config.cohort, clients))
        self._asked = config.iterations
        known = sampling_rate(config.chooser, clients)
        rate = 1.0 if known is None else known
        self._sampled = rate < 1
        found = None if self._elsewhere else self._settings.mode.accountant(rate)
        self._unknown_rate = type(config.chooser).__name__ if found and known is None else None
        self._budget = PrivacyBudget(found, stop_at=config.dp_budget) if found else None
        self._limit = config.dp_budget
        self._warned = False
        self.iterations = config.iterations
        if self._budget is not None and config.dp_budget is not None:
            self.iterations = affordable_iterations(self._budget, config.iterations)

    def notes(self) -> list[str]:
        """Return a warning where there will be fewer iterations than were asked for, and of masks that hide little."""
        found = [] if self._elsewhere else self._settings.mode.weaknesses(self._settings)
        if self._unknown_rate:
            found.append(
                f"sampler {self._unknown_rate} has no rate(clients): the privacy accountant takes every client to take "
                "part in every iteration"
            )
        if self.iterations != self._asked:
            found.append(
                f"the privacy budget of {self._limit:g} pays for {self.iterations} of "
                f"{counted(self._asked, 'iteration')}"
            )
        return found

    def spent(self, iterations: int) -> float:
        """Return the epsilon of so many iterations; NaN where it is not counted."""
        return self._budget.after(iterations).spent if self._budget else math.nan

    def warning(self, iteration: int) -> str | None:
        """Return, once, that the iterations after ``iteration`` spend the last part of the budget."""
        if self._budget is None or self._limit is None or self._warned or iteration == self.iterations:
            return None
        after = self._budget.after(iteration)
        self._warned = after.decision is not Decision.GO
        return after.line(self._limit) if self._warned else None

    def summary(self, iterations: int) -> str:
        """Return what was spent in the end, in a line, or what masks promise; empty where neither is known."""
        if self._budget is None:
            return "" if self._elsewhere else "\n".join(self._settings.mode.protection(self._settings))
        spent = self._budget.after(iterations).spent
        limit = "" if self._limit is None else f" of {self._limit:g}"
        to_server = self._settings.mode.accountant()
        assert to_server is not None
        delta = f", delta {to_server.delta:g}" if to_server.delta else ""
        text = f"privacy: epsilon {spent:.4g}{limit} spent{delta}"
        if self._sampled:
            whole = to_server.epsilon(iterations)
            text += f" towards who sees the models; towards the server up to {whole:.4g}, if always chosen"
        return text
