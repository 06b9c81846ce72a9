"""What a job costs in privacy, and how many iterations a budget pays for."""

from __future__ import annotations

from mindfl.errors import OptionError
from mindfl.privacy import Accountant, GaussianAccountant, PrivacyBudget, PureAccountant, noise_multiplier
from mindfl.protocol.encryption import DP, SIGN_DS
from mindfl.server.config import ServerConfig


def accountant(config: ServerConfig, sampling_rate: float = 1.0) -> Accountant | None:
    """Return what knows the cost of iterations in which each device takes part with this probability.

    None where uploads are not private. Raises :class:`OptionError`; see :class:`GaussianAccountant`.
    """
    if config.encrypt_type == DP:
        told = config.dp_params
        multiplier = noise_multiplier(told.dp_eps, told.dp_delta)
        return GaussianAccountant(multiplier, told.dp_delta, sampling_rate)
    return PureAccountant(config.ds_params.sign_eps) if config.encrypt_type == SIGN_DS else None


def affordable_iterations(budget: PrivacyBudget, asked: int) -> int:
    """Return how many iterations ``budget`` pays for, at most ``asked``. Raises :class:`OptionError` for none."""
    count = budget.affordable(asked)
    if not count:
        first = budget.after(0).next_spent
        raise OptionError(
            f"dp_budget {budget.stop_at:g} does not pay for one iteration, which costs epsilon {first:.4g}",
            hint="raise it, or lower dp_eps or sign_eps",
        )
    return count
