"""The federated run: clients' flows advanced by a pool of threads, one coordinator, one history row per iteration."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from mindfl.client import (
    ClientConfig,
    ClientLog,
    DeviceClient,
    Finished,
    Flow,
    InProcessTransport,
    IterationDone,
    IterationOutcome,
    JobResult,
    advance,
)
from mindfl.data import Dataset, UserData
from mindfl.errors import InterruptedRunError, SimulationError
from mindfl.server import Coordinator, IterationRecord, ServerConfig
from mindfl.sim.config import JobConfig
from mindfl.sim.engines import Engine, Weights
from mindfl.sim.history import IterationRow
from mindfl.sim.metrics import Accuracy

#: windows of the embedded coordinator, ms: a simulation takes the time it takes
NO_WINDOW = 365 * 24 * 3600 * 1000


def now_ms() -> int:
    """Return milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


def client_settings(config: JobConfig, index: int, user: UserData) -> ClientConfig:
    """Return the settings of client ``index``: known by its user's name, patient as long as the simulation runs."""
    return ClientConfig(
        name=user.name,
        fl_id=user.name,
        model_file=str(config.client_model(index)),
        train_data=f"{user.name}_train",
        eval_data=f"{user.name}_test",
        poll_ms=1,
        poll_limit_ms=NO_WINDOW,
    )


@dataclass(frozen=True)
class Progress:
    """A client uploaded in ``iteration``, as the ``clients_done``-th; ``loss`` is the mean over those so far."""

    iteration: int
    clients_done: int
    loss: float


Observer = Callable[[Progress], None]


