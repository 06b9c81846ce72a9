"""Simulated devices and the threads that run them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from datetime import datetime

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
from mindfl.errors import SimulationError
from mindfl.server import ServerConfig
from mindfl.sim.config import JobConfig
from mindfl.sim.engines import Engine

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


def server_settings(config: JobConfig, clients: int) -> ServerConfig:
    """Return the settings of a coordinator that ``clients`` devices take part under, without time limits."""
    return ServerConfig(
        fl_iteration_num=config.iterations,
        start_fl_job_threshold=clients,
        start_fl_job_time_window=NO_WINDOW,
        update_model_time_window=NO_WINDOW,
        global_iteration_time_window=NO_WINDOW,
        client_epoch_num=config.epochs,
        client_batch_size=config.batch_size,
        client_learning_rate=config.rate,
    )


@dataclass(frozen=True)
class ClientResult:
    """What a client did in an iteration: mean loss of its last local epoch, training steps, and its accuracy 0..1 with
    the aggregated model (None without test data)."""

    name: str
    loss: float
    steps: int
    accuracy: float | None


class Participant:
    """One simulated device: its data, its flow, and what it did in the running iteration."""

    def __init__(self, index: int, user: UserData, config: JobConfig, engine: Engine, stop: threading.Event) -> None:
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

    def result(self) -> ClientResult:
        """Return what the device did in the iteration that it ended."""
        if self.outcome is None:
            raise SimulationError(f"client {self.name} did not end the iteration")
        return ClientResult(self.name, self.outcome.loss, self._batches * self.outcome.epochs, self.outcome.accuracy)


class ClientPool:
    """The devices of one process, made when first needed, and its worker threads."""

    def __init__(self, config: JobConfig, engine: Engine, dataset: Dataset, clients: Sequence[str]) -> None:
        self._config = config
        self._engine = engine
        self._dataset = dataset
        self._clients = clients
        self._participants: dict[int, Participant] = {}
        self._stop = threading.Event()
        workers = min(config.threads, engine.max_workers or config.threads)
        self._threads = ThreadPoolExecutor(workers, "mindfl-worker")

    def advance(
        self, indices: Sequence[int], transport: InProcessTransport, report: Callable[[float], None] = lambda loss: None
    ) -> list[Participant]:
        """Advance these devices, in any order, and return them in the order given; ``report`` is told each one's loss.

        The first failure is raised; the rest goes on until :meth:`close`.
        """
        tasks: dict[Future[Participant], int] = {
            self._threads.submit(self._advance, index, transport): index for index in indices
        }
        advanced = {}
        for task in as_completed(tasks):
            participant = task.result()
            advanced[tasks[task]] = participant
            report(participant.loss)
        return [advanced[index] for index in indices]

    def end_iteration(self, indices: Sequence[int], transport: InProcessTransport) -> list[ClientResult]:
        """Let the devices that wait for the new model fetch and evaluate it; return all results in order."""
        self.advance([index for index in indices if self._participants[index].outcome is None], transport)
        return [self._participants[index].result() for index in indices]

    def finish(self, transport: InProcessTransport) -> None:
        """Let every device end its job in good order."""
        for participant in self._participants.values():
            participant.finish(transport)

    def close(self) -> None:
        """Stop the threads, at the latest after the epochs that are running, and end the devices' jobs."""
        self._stop.set()
        self._threads.shutdown(wait=True, cancel_futures=True)
        for participant in self._participants.values():
            participant.close()

    def _advance(self, index: int, transport: InProcessTransport) -> Participant:
        participant = self._participants.get(index)
        if participant is None:
            user = self._dataset.user(self._clients[index])
            participant = Participant(index, user, self._config, self._engine, self._stop)
            self._participants[index] = participant
        participant.advance(transport)
        return participant
