"""FedCM."""

from __future__ import annotations

import numpy as np

from mindfl.algorithms.algorithm import Algorithm, Arrays, Client, Correction, Round, Step, Upload, zeros_like
from mindfl.algorithms.setting_checks import checked


class FedCM(Algorithm):
    """Client momentum: local steps go partly in the direction of the last round (arXiv 2106.10874).

    A step uses alpha g + (1 - alpha) D in place of the gradient g. D begins with zeros; after each round it is the mean
    of (x - w_i) / (lr A), weighted by samples: the mean of what steps used in place of gradients. A is the sum of the
    factors by which these enter a client's update (:meth:`mindfl.algorithms.LocalOptimizer.norm`): the number of steps
    for SGD, more with momentum. Adam has no such number, and is refused. The next model is FedAvg's.

    Args:
        alpha: share of the client's own gradient, above 0 and at most 1. With 1 it is FedAvg.

    Raises:
        OptionError: ``alpha`` is out of range.

    Example:
        >>> FedCM(alpha=0.2).alpha
        0.2
    """

    needs_linear_optimizer = True
    shift_formula = "(1 - alpha) D"

    def __init__(self, alpha: float = 0.1) -> None:
        self.alpha = checked(self, "alpha", alpha, above=0, most=1)

    def extras(self, model: Arrays) -> Arrays:
        """Return D."""
        return zeros_like(model)

    def begin(self, client: Client) -> Correction:
        """Return the mixture of gradient and D."""
        shift = {name: (1 - self.alpha) * client.extras[name] for name in client.received}
        return Correction(scale=self.alpha, shift=shift)

    def end(self, client: Client) -> Upload:
        """Return the mean of what the steps used in place of gradients."""
        divisor = client.learning_rate * client.optimizer.norm(client.steps)
        return Upload(
            extras={n: (x.astype(np.float64) - client.trained[n]) / divisor for n, x in client.received.items()}
        )

    def step(self, round: Round) -> Step:
        """Return FedAvg's model and the next D."""
        return Step(model=round.average, extras=round.extras)
