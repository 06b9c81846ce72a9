"""The federated run: one coordinator, an executor of clients, one history row per iteration."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mindfl.errors import SimulationError
from mindfl.server import Coordinator, IterationRecord
from mindfl.sim.config import JobConfig
from mindfl.sim.engines import Weights
from mindfl.sim.executors import Executor
from mindfl.sim.history import ClientAccuracies, IterationRow
from mindfl.sim.pool import server_settings


@dataclass(frozen=True)
class Progress:
    """Clients uploaded: ``clients_done`` of ``clients`` in ``iteration`` of ``iterations``; ``loss`` is the mean over
    those so far."""

    iteration: int
    clients_done: int
    clients: int
    loss: float
    iterations: int


Observer = Callable[[Progress], None]
ExecutorFactory = Callable[[Coordinator], Executor]


class Federation:
    """Runs a job of ``clients`` devices. ``rows()`` yields each iteration's row as it ends; ``model`` is the latest
    aggregated model.

    The result depends on the seed alone: aggregation is exact, every device begins an iteration from the same model,
    and the choice of clients has a generator of its own per iteration.
    """

    def __init__(
        self,
        config: JobConfig,
        initial: Mapping[str, NDArray[np.float32]],
        clients: int,
        executor: ExecutorFactory,
        observer: Observer,
    ) -> None:
        self._config = config
        self._clients = clients
        self._observer = observer
        self._record: IterationRecord | None = None
        self._accuracies = ClientAccuracies.of(())
        settings = server_settings(config, min(config.cohort, clients))
        self._coordinator = Coordinator(settings, initial, on_iteration_end=self._note)
        self._make_executor = executor
        self.iterations = config.iterations

    @property
    def model(self) -> Weights:
        """The latest aggregated model, flat float32 arrays by name."""
        return self._coordinator.model

    def rows(self) -> Generator[IterationRow, None, None]:
        """Run the iterations. Ctrl-C, SIGTERM and errors end the executor before they pass through."""
        executor = self._make_executor(self._coordinator)
        try:
            for iteration in range(1, self.iterations + 1):
                yield self._iterate(executor, iteration)
            executor.finish()
        finally:
            executor.close()

    def _iterate(self, executor: Executor, iteration: int) -> IterationRow:
        begin = time.perf_counter()
        before = executor.traffic
        cohort = self._chosen(iteration)
        done, total = 0, 0.0

        def report(clients: int, loss: float) -> None:
            nonlocal done, total
            done, total = done + clients, total + clients * loss
            self._observer(Progress(iteration, done, len(cohort), total / done, self.iterations))

        results = executor.run_iteration(iteration, cohort, report)
        if self._record is None or self._record.iteration != iteration:
            raise SimulationError(f"iteration {iteration} did not end though all its clients did")
        seconds = time.perf_counter() - begin
        self._accuracies = ClientAccuracies.of(((item.name, item.accuracy) for item in results), like=self._accuracies)
        return IterationRow.measured(
            iteration,
            self._accuracies,
            loss=self._record.loss,
            clients=len(cohort),
            samples=self._record.data_size,
            steps=sum(item.steps for item in results),
            traffic=executor.traffic - before,
            seconds=seconds,
        )

    def _chosen(self, iteration: int) -> Sequence[int]:
        """Return the clients of an iteration, in order: all, or a sample that depends on seed and iteration alone."""
        if self._config.cohort >= self._clients:
            return range(self._clients)
        generator = np.random.default_rng((self._config.seed, iteration))
        return sorted(generator.choice(self._clients, self._config.cohort, replace=False).tolist())

    def _note(self, record: IterationRecord) -> None:
        self._record = record
