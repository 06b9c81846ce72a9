"""What federated algorithms are compared with: each client alone, and all data in one place."""

from __future__ import annotations

from typing import ClassVar

from mindfl.algorithms.algorithm import Algorithm, Client, Round, Step
from mindfl.algorithms.local_parts import LocalParts


class Local(LocalParts):
    """Each client trains alone: all its weights stay on the device, and nothing is averaged.

    It begins with the starting model, goes on with its own weights whenever it takes part, and is evaluated with them
    on its own test data. The server's model stays the starting one.

    Example:
        >>> vars(Local())
        {}
    """

    def local(self, client: Client) -> list[str]:
        """Return all weights."""
        return list(client.received)

    def step(self, round: Round) -> Step:
        """Keep the model: even the mean of equal weights would be rounded."""
        return Step(model=round.model)


class Centralized(Algorithm):
    """All training samples of all clients lie in one place, and are trained on there as one client trains on its own.

    In each iteration the model is trained on all of them for as many epochs as a client's local ones, by an optimizer
    that begins anew, and then evaluated on each client's test data. A simulation is needed that has the data.

    Example:
        >>> Centralized().pools_data
        True
    """

    pools_data: ClassVar[bool] = True
