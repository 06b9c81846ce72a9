"""The federated run: one coordinator, an executor of clients, one history row per iteration."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mindfl.algorithms.naming import make_algorithm
from mindfl.algorithms.server import marked, split
from mindfl.errors import SimulationError
from mindfl.server import Coordinator, IterationRecord
from mindfl.server.state import JobState
from mindfl.sim.config import JobConfig
from mindfl.sim.engines import Weights
from mindfl.sim.evaluation import Evaluation
from mindfl.sim.executors import Executor
from mindfl.sim.history import ClientAccuracies, IterationRow
from mindfl.sim.memories import Memories
from mindfl.sim.pool import ClientResult, server_settings
from mindfl.sim.run_state import RunState


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
#: parts of the values and arrays of a state: the clients' memories, what the algorithm sends, and its state
_CLIENTS, _SENT, _SERVER = "clients", "sent", "server"
ExecutorFactory = Callable[[Coordinator], Executor]


class Federation:
    """Runs a job of ``clients`` devices. ``rows()`` yields each iteration's row as it ends; ``model`` is the latest
    aggregated model.

    ``start`` is the state to go on from; None: the job begins with ``initial``.

    The result depends on the seed alone: aggregation is exact, every device begins an iteration from the same model,
    and the choice of clients has a generator of its own per iteration.
    """

    resumable = True
    stepwise = True

    def __init__(
        self,
        config: JobConfig,
        initial: Mapping[str, NDArray[np.float32]],
        clients: int,
        executor: ExecutorFactory,
        observer: Observer,
        start: RunState | None = None,
    ) -> None:
        self._evaluation = Evaluation(config.evaluate, config.evaluate_every or 1)
        self._config = config
        self._clients = clients
        self._observer = observer
        self._record: IterationRecord | None = None
        self._accuracies = ClientAccuracies.of(())
        settings = server_settings(config, min(config.cohort, clients))
        self._first = 1 if start is None else start.iteration + 1
        state = None
        if start is not None:
            sent = {**start.weights, **marked(_part(start.arrays, _SENT))}
            arrays = _part(start.arrays, _SERVER)
            state = JobState(settings, "", self._first, True, {start.iteration: sent}, arrays=arrays)
        self._coordinator = Coordinator(
            settings,
            initial,
            on_iteration_end=self._note,
            state=state,
            algorithm=make_algorithm(config.algorithm),
        )
        self._make_executor = executor
        self._memories = Memories()
        if start is not None:
            self._memories = Memories(start.values.get(_CLIENTS, {}), _part(start.arrays, _CLIENTS))
        self.iterations = config.iterations

    @property
    def model(self) -> Weights:
        """The latest aggregated model, flat float32 arrays by name."""
        return self._coordinator.model

    @property
    def values(self) -> dict[str, Any]:
        """The plain values of the state after the latest iteration, beside the model."""
        kept = self._memories.values
        return {_CLIENTS: kept} if kept else {}

    @property
    def arrays(self) -> dict[str, NDArray[Any]]:
        """The arrays of the state after the latest iteration, beside the model: the algorithm's, and the clients'."""
        parts = {
            _SENT: split(self._coordinator.exchanged)[1],
            _SERVER: self._coordinator.arrays,
            _CLIENTS: self._memories.arrays,
        }
        return {f"{part}/{name}": array for part, arrays in parts.items() for name, array in arrays.items()}

    def rows(self) -> Generator[IterationRow, None, None]:
        """Run the iterations. Ctrl-C, SIGTERM and errors end the executor before they pass through."""
        executor = self._make_executor(self._coordinator)
        try:
            for iteration in range(self._first, self.iterations + 1):
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

        results = executor.run_iteration(iteration, cohort, report, self._memories)
        for index, item in zip(cohort, results, strict=True):
            self._memories[index] = item.memory
        if self._record is None or self._record.iteration != iteration:
            raise SimulationError(f"iteration {iteration} did not end though all its clients did")
        if self._record.error is not None:
            raise self._record.error
        measured = self._measured(iteration, cohort)
        accuracies = self._accuracies_of(executor, iteration, cohort, results) if measured else ClientAccuracies.of(())
        return IterationRow.ended(
            iteration,
            accuracies,
            measured=measured,
            aggregated=self._record.valid,
            loss=self._record.loss,
            clients=len(cohort),
            samples=self._record.data_size,
            steps=sum(item.steps for item in results),
            traffic=executor.traffic - before,
            seconds=time.perf_counter() - begin,
        )

    def _measured(self, iteration: int, cohort: Sequence[int]) -> str:
        """Return whose accuracies the row of ``iteration`` holds; empty where it is not evaluated."""
        if not self._evaluation.due(iteration, self.iterations):
            return ""
        return "all" if len(cohort) == self._clients else self._evaluation.clients

    def _accuracies_of(
        self, executor: Executor, iteration: int, cohort: Sequence[int], results: Sequence[ClientResult]
    ) -> ClientAccuracies:
        """Return the accuracies of the drawn clients, and of all others where these are evaluated too."""
        found = {index: (item.name, item.accuracy) for index, item in zip(cohort, results, strict=True)}
        if self._evaluation.clients == "all":
            others = [index for index in range(self._clients) if index not in found]
            found.update(zip(others, executor.evaluate(iteration, others), strict=True))
        self._accuracies = ClientAccuracies.of((found[index] for index in sorted(found)), like=self._accuracies)
        return self._accuracies

    def _chosen(self, iteration: int) -> Sequence[int]:
        """Return the clients of an iteration, in order: all, or a sample that depends on seed and iteration alone."""
        if self._config.cohort >= self._clients:
            return range(self._clients)
        generator = np.random.default_rng((self._config.seed, iteration))
        return sorted(generator.choice(self._clients, self._config.cohort, replace=False).tolist())

    def _note(self, record: IterationRecord) -> None:
        self._record = record


def _part(arrays: Mapping[str, NDArray[Any]], part: str) -> dict[str, NDArray[Any]]:
    return {name[len(part) + 1 :]: array for name, array in arrays.items() if name.startswith(f"{part}/")}
