"""What the tutorial publishes about its experiments, to set a run beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from mindfl.sim.metrics import Accuracy


@dataclass(frozen=True, kw_only=True)
class Published:
    """An experiment and its curve. Accuracies are 0..1, each of the aggregated model on the clients' test data.

    Attributes:
        clients, servers, iterations, epochs, batch_size: the experiment's setting.
        learning_rate, momentum: of MindSpore Federated 0.1.0's LeNet client, whose optimizer is Momentum.
        avg_at: mean accuracy of all clients at some iterations.
        window: number of last iterations that ``last`` is the mean of.
        plateau: iterations at the start during which the model stays at chance.
    """

    clients: int
    servers: int
    iterations: int
    epochs: int
    batch_size: int
    learning_rate: float
    momentum: float
    avg_at: Mapping[int, float]
    window: int
    last: Accuracy
    plateau: int

    @property
    def last_iterations(self) -> range:
        """The iterations that ``last`` is the mean of."""
        return range(self.iterations - self.window + 1, self.iterations + 1)


#: the tutorial's section 5 and its figure; the values of the curves are read off that figure
FEMNIST50 = Published(
    clients=50,
    servers=16,
    iterations=100,
    epochs=20,
    batch_size=32,
    learning_rate=0.01,
    momentum=0.9,
    avg_at=MappingProxyType({20: 0.551, 50: 0.672, 80: 0.701}),
    window=10,
    last=Accuracy(avg=0.726, top5=0.927, low5=0.485),
    plateau=10,
)

#: name -> experiment
EXPERIMENTS = {"femnist50": FEMNIST50}
