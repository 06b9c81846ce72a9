"""Server optimizers: FedAvg with a rate, FedAvgM, FedAdagrad, FedAdam and FedYogi take the mean update as a gradient.

With D = average - x, where x is the model that the clients began with and the average is weighted by their samples:

    FedAvg                                               x + eta D
    FedAvgM      m = beta1 m + D                         x + eta m
    FedAdagrad   v = v + D^2                             x + eta D / (sqrt(v) + tau)
    FedAdam      m = beta1 m + (1 - beta1) D
                 v = beta2 v + (1 - beta2) D^2           x + eta m / (sqrt(v) + tau)
    FedYogi      v = v - (1 - beta2) D^2 sign(v - D^2)   otherwise as FedAdam

m and v begin with zeros, and there is no bias correction (arXiv 2003.00295, algorithm 2; FedAvgM: arXiv 1909.06335).
All of it is calculated in float64; the next model is rounded to float32 once.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
from numpy.typing import NDArray

from mindfl.algorithms.algorithm import Algorithm, Arrays, Round, Step
from mindfl.algorithms.setting_checks import checked

Floats = NDArray[np.float64]
Moments = dict[str, Floats]


class ServerOptimizer(Algorithm, ABC):
    """What the server optimizers have in common: ``moments`` of each weight, and a move that follows from them."""

    eta: float
    #: what the state holds of each weight
    moments: tuple[str, ...]

    @abstractmethod
    def move(self, update: Floats, moments: Moments) -> tuple[Floats, Moments]:
        """Return how a weight moves, and its next moments, from the mean update and the present ones."""

    def state(self, model: Arrays) -> Arrays:
        """Return zeros for each moment of each weight."""
        return {f"{moment}/{name}": np.zeros(np.size(w)) for moment in self.moments for name, w in model.items()}

    def step(self, round: Round) -> Step:
        """Return the model moved by what :meth:`move` makes of the mean update."""
        model: dict[str, Floats] = {}
        state: dict[str, Floats] = {}
        for name, before in round.model.items():
            average = round.average[name].astype(np.float64)
            update = average - before
            kept = {moment: round.state[f"{moment}/{name}"] for moment in self.moments}
            move, moments = self.move(update, kept)
            model[name] = average + (move - update)  # the average itself, to the bit, where the move is the update
            state.update({f"{moment}/{name}": values for moment, values in moments.items()})
        return Step(model=model, state=state)


class FedAvg(ServerOptimizer):
    """Federated averaging (arXiv 1602.05629), with a server learning rate.

    Args:
        eta: server's learning rate, above 0. With 1 the next model is the average itself.

    Raises:
        OptionError: ``eta`` is out of range.

    Example:
        >>> FedAvg().is_fedavg, FedAvg(eta=0.5).is_fedavg
        (True, False)
    """

    moments = ()

    def __init__(self, eta: float = 1.0) -> None:
        self.eta = checked(self, "eta", eta, above=0)

    @property
    def is_fedavg(self) -> bool:
        """Whether it is plain federated averaging: the next model is the average, and no subclass replaces a method."""
        return type(self) is FedAvg and self.eta == 1

    def move(self, update: Floats, moments: Moments) -> tuple[Floats, Moments]:
        """Return the mean update, scaled."""
        return self.eta * update, {}


class FedAvgM(ServerOptimizer):
    """FedAvg with momentum on the server (arXiv 1909.06335).

    Args:
        eta: server's learning rate, above 0.
        beta1: momentum, at least 0 and below 1. With ``eta`` 1 and ``beta1`` 0 it is FedAvg to the bit.
        beta: another name of ``beta1``.

    Raises:
        OptionError: a setting is out of range.

    Example:
        >>> FedAvgM(beta1=0.5).beta1
        0.5
    """

    moments = ("momentum",)

    def __init__(self, eta: float = 1.0, beta1: float = 0.9, *, beta: float | None = None) -> None:
        self.eta = checked(self, "eta", eta, above=0)
        self.beta1 = checked(self, "beta1", beta1 if beta is None else beta, least=0, below=1)

    def move(self, update: Floats, moments: Moments) -> tuple[Floats, Moments]:
        """Return the step along the momentum."""
        momentum = self.beta1 * moments["momentum"] + update
        return self.eta * momentum, {"momentum": momentum}


class FedAdagrad(ServerOptimizer):
    """Adagrad on the server (arXiv 2003.00295).

    Args:
        eta: server's learning rate, above 0.
        tau: added to the root of the second moment, above 0.

    Raises:
        OptionError: a setting is out of range.

    Example:
        >>> FedAdagrad(eta=0.1).tau
        0.001
    """

    moments = ("variance",)

    def __init__(self, eta: float = 0.01, tau: float = 1e-3) -> None:
        self.eta = checked(self, "eta", eta, above=0)
        self.tau = checked(self, "tau", tau, above=0)

    def move(self, update: Floats, moments: Moments) -> tuple[Floats, Moments]:
        """Return the step along the update, shorter where updates were large."""
        variance = moments["variance"] + update**2
        return self.eta * update / (np.sqrt(variance) + self.tau), {"variance": variance}


class FedAdam(ServerOptimizer):
    """Adam on the server, without bias correction (arXiv 2003.00295).

    Args:
        eta: server's learning rate, above 0.
        beta1: decay of the first moment, at least 0 and below 1.
        beta2: decay of the second moment, at least 0 and below 1.
        tau: added to the root of the second moment, above 0.

    Raises:
        OptionError: a setting is out of range.

    Example:
        >>> FedAdam(eta=0.1).beta2
        0.99
    """

    moments = ("mean", "variance")

    def __init__(self, eta: float = 0.01, beta1: float = 0.9, beta2: float = 0.99, tau: float = 1e-3) -> None:
        self.eta = checked(self, "eta", eta, above=0)
        self.beta1 = checked(self, "beta1", beta1, least=0, below=1)
        self.beta2 = checked(self, "beta2", beta2, least=0, below=1)
        self.tau = checked(self, "tau", tau, above=0)

    def move(self, update: Floats, moments: Moments) -> tuple[Floats, Moments]:
        """Return the step along the first moment, divided by the root of the second."""
        mean = self.beta1 * moments["mean"] + (1 - self.beta1) * update
        variance = self.second_moment(moments["variance"], update**2)
        return self.eta * mean / (np.sqrt(variance) + self.tau), {"mean": mean, "variance": variance}

    def second_moment(self, variance: Floats, square: Floats) -> Floats:
        """Return the next second moment."""
        return self.beta2 * variance + (1 - self.beta2) * square


class FedYogi(FedAdam):
    """FedAdam, whose second moment changes by a share of the squared update (arXiv 2003.00295).

    Example:
        >>> FedYogi(eta=0.1).beta1
        0.9
    """

    def second_moment(self, variance: Floats, square: Floats) -> Floats:
        """Return the next second moment."""
        return variance - (1 - self.beta2) * square * np.sign(variance - square)
