"""A run whose server is in this process: a sampler chooses the clients, and an executor lets them take part."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mindfl.algorithms.naming import make_algorithm
from mindfl.algorithms.sampler import cohort
from mindfl.algorithms.server_algorithm import marked, split
from mindfl.client import Traffic
from mindfl.errors import SimulationError
from mindfl.extensions import RESUME_HINT
from mindfl.server import Coordinator, IterationRecord, ServerState
from mindfl.server.state import JobState
from mindfl.sim.callbacks import Progress
from mindfl.sim.client_memory import StoredMemories
from mindfl.sim.config import JobConfig
from mindfl.sim.engines import Weights
from mindfl.sim.evaluation import Evaluated, Evaluation
from mindfl.sim.executors import Executor
from mindfl.sim.participant import now_ms
from mindfl.sim.round_loop import Aggregated, TrainedRound
from mindfl.sim.run_state import RunState, plain_values
from mindfl.sim.upload_mode import server_settings

Observer = Callable[[Progress], None]
ExecutorFactory = Callable[[Coordinator], Executor]
#: parts of the values and arrays of a state: the clients' memories, the sampler's state, what the algorithm sends, and
#: the algorithm's state
_CLIENTS, _SAMPLER, _SENT, _SERVER = "clients", "sampler", "sent", "server"


class EmbeddedRun:
    """The run of a job of ``clients`` devices; see :class:`~mindfl.sim.round_loop.Run`.

    ``start`` is the state to continue from; None: the job begins with ``initial``.

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
        self._seed, self._sampler = config.seed, config.chooser
        self._clients = clients
        self._observer = observer
        self._record: IterationRecord | None = None
        self._rate = math.nan
        self._accuracies: Mapping[str, float] = {}
        settings = server_settings(config, min(config.cohort, clients))
        self.first, self.iterations = 1 if start is None else start.iteration + 1, config.iterations
        state = None
        if start is not None:
            sent = {**start.weights, **marked(_part(start.arrays, _SENT))}
            arrays = _part(start.arrays, _SERVER)
            state = JobState(settings, "", self.first, True, {start.iteration: sent}, arrays=arrays)
        self._coordinator = Coordinator(
            settings,
            initial,
            on_iteration_end=self._note,
            state=state,
            algorithm=make_algorithm(config.algorithm),
            lr_schedule=config.lr_schedule,
        )
        self._make_executor = executor
        values, kept = ({}, {}) if start is None else (start.values, _part(start.arrays, _CLIENTS))
        self._memories = StoredMemories(config.work_dir, initial, values.get(_CLIENTS, {}), kept)
        self._sampler_state: dict[str, Any] = dict(values.get(_SAMPLER, {}))

    @property
    def model(self) -> Weights:
        """The latest aggregated model, flat float32 arrays by name."""
        return self._coordinator.model

    @property
    def values(self) -> dict[str, Any]:
        """What clients and sampler remember after the latest round."""
        kept = {_CLIENTS: self._memories.values, _SAMPLER: self._sampler_state}
        return {name: value for name, value in kept.items() if value}

    @property
    def arrays(self) -> dict[str, NDArray[Any]]:
        """The arrays of the state after the latest round, beside the model: the algorithm's, and the list of the files
        that clients' are in."""
        parts = {
            _SENT: split(self._coordinator.job.exchanged)[1],
            _SERVER: self._coordinator.job.arrays,
            _CLIENTS: self._memories.arrays,
        }
        return {f"{part}/{name}": array for part, arrays in parts.items() for name, array in arrays.items()}

    def saved(self, iteration: int) -> None:
        """Remove the memories of clients that only earlier states need."""
        self._memories.saved(iteration)

    @property
    def traffic(self) -> Traffic:
        """What clients and server have exchanged so far."""
        return self._executor.traffic

    def choose(self, iteration: int) -> Sequence[int]:
        """Let the sampler choose, and tell the server how many clients there will be.

        Raises :class:`SimulationError` where the round has no learning rate.
        """
        if fault := self._coordinator.job.rate_fault:
            raise SimulationError(fault, hint=RESUME_HINT)
        self._rate = self._coordinator.job.plan.lr
        chosen = cohort(
            self._sampler, clients=self._clients, iteration=iteration, seed=self._seed, state=self._sampler_state
        )
        owner = f"sampler {type(self._sampler).__name__} in iteration {iteration}"
        self._sampler_state = plain_values(self._sampler_state, owner)
        self._coordinator.job.set_cohort(len(chosen), now_ms())
        return chosen

    def train(self, iteration: int, cohort: Sequence[int] | None) -> TrainedRound:
        """Let the cohort take part, on all workers at once."""
        assert cohort is not None
        done, total = 0, 0.0

        def report(clients: int, loss: float) -> None:
            nonlocal done, total
            done, total = done + clients, total + clients * loss
            self._observer(Progress(iteration, done, len(cohort), total / done, self.iterations))

        results = self._executor.run_iteration(iteration, cohort, report, self._memories)
        for index, item in zip(cohort, results, strict=True):
            self._memories.note(index, item.remembered)
        by_client = dict(zip(cohort, results, strict=True))
        return TrainedRound(iteration=iteration, results=by_client, learning_rate=self._rate)

    def aggregate(self, trained: TrainedRound) -> Aggregated:
        """Return what the server's record says."""
        record = self._record
        if record is None or record.iteration != trained.iteration:
            raise SimulationError(f"iteration {trained.iteration} did not end though all its clients did")
        if record.error is not None:
            raise record.error
        loss = record.loss if record.uploads else math.nan
        return Aggregated(valid=record.valid, loss=loss, samples=record.data_size)

    def evaluate(self, trained: TrainedRound) -> Evaluated:
        """Return the accuracies of the cohort, and of all others or the central test set where these are evaluated."""
        iteration, results = trained.iteration, trained.results
        whose = self._evaluation.whose
        if not self._evaluation.due(iteration, self.iterations):
            return Evaluated()
        if whose == "central":
            return Evaluated.of_central(self._executor.evaluate_central(iteration))
        found = {index: item.measured for index, item in results.items()}
        if whose == "all":
            others = [index for index in range(self._clients) if index not in found]
            found.update(zip(others, self._executor.evaluate(iteration, others, self._memories), strict=True))
        measured = "all" if len(results) == self._clients else whose
        evaluated = Evaluated.of_clients(measured, (found[index] for index in sorted(found)), self._accuracies)
        self._accuracies = evaluated.accuracies
        return evaluated

    def finish(self) -> None:
        """Let the clients end their jobs, where all rounds ran."""
        if self._coordinator.state is ServerState.FINISHED:
            self._executor.finish()

    def close(self) -> None:
        """End the executor."""
        if "_executor" in vars(self):
            self._executor.close()

    @cached_property
    def _executor(self) -> Executor:
        return self._make_executor(self._coordinator)

    def _note(self, record: IterationRecord) -> None:
        self._record = record


def _part(arrays: Mapping[str, NDArray[Any]], part: str) -> dict[str, NDArray[Any]]:
    return {name[len(part) + 1 :]: array for name, array in arrays.items() if name.startswith(f"{part}/")}
