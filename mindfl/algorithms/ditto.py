"""Ditto."""

from __future__ import annotations

from mindfl.algorithms.algorithm import Algorithm, Arrays, Client, Correction, Training, Upload
from mindfl.algorithms.setting_checks import checked


class Ditto(Algorithm):
    """Each client also trains a personal model, which is pulled towards the common one (arXiv 2012.04221).

    The common model x is trained as with FedAvg. Before that, in as many epochs, the client trains its own model v_i
    with g + lam (v - x) in place of the gradient g, and keeps it. In a client's first round v_i begins with x. Clients
    are evaluated with v_i; before their first round with x.

    Args:
        lam: strength of the pull, at least 0. With 0 each client trains alone.

    Raises:
        OptionError: ``lam`` is out of range.

    Example:
        >>> Ditto(lam=0.5).lam
        0.5
    """

    def __init__(self, lam: float = 1.0) -> None:
        self.lam = checked(self, "lam", lam, least=0)

    def personal(self, client: Client) -> Arrays | None:
        """Return the client's own model."""
        return client.memory or None

    def personal_training(self, client: Client) -> Training:
        """Return the training of the client's own model."""
        correction = Correction(pull=self.lam, towards=client.received) if self.lam else None
        return Training(start=client.memory, correction=correction)

    def end(self, client: Client) -> Upload:
        """Keep the client's own model."""
        return Upload(memory=client.personal)
