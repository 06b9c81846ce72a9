"""The upload mode of a job: its settings for a server, its name in titles, and its cost in privacy."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from mindfl.algorithms.sampler import sampling_rate
from mindfl.modes import PLAIN, UPLOAD_TYPES, mode_of
from mindfl.options.server_options import UINT32_MAX
from mindfl.privacy import Decision, PrivacyBudget
from mindfl.privacy.accountant import affordable_iterations
from mindfl.server import ServerConfig
from mindfl.server.server_config import MODE_SETTINGS
from mindfl.spelling import counted

if TYPE_CHECKING:
    from mindfl.sim.config import JobConfig

#: windows of the embedded coordinator, ms, the longest there are: a simulation takes the time it takes
NO_WINDOW = UINT32_MAX


def mode_settings(config: JobConfig, clients: int) -> dict[str, Any]:
    """Return the settings of the upload mode for :class:`ServerConfig`, with ``clients`` per iteration."""
    settings = {name: getattr(config, name) for name in MODE_SETTINGS}
    if settings["reconstruct_secrets_threshold"] is None:
        settings["reconstruct_secrets_threshold"] = max(1, min(2 * clients // 3 + 1, clients - 1))
    if mode_of(config).uncompressed:  # as in the reference
        settings["upload_compress_type"] = UPLOAD_TYPES[0]
    return settings


def federated_settings(config: JobConfig, clients: int, window_ms: int) -> dict[str, Any]:
    """Return the settings of the mode for MindSpore Federated's YAML file; ``window_ms`` is the time per step."""
    settings = mode_settings(config, clients)
    del settings["exact_corrupt_ratio"]
    return {**settings, "share_secrets_ratio": 1.0, "cipher_time_window": window_ms}


def mode_words(config: JobConfig) -> str:
    """Return encryption and compression in a few words; empty for plain weights."""
    download = config.download_compress_type
    words = (mode_of(config).describe(), "" if download == "NO_COMPRESS" else f"downloads {download}")
    return ", ".join(filter(None, words))


def server_settings(config: JobConfig, clients: int) -> ServerConfig:
    """Return the settings of a coordinator that ``clients`` devices take part under, without time limits."""
    return ServerConfig(
        fl_iteration_num=config.iterations,
        start_fl_job_threshold=clients,
        start_fl_job_time_window=NO_WINDOW,
        update_model_time_window=NO_WINDOW,
        global_iteration_time_window=NO_WINDOW,
        cipher_time_window=NO_WINDOW,
        client_epoch_num=config.epochs,
        client_batch_size=config.network.batch_size,
        client_learning_rate=config.rate,
        **mode_settings(config, clients),
    )


class PrivacySpending:
    """The privacy budget of a training with ``clients``.

    Epsilon is that towards an observer of the models, see :mod:`mindfl.privacy.accountant`. Nothing is counted for a
    server that runs already, because its settings are unknown. Raises :class:`OptionError` if the budget does not pay
    for one iteration, or the accounting package is not installed.
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
        """Return the epsilon of so many iterations; NaN if it is not counted."""
        return self._budget.after(iterations).spent if self._budget else math.nan

    def warning(self, iteration: int) -> str | None:
        """Return, once, that the iterations after ``iteration`` spend the last part of the budget."""
        if self._budget is None or self._limit is None or self._warned or iteration == self.iterations:
            return None
        after = self._budget.after(iteration)
        self._warned = after.decision is not Decision.GO
        return after.line(self._limit) if self._warned else None

    def summary(self, iterations: int) -> str:
        """Return a line with the epsilon spent, or the protection of secure aggregation; empty if neither is known."""
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
