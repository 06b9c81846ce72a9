"""FedDyn."""

from __future__ import annotations

import numpy as np

from mindfl.algorithms.algorithm import Algorithm, Arrays, Client, Correction, Round, Step, Upload
from mindfl.algorithms.plain_means import COUNT, first_extras, per_sample, sums
from mindfl.algorithms.setting_checks import checked


class FedDyn(Algorithm):
    """Dynamic regularization: a linear term per client makes the clients' optima agree (arXiv 2111.04263).

    A step uses g - h_i + alpha (w - x) in place of the gradient g. After training, with N clients in the job and |S| in
    the round,

        h_i = h_i - alpha (w_i - x)
        h   = h - (alpha / N) sum over the round's clients of (w_i - x)
        x+  = x + (1 / |S|) sum over the round's clients of (w_i - x) - h / alpha

    h and h_i begin with zeros. The means are plain: samples do not count.

    Args:
        alpha: strength of the regularisation, above 0.

    Raises:
        OptionError: ``alpha`` is out of range.

    Example:
        >>> FedDyn(alpha=0.01).alpha
        0.01
    """

    shift_formula = "-h_i"

    def __init__(self, alpha: float = 0.1) -> None:
        self.alpha = checked(self, "alpha", alpha, above=0)

    def extras(self, model: Arrays) -> Arrays:
        """Return places for the clients' updates, for their share of all clients, and for their count."""
        return {**first_extras(model), "share of a client": np.zeros(1)}

    def state(self, model: Arrays) -> Arrays:
        """Return h."""
        return {name: np.zeros(np.size(values)) for name, values in model.items()}

    def begin(self, client: Client) -> Correction:
        """Return the shift by -h_i and the pull towards the received model."""
        shift = {name: -values for name, values in client.memory.items()}
        return Correction(shift=shift, pull=self.alpha, towards=client.received)

    def end(self, client: Client) -> Upload:
        """Return the client's update, and keep h_i."""
        updates = {n: client.trained[n].astype(np.float64) - x for n, x in client.received.items()}
        memory = {n: (client.memory.get(n, 0.0) - self.alpha * d).astype(np.float32) for n, d in updates.items()}
        share = {"share of a client": np.full(1, 1.0 / client.population)}
        return Upload(extras=per_sample(client, {**updates, **share}), memory=memory)

    def step(self, round: Round) -> Step:
        """Return the mean model less h / alpha, and the next h."""
        total = sums(round)
        share = float(total.pop("share of a client")[0]) / round.clients  # 1 / N
        state = {name: round.state[name] - self.alpha * share * total[name] for name in round.model}
        model = {n: x + total[n] / round.clients - state[n] / self.alpha for n, x in round.model.items()}
        return Step(model=model, state=state, extras={COUNT: round.sent[COUNT]})
