"""FedProx."""

from __future__ import annotations

from mindfl.algorithms.algorithm import Algorithm, Client, Correction
from mindfl.algorithms.setting_checks import checked


class FedProx(Algorithm):
    """A proximal term pulls every local step towards the received model (arXiv 1812.06127).

    A step uses g + mu (w - x) in place of the gradient g; the next model is FedAvg's. mu is multiplied with each
    difference as it is, not divided by the size of a tensor.

    Args:
        mu: strength of the pull, at least 0. With 0 it is FedAvg to the bit.

    Raises:
        OptionError: ``mu`` is out of range.

    Example:
        >>> FedProx(mu=0.5).mu
        0.5
    """

    def __init__(self, mu: float = 0.1) -> None:
        self.mu = checked(self, "mu", mu, least=0)

    def begin(self, client: Client) -> Correction | None:
        """Return the pull towards the received model."""
        return Correction(pull=self.mu, towards=client.received) if self.mu else None
