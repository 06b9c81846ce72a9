"""FedExP."""

from __future__ import annotations

import numpy as np

from mindfl.algorithms.algorithm import Algorithm, Arrays, Client, Round, Step, Upload
from mindfl.algorithms.plain_means import COUNT, per_sample, sums
from mindfl.algorithms.running_statistics import is_statistic
from mindfl.algorithms.setting_checks import checked


class FedExP(Algorithm):
    """The server's step grows where the clients' updates disagree (arXiv 2301.09604).

    x moves by eta D, where D is the mean update weighted by samples, and with n clients of updates d_i

        eta = max(1, sum_i ||d_i||^2 / (2 n (||D||^2 + eps)))

    Args:
        eps: keeps eta finite, above 0.

    Raises:
        OptionError: ``eps`` is out of range.

    Example:
        >>> FedExP().eps
        0.001
    """

    def __init__(self, eps: float = 1e-3) -> None:
        self.eps = checked(self, "eps", eps, above=0)

    def extras(self, model: Arrays) -> Arrays:
        """Return places for the clients' squared norms and their count."""
        return {"square": np.zeros(1), COUNT: np.zeros(1)}

    def end(self, client: Client) -> Upload:
        """Return the squared norm of the client's update."""
        return Upload(extras=per_sample(client, {"square": np.full(1, _square(client.trained, client.received))}))

    def step(self, round: Round) -> Step:
        """Return the model that moved by eta D."""
        mean = sums(round)["square"][0] / round.clients
        eta = max(1.0, mean / (2 * (_square(round.average, round.model) + self.eps)))
        model = {n: w + eta * (round.average[n].astype(np.float64) - w) for n, w in round.model.items()}
        return Step(model=model if eta > 1 else round.average)


def _square(new: Arrays, old: Arrays) -> float:
    trained = (name for name in old if not is_statistic(name))
    return float(sum(np.sum((new[name].astype(np.float64) - old[name]) ** 2) for name in trained))
