"""SCAFFOLD."""

from __future__ import annotations

import numpy as np

from mindfl.algorithms.algorithm import Algorithm, Arrays, Client, Correction, Round, Step, Upload
from mindfl.algorithms.plain_means import COUNT, first_extras, per_sample, sums

_ZERO = np.float32(0)


class Scaffold(Algorithm):
    """Control variates correct client drift in every local step (arXiv 1910.06378, option II).

    A step uses g + c - c_i in place of the gradient g. After training, with local rate lr,

        c_i+ = c_i - c + (x - w_i) / (lr A)
        c+   = c + (1/N) sum over the round's clients of (c_i+ - c_i)

    c and c_i begin with zeros, and N counts all clients of the job. The next model is FedAvg's. A is the sum of the
    factors by which the gradients of the steps enter the update (:meth:`mindfl.algorithms.LocalOptimizer.norm`): the
    number of steps for SGD, more with momentum. Adam has no such number, and is refused.

    Example:
        >>> Scaffold().needs_linear_optimizer
        True
    """

    needs_linear_optimizer = True
    shift_formula = "c - c_i"

    def extras(self, model: Arrays) -> Arrays:
        """Return c, and a place for the clients' count."""
        return first_extras(model)

    def begin(self, client: Client) -> Correction:
        """Return the shift c - c_i."""
        return Correction(shift={n: client.extras[n] - client.memory.get(n, _ZERO) for n in client.received})

    def end(self, client: Client) -> Upload:
        """Return how c_i changes, and keep its new value."""
        divisor = client.learning_rate * client.optimizer.norm(client.steps)
        changes, memory = {}, {}
        for name, received in client.received.items():
            drift = (received.astype(np.float64) - client.trained[name]) / divisor
            changes[name] = drift - client.extras[name]
            memory[name] = (client.memory.get(name, 0.0) + changes[name]).astype(np.float32)
        per_client = {name: change / client.population for name, change in changes.items()}
        return Upload(extras=per_sample(client, per_client), memory=memory)

    def step(self, round: Round) -> Step:
        """Return FedAvg's model and the next c."""
        changes = sums(round)
        extras = {name: round.sent[name] + change for name, change in changes.items()}
        return Step(model=round.average, extras={**extras, COUNT: round.sent[COUNT]})


class ScaffoldNIID(Algorithm):
    """SCAFFOLD as NIID-Bench and Flower's niid_bench compute it, to compare with their tables (arXiv 2102.02079).

    It is another algorithm than :class:`Scaffold` where clients train with momentum: c - c_i stays outside of it. After
    each step of the optimizer w moves by -lr (c - c_i), and after K steps

        c_i+ = c_i - c + (x - w_i) / (lr K)
        c+   = c + (|S|/N) sum over the round's clients S of p_i (c_i+ - c_i)

    c begins with the model of the first round, c_i with the one that the client receives first. p_i is a client's share
    of the round's samples. The next model is FedAvg's.

    Example:
        >>> ScaffoldNIID().needs_linear_optimizer
        False
    """

    move_formula = "-lr (c - c_i)"

    def extras(self, model: Arrays) -> Arrays:
        """Return c."""
        return model

    def begin(self, client: Client) -> Correction:
        """Return the move by -lr (c - c_i) after each step."""
        own, rate = client.memory or client.received, client.learning_rate
        return Correction(after={name: (own[name] - c) * np.float32(rate) for name, c in client.extras.items()})

    def end(self, client: Client) -> Upload:
        """Return how c_i changes, and keep its new value."""
        changes, memory, own = {}, {}, client.memory or client.received
        for name, received in client.received.items():
            drift = (received.astype(np.float64) - client.trained[name]) / (client.learning_rate * client.steps)
            changes[name] = (drift - client.extras[name]) / client.population
            memory[name] = (own[name] + drift - client.extras[name]).astype(np.float32)
        return Upload(extras=changes, memory=memory)

    def step(self, round: Round) -> Step:
        """Return FedAvg's model and the next c."""
        extras = {name: c + round.clients * round.extras[name].astype(np.float64) for name, c in round.sent.items()}
        return Step(model=round.average, extras=extras)
