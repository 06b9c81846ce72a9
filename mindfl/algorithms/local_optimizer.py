"""What local training does with its gradients, as far as algorithms must know it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

#: optimizers whose update is a weighted sum of gradients
LINEAR = ("sgd", "momentum")


@dataclass(frozen=True, kw_only=True)
class LocalOptimizer:
    """The optimizer of local training.

    Args:
        name: ``sgd``, ``momentum``, ``adam`` or ``adam_weight_decay``; several of them joined by " and ".
        momentum: factor of the momentum; 0 without.
        nesterov: whether a step looks ahead along the momentum.
        dampening: share of each gradient, after the first, that does not enter the momentum.
    """

    name: str
    momentum: float = 0.0
    nesterov: bool = False
    dampening: float = 0.0

    @property
    def linear(self) -> bool:
        """Whether the update of a training is a weighted sum of its gradients."""
        return self.name in LINEAR

    def norm(self, steps: int) -> float:
        """Return the sum of the factors by which the gradients of so many steps enter the update, for the rate 1.

        For SGD it is the number of steps K, and with momentum m it is [K - m (1 - m^K) / (1 - m)] / (1 - m): the 1-norm
        of arXiv 2007.07481, section 4.

        Args:
            steps: number of steps, at least 1.

        Raises:
            ValueError: the optimizer is not :attr:`linear`, as Adam is not.

        Example:
            >>> LocalOptimizer(name="sgd").norm(10), LocalOptimizer(name="momentum", momentum=0.5).norm(2)
            (10.0, 2.5)
        """
        if not self.linear:
            raise ValueError(f"the updates of {self.name} are no weighted sums of gradients")
        return _norm(self, steps)


@cache
def _norm(optimizer: LocalOptimizer, steps: int) -> float:
    """Return how far so many steps with the gradient 1 go."""
    momentum, velocity, distance = optimizer.momentum, 0.0, 0.0
    if not momentum:
        return float(steps)
    for step in range(steps):
        gradient = 1.0 - (optimizer.dampening if step else 0.0)
        velocity = momentum * velocity + gradient
        distance += 1.0 + momentum * velocity if optimizer.nesterov else velocity
    return distance
