"""FedPer and FedBN: some of the weights stay on the device."""

from __future__ import annotations

from abc import ABC, abstractmethod

from mindfl.algorithms.algorithm import Algorithm, Arrays, Client, Upload
from mindfl.algorithms.running_statistics import STATISTICS
from mindfl.algorithms.setting_checks import whole
from mindfl.errors import OptionError


class LocalParts(Algorithm, ABC):
    """Federated averaging of all weights but some, of which each client has its own.

    A client begins its first round with the received ones. What it uploads for them are the received values, so the
    server's never change.
    """

    @abstractmethod
    def local(self, client: Client) -> list[str]:
        """Return the names of the weights that stay on the device. Raises :class:`OptionError` if there are none."""

    def start(self, client: Client) -> Arrays | None:
        """Return the client's own weights."""
        self.local(client)
        return client.memory or None

    def end(self, client: Client) -> Upload:
        """Keep the client's own weights, and upload the received ones for them."""
        names = self.local(client)
        return Upload(
            memory={name: client.trained[name] for name in names},
            weights={name: client.received[name] for name in names},
        )


class FedPer(LocalParts):
    """Personal last layers; the others are averaged (arXiv 1912.00818).

    Args:
        layers: number of the last layers that stay on the device, at least 1 and fewer than the network has.

    Raises:
        OptionError: ``layers`` is no such number.

    Example:
        >>> FedPer(layers=2).layers
        2
    """

    def __init__(self, layers: int = 1) -> None:
        self.layers = whole(self, "layers", layers)

    def local(self, client: Client) -> list[str]:
        """Return the weights of the last layers."""
        if self.layers >= len(client.layers):
            raise OptionError(
                f"layers is {self.layers}: the network has {len(client.layers)}, and one at least must be shared"
            )
        own = client.layers[-self.layers :]
        return [name for name in client.received if name.rpartition(".")[0] in own]


class FedBN(LocalParts):
    """Personal BatchNorm layers, with their statistics; the others are averaged (arXiv 2102.07623).

    Example:
        >>> vars(FedBN())
        {}
    """

    def local(self, client: Client) -> list[str]:
        """Return the parameters of BatchNorm layers, by MindSpore's names."""
        ends = ("gamma", "beta", *STATISTICS)
        names = [name for name in client.received if name.rpartition(".")[2] in ends]
        if not names:
            raise OptionError("the network has no BatchNorm layer", hint="use fedper, or fedavg")
        return names
