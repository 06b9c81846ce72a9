"""APFL."""

from __future__ import annotations

import numpy as np

from mindfl.algorithms.algorithm import Algorithm, Arrays, Client, Correction, Training, Upload
from mindfl.algorithms.setting_checks import checked


class APFL(Algorithm):
    """Each client also trains a personal model, and uses a mixture of it and the common one (arXiv 2003.13461).

    The common model w is trained as with FedAvg, in turn with the client's own model v_i. Both take a step on the same
    batch (algorithm 1 of the paper, with a fixed mixture for all clients and its gradient by v_i):

        w   = w   - lr g(w)
        v_i = v_i - lr alpha g(alpha v_i + (1 - alpha) w), with w before its step

    v_i is kept, and begins with the received model x in the client's first round. Clients are evaluated with
    alpha v_i + (1 - alpha) x; before their first round with x. With momentum or Adam each model has an optimizer of its
    own, which gets the gradient above.

    Args:
        alpha: share of the client's own model, from 0 to 1. With 0 it is FedAvg; with 1 each client is evaluated with a
            model that it trains alone.

    Raises:
        OptionError: ``alpha`` is out of range.

    Example:
        >>> APFL(alpha=0.25).alpha
        0.25
    """

    def __init__(self, alpha: float = 0.5) -> None:
        self.alpha = checked(self, "alpha", alpha, least=0, most=1)

    def personal(self, client: Client) -> Arrays | None:
        """Return the mixture of the client's own model and the received one."""
        own, rest = np.float32(self.alpha), np.float32(1) - np.float32(self.alpha)
        return {name: own * v + rest * client.received[name] for name, v in client.memory.items()} or None

    def personal_training(self, client: Client) -> Training:
        """Return the training of the client's own model, in turn with the common one."""
        return Training(start=client.memory, correction=Correction(scale=self.alpha), share=self.alpha)

    def end(self, client: Client) -> Upload:
        """Keep the client's own model."""
        return Upload(memory=client.personal)