class Participant:
    """One simulated device: its data, its flow, and what it did in the running iteration."""

    def __init__(self, index: int, user: UserData, config: JobConfig, engine: Engine, stop: threading.Event) -> None:
        self.index = index
        self.name = user.name
        self._batches = -(-user.train.size // engine.batch_size)
        log = ClientLog(config.client_log(index), datetime.now, brief=not config.writes_client_models)
        self._trainer = engine.trainer(user, stop)
        client = DeviceClient(client_settings(config, index, user), self._trainer, now_ms, log)
        self._flow: Flow[JobResult] = client.train()
        self.outcome: IterationOutcome | None = None

    def advance(self, transport: InProcessTransport) -> None:
        """Run until the device must wait for the others, or has the new model and its accuracy."""
        step = advance(self._flow, transport, now_ms)
        if isinstance(step, Finished):
            raise SimulationError(f"the server ended the job before client {self.name} did")
        self.outcome = step.outcome if isinstance(step, IterationDone) else None

    def finish(self, transport: InProcessTransport) -> None:
        """Let the device end its job."""
        if not isinstance(advance(self._flow, transport, now_ms), Finished):
            self._flow.close()

    def close(self) -> None:
        """End the device's job where it stands."""
        self._flow.close()

    @property
    def loss(self) -> float:
        """Mean loss of the last local epoch so far."""
        return self._trainer.last_loss

    @property
    def steps(self) -> int:
        """Training steps of the last iteration."""
        return self._batches * self.outcome.epochs if self.outcome else 0


class Federation:
    """Runs a job on ``clients`` of ``dataset``. ``rows()`` yields each iteration's row as it ends; ``model`` is the
    latest aggregated model.

    The result depends on the seed alone: aggregation is exact, every device begins an iteration from the same model,
    and the choice of clients has a generator of its own per iteration.
    """

    def __init__(
        self,
        config: JobConfig,
        engine: Engine,
        initial: Mapping[str, NDArray[np.float32]],
        dataset: Dataset,
        clients: Sequence[str],
        observer: Observer,
    ) -> None:
        self._config = config
        self._observer = observer
        self._stop = threading.Event()
        self._record: IterationRecord | None = None
        self._participants = [
            Participant(index, dataset.user(name), config, engine, self._stop) for index, name in enumerate(clients)
        ]
        self._coordinator = Coordinator(
            ServerConfig(
                fl_iteration_num=config.iterations,
                start_fl_job_threshold=min(config.cohort, len(clients)),
                start_fl_job_time_window=NO_WINDOW,
                update_model_time_window=NO_WINDOW,
                global_iteration_time_window=NO_WINDOW,
                client_epoch_num=config.epochs,
                client_batch_size=engine.batch_size,
                client_learning_rate=config.rate,
            ),
            initial,
            on_iteration_end=self._note,
        )
        self._transport = InProcessTransport(self._coordinator)
        self._workers = min(config.threads, engine.max_workers or config.threads)

    @property
    def model(self) -> Weights:
        """The latest aggregated model, flat float32 arrays by name."""
        return self._coordinator.model

    def rows(self) -> Generator[IterationRow, None, None]:
        """Run the iterations. Ctrl-C, SIGTERM and errors end the threads before they pass through."""
        with ThreadPoolExecutor(self._workers, "mindfl-worker") as pool:
            try:
                for iteration in range(1, self._config.iterations + 1):
                    yield self._iterate(pool, iteration)
                for participant in self._participants:
                    participant.finish(self._transport)
            except KeyboardInterrupt:
                raise InterruptedRunError("interrupted", hint="finished iterations are kept") from None
            finally:
                self._stop.set()
                pool.shutdown(wait=True, cancel_futures=True)
                for participant in self._participants:
                    participant.close()

    def _iterate(self, pool: ThreadPoolExecutor, iteration: int) -> IterationRow:
        begin = time.perf_counter()
        before = self._transport.traffic
        cohort = self._chosen(iteration)
        losses: list[float] = []

        def report(participant: Participant) -> None:
            losses.append(participant.loss)
            self._observer(Progress(iteration, len(losses), float(np.mean(losses))))

        self._advance_all(pool, cohort, report)
        waiting = [participant for participant in cohort if participant.outcome is None]
        self._advance_all(pool, waiting, lambda _: None)
        outcomes = [participant.outcome for participant in cohort if participant.outcome is not None]
        if self._record is None or self._record.iteration != iteration or len(outcomes) != len(cohort):
            raise SimulationError(f"iteration {iteration} did not end: {len(outcomes)} of {len(cohort)} clients did")
        seconds = time.perf_counter() - begin
        after = self._transport.traffic
        accuracies = {item.client: item.accuracy for item in outcomes if item.accuracy is not None}
        steps = sum(participant.steps for participant in cohort)
        return IterationRow(
            iteration=iteration,
            **Accuracy.of(accuracies.values())._asdict(),
            loss=self._record.loss,
            clients=len(cohort),
            samples=self._record.data_size,
            bytes_down=after.bytes_down - before.bytes_down,
            bytes_up=after.bytes_up - before.bytes_up,
            steps=steps,
            steps_per_s=round(steps / seconds, 1),
            seconds=round(seconds, 3),
            accuracies=accuracies,
        )

    def _chosen(self, iteration: int) -> list[Participant]:
        """Return the clients of an iteration, in order: all, or a sample that depends on seed and iteration alone."""
        count = self._config.cohort
        if count >= len(self._participants):
            return self._participants
        generator = np.random.default_rng((self._config.seed, iteration))
        return [self._participants[i] for i in sorted(generator.choice(len(self._participants), count, replace=False))]

    def _advance_all(
        self, pool: ThreadPoolExecutor, participants: Sequence[Participant], report: Callable[[Participant], None]
    ) -> None:
        pending: dict[Future[None], Participant] = {
            pool.submit(participant.advance, self._transport): participant for participant in participants
        }
        while pending:
            finished, _ = wait(pending, return_when=FIRST_COMPLETED)
            for future in finished:
                participant = pending.pop(future)
                future.result()
                report(participant)

    def _note(self, record: IterationRecord) -> None:
        self._record = record
