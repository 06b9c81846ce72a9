"""q-FedAvg."""

from __future__ import annotations

import numpy as np

from mindfl.algorithms.algorithm import Algorithm, Arrays, Client, Round, Step, Upload
from mindfl.algorithms.plain_means import COUNT, first_extras, per_sample, sums
from mindfl.algorithms.running_statistics import is_statistic
from mindfl.algorithms.setting_checks import checked
from mindfl.errors import OptionError

#: the least loss: 0 has no negative power
_LEAST_LOSS = 1e-10
#: the largest power of a loss that float32 values can still be multiplied with
_MOST = 1e30


class QFedAvg(Algorithm):
    """Clients whose loss is high count for more, so that accuracies differ less between clients (arXiv 1905.10497).

    With F_k the client's mean loss on its training samples at x, before it trains, and L = 1 / lr,

        delta_k = F_k^q L (x - w_k)
        h_k     = q F_k^(q-1) ||L (x - w_k)||^2 + L F_k^q
        x+      = x - sum_k delta_k / sum_k h_k

    Samples do not count. With q = 0 the next model is the plain mean of the clients' models.

    Args:
        q: how much fairness counts, at least 0.

    Raises:
        OptionError: ``q`` is out of range.

    Example:
        >>> QFedAvg(q=2).q
        2.0
    """

    needs_initial_loss = True

    def __init__(self, q: float = 1.0) -> None:
        self.q = checked(self, "q", q, least=0)

    def extras(self, model: Arrays) -> Arrays:
        """Return places for delta_k, h_k and the clients' count."""
        return {**first_extras(model), "h of a client": np.zeros(1)}

    def end(self, client: Client) -> Upload:
        """Return delta_k and h_k."""
        loss, steepness = max(client.initial_loss, _LEAST_LOSS), 1.0 / client.learning_rate
        moves = {n: steepness * (x.astype(np.float64) - client.trained[n]) for n, x in client.received.items()}
        square = sum(float(np.sum(move**2)) for name, move in moves.items() if not is_statistic(name))
        with np.errstate(over="ignore", under="ignore"):
            weight, slope = np.float64(loss) ** self.q, np.float64(loss) ** (self.q - 1)
        h = self.q * slope * square + steepness * weight
        if not weight < _MOST:
            raise OptionError(
                f"the loss of {loss:.4g} to the power of q={self.q:g} is more than an upload can hold",
                hint="choose a smaller q",
            )
        deltas = {name: weight * move for name, move in moves.items()}
        return Upload(extras=per_sample(client, {**deltas, "h of a client": np.full(1, h)}))

    def step(self, round: Round) -> Step:
        """Return x less the quotient of the sums."""
        total = sums(round)
        h = float(total["h of a client"][0])
        if not h > 0:
            raise OptionError(f"no client's loss to the power of q={self.q:g} is above 0", hint="choose a smaller q")
        model = {name: values - total[name] / h for name, values in round.model.items()}
        return Step(model=model, extras={COUNT: round.sent[COUNT]})
