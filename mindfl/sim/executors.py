"""Executors let simulated clients take part in an iteration: the interface, and threads of this process."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Protocol

from mindfl.client import ClientConfig, InProcessTransport, MeteredTransport, Traffic
from mindfl.client.conversation import model_request, received_weights
from mindfl.errors import SimulationError
from mindfl.protocol import ResponseGetModel
from mindfl.server import Coordinator
from mindfl.sim.client_memory import Memories
from mindfl.sim.client_pool import ClientPool
from mindfl.sim.engines import Weights
from mindfl.sim.evaluation import Measured
from mindfl.sim.participant import ClientResult, now_ms

#: is called with the number of further clients that uploaded, and their mean loss
Report = Callable[[int, float], None]


class Executor(Protocol):
    """Lets clients take part in an iteration of a coordinator."""

    @property
    def traffic(self) -> Traffic:
        """What clients and coordinator exchanged so far."""

    def run_iteration(
        self, iteration: int, indices: Sequence[int], report: Report, memories: Memories
    ) -> list[ClientResult]:
        """Let the clients with these indices take part in the running iteration; return their results in order.

        ``memories`` are what clients remember of the iterations before. Of this one they get the algorithms' arrays
        here; the values of the upload modes are in the results.
        """

    def evaluate(self, iteration: int, indices: Sequence[int], memories: Memories) -> list[Measured]:
        """Return the accuracy of an ended iteration's model on these clients' test data, in order.

        ``memories`` are what the clients remember.
        """

    def evaluate_central(self, iteration: int) -> list[Measured]:
        """Return the accuracy of an ended iteration's model on each part of the central test set."""

    def finish(self) -> None:
        """Let the clients end their jobs after the last iteration."""

    def close(self) -> None:
        """End threads and other processes; safe at any time."""


def given_model(coordinator: Coordinator, iteration: int) -> Weights:
    """Return the model of an ended iteration as clients receive it, quantised if downloads are."""
    response = coordinator.handle(model_request(ClientConfig(name="", fl_id=""), iteration, now_ms()), now_ms())
    model = received_weights(response) if isinstance(response, ResponseGetModel) else None
    if not model:
        raise SimulationError(f"the coordinator does not give the model of iteration {iteration} away")
    return model


class LocalExecutor:
    """Runs all clients in this process; they call the coordinator directly, or talk to it over HTTP on this machine."""

    def __init__(self, coordinator: Coordinator, pool: ClientPool, *, http: bool = False) -> None:
        self._coordinator = coordinator
        self._pool = pool
        self._open = ExitStack()
        self._transport: MeteredTransport = self._served(coordinator) if http else InProcessTransport(coordinator)

    @property
    def traffic(self) -> Traffic:
        """What was exchanged so far."""
        return self._transport.traffic

    def run_iteration(
        self, iteration: int, indices: Sequence[int], report: Report, memories: Memories
    ) -> list[ClientResult]:
        """Train, upload, fetch and evaluate."""
        self._pool.memories = memories
        self._pool.advance(indices, self._transport, lambda loss: report(1, loss))
        return self._pool.end_iteration(indices, self._transport, lambda loss: report(1, loss))

    def evaluate(self, iteration: int, indices: Sequence[int], memories: Memories) -> list[Measured]:
        """Evaluate what the clients would get from the coordinator."""
        self._pool.memories = memories
        return self._pool.evaluate(iteration, given_model(self._coordinator, iteration), indices)

    def evaluate_central(self, iteration: int) -> list[Measured]:
        """Evaluate what clients would get from the coordinator."""
        parts = range(len(self._pool.central))
        return self._pool.evaluate_central(iteration, given_model(self._coordinator, iteration), parts)

    def finish(self) -> None:
        """Let every device end its job."""
        self._pool.finish(self._transport)

    def close(self) -> None:
        """Stop the threads, and the server if there is one."""
        self._pool.close()
        self._open.close()

    def _served(self, coordinator: Coordinator) -> MeteredTransport:
        from mindfl.client import HttpSettings, HttpTransport
        from mindfl.server.http import BackgroundServer

        server = self._open.enter_context(BackgroundServer(coordinator))
        settings = HttpSettings(url=server.url, connections=self._pool.workers)
        return self._open.enter_context(HttpTransport(settings))
