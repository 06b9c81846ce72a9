"""FedNova."""

from __future__ import annotations

import numpy as np

from mindfl.algorithms.algorithm import Algorithm, Arrays, Client, Round, Step, Upload, zeros_like


class FedNova(Algorithm):
    """Normalized averaging: each update is divided by its effective number of steps (arXiv 2007.07481).

    With p_i the client's share of the samples and a_i the sum of the factors by which the gradients of its steps enter
    its update (:meth:`mindfl.algorithms.LocalOptimizer.norm`), the next model is

        x + (sum_i p_i a_i) sum_i p_i (w_i - x) / a_i

    Adam has no such number, and is refused.

    Example:
        >>> FedNova().needs_linear_optimizer
        True
    """

    needs_linear_optimizer = True

    def extras(self, model: Arrays) -> Arrays:
        """Return places for the normalised updates and for a_i."""
        return {**zeros_like(model), "norm of a client": np.zeros(1)}

    def end(self, client: Client) -> Upload:
        """Return the normalised update and a_i."""
        norm = client.optimizer.norm(client.steps)
        updates = {n: (client.trained[n].astype(np.float64) - x) / norm for n, x in client.received.items()}
        return Upload(extras={**updates, "norm of a client": np.full(1, norm)})

    def step(self, round: Round) -> Step:
        """Return the model that moved by the rescaled mean of the normalised updates."""
        norm = float(round.extras["norm of a client"][0])
        return Step(model={n: x + norm * round.extras[n].astype(np.float64) for n, x in round.model.items()})
