"""Simulated devices and the threads that run them."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from mindfl.algorithms.client import AlgorithmTrainer
from mindfl.client import (
    ClientConfig,
    ClientLog,
    DeviceClient,
    Finished,
    Flow,
    IterationDone,
    IterationOutcome,
    JobResult,
    MeteredTransport,
    advance,
)
from mindfl.client.uploading import Randomness, system_randomness
from mindfl.data import Dataset, UserData
from mindfl.errors import ClientError, InterruptedRunError, MindflError, SimulationError
from mindfl.modes import own_mode
from mindfl.notices import warn
from mindfl.options.server import UINT32_MAX
from mindfl.privacy import seeded_bytes
from mindfl.server import ServerConfig
from mindfl.sim.config import JobConfig
from mindfl.sim.engines import Engine, Weights
from mindfl.sim.memories import Memories, Memory
from mindfl.sim.modes import mode_settings
from mindfl.sim.pair_keys import PairKeyRing
from mindfl.sim.schedule import Schedule, Step
from mindfl.system import startable_threads

#: windows of the embedded coordinator, ms, the longest there are: a simulation takes the time it takes
NO_WINDOW = UINT32_MAX
#: pause before a simulated client asks again
POLL_MS = 1
#: refusals in a row that a client of a server elsewhere accepts, which may want fewer clients than there are
PATIENT_RESTARTS = 1000
#: MindSpore Federated's server tells a client that asks a moment too early, between two iterations, to come back when
#: its windows are over: hours for a simulation
LONGEST_WAIT_FOR_FEDERATED = 5_000
#: a client and its accuracy, None where it has no test data
NamedAccuracy = tuple[str, float | None]


_NOTHING = Memories()


def now_ms() -> int:
    """Return milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


def sleep_ms(milliseconds: int) -> None:
    """Wait."""
    time.sleep(milliseconds / 1000)


def client_settings(config: JobConfig, index: int, user: UserData) -> ClientConfig:
    """Return the settings of client ``index``: known by its user's name, patient as long as the simulation runs.

    A server elsewhere may know other clients of that name, so there the name is drawn, as the reference's is, and the
    more clients there are, the less often each asks for the model.
    """
    settings = ClientConfig(
        name=user.name,
        fl_id=user.name,
        fl_name=config.fl_name,
        model_file=str(config.client_model(index)),
        train_data=f"{user.name}_train",
        eval_data=f"{user.name}_test",
        poll_ms=POLL_MS,
        poll_limit_ms=NO_WINDOW,
        evaluate_every=config.evaluate_every or 1,
    )
    if config.server_side.embedded:
        # Nobody reads the accuracy in an upload to the embedded server, which itself knows what it aggregated.
        return replace(settings, evaluate_received=settings.evaluate_every == 1, compare_models=False)
    poll_ms = max(200, 2 * config.client_num)
    longest_ms = LONGEST_WAIT_FOR_FEDERATED if config.server_side.reference else settings.longest_wait_ms
    return replace(
        settings,
        fl_id=str(uuid.uuid4()),
        poll_ms=poll_ms,
        longest_wait_ms=longest_ms,
        max_restarts=PATIENT_RESTARTS,
    )


def server_settings(config: JobConfig, clients: int) -> ServerConfig:
    """Return the settings of a coordinator that ``clients`` devices take part under, without time limits."""
    return ServerConfig(
        fl_iteration_num=config.iterations,
        start_fl_job_threshold=clients,
        start_fl_job_time_window=NO_WINDOW,
        update_model_time_window=NO_WINDOW,
        global_iteration_time_window=NO_WINDOW,
        cipher_time_window=NO_WINDOW,
        client_epoch_num=config.epochs,
        client_batch_size=config.network.batch_size,
        client_learning_rate=config.rate,
        **mode_settings(config, clients),
    )


@dataclass(frozen=True)
class ClientResult:
    """What a client did in an iteration: mean loss of its last local epoch, training steps, and its accuracy 0..1 with
    the aggregated model (None without test data, or where it was not evaluated). ``memory`` is what it keeps for its
    next iteration."""

    name: str
    loss: float
    steps: int
    accuracy: float | None
    memory: Memory = field(default_factory=Memory)


class Participant:
    """One simulated device: its data, its flow, and what it did in the running iteration."""

    def __init__(
        self,
        index: int,
        user: UserData,
        config: JobConfig,
        engine: Engine,
        stop: threading.Event,
        randomness: Randomness,
        pair_keys: PairKeyRing,
    ) -> None:
        self.name = user.name
        self._batches = -(-user.train.size // engine.batch_size)
        log = ClientLog(config.client_log(index), datetime.now, brief=not config.writes_client_models)
        trainer: Any = engine.trainer(user, stop)
        self._trainer = trainer
        self._remembers = isinstance(trainer, AlgorithmTrainer)
        self.client = DeviceClient(
            client_settings(config, index, user),
            trainer,
            now_ms,
            log,
            randomness=randomness,
            pair_keys=pair_keys,
            own_mode=own_mode(config),
        )
        if self._remembers:
            trainer.iteration = lambda: self.client.taking_part
        self._flow: Flow[JobResult] = self.client.train()
        self.outcome: IterationOutcome | None = None

    def advance(self, transport: MeteredTransport) -> Step:
        """Run until the device must wait for the others, or has the new model and its accuracy, or ends its job."""
        step = advance(self._flow, transport, now_ms)
        self.outcome = step.outcome if isinstance(step, IterationDone) else None
        return step

    def finish(self, transport: MeteredTransport) -> None:
        """Let the device end its job."""
        if not isinstance(advance(self._flow, transport, now_ms), Finished):
            self._flow.close()

    def close(self) -> None:
        """End the device's job where it stands."""
        self._flow.close()

    @property
    def loss(self) -> float:
        """Mean loss of the last local epoch so far."""
        return float(self._trainer.last_loss)

    @property
    def memory(self) -> Memory:
        """What the device keeps from one iteration to the next; settable between two."""
        return Memory(self.client.memory, self._trainer.memory if self._remembers else {})

    @memory.setter
    def memory(self, memory: Memory) -> None:
        self.client.memory = memory.values
        if self._remembers:
            self._trainer.memory = memory.arrays

    def result(self) -> ClientResult:
        """Return what the device did in the iteration that it ended."""
        if self.outcome is None:
            raise SimulationError(f"client {self.name} did not end the iteration")
        steps = self.steps(self.outcome)
        return ClientResult(self.name, self.outcome.loss, steps, self.outcome.accuracy, self.memory)

    def steps(self, outcome: IterationOutcome) -> int:
        """Return the training steps of an iteration."""
        return self._batches * outcome.epochs


class ClientPool:
    """The devices of one process, made when first needed, and its worker threads.

    ``own_server``: the job is this simulation's own, so noise and secrets may follow from its seed. A server elsewhere
    could have seen them before, in another run or instance.
    """

    def __init__(
        self, config: JobConfig, engine: Engine, dataset: Dataset, clients: Sequence[str], *, own_server: bool = True
    ) -> None:
        self._config = config
        self._own_server = own_server
        self._engine = engine
        self._dataset = dataset
        self._clients = clients
        self._participants: dict[int, Participant] = {}
        self._memories: Memories = _NOTHING
        self._trained: dict[int, int] = {}
        self._stop = threading.Event()
        self._pair_keys = PairKeyRing()
        self.workers = _workers(min(config.threads, engine.max_workers or config.threads))
        self._threads = ThreadPoolExecutor(self.workers, "mindfl-worker")

    def advance(
        self,
        indices: Sequence[int],
        transport: MeteredTransport,
        report: Callable[[float], None] = lambda loss: None,
        memories: Memories = _NOTHING,
    ) -> None:
        """Let each of these devices, in any order, begin an iteration and go on until it has to wait for others.

        ``memories`` are what devices keep from their iterations before, which may have been in another process.
        ``report`` is told the loss of each. The first failure is raised; the rest goes on until :meth:`close`.
        """
        self._memories = memories
        for index in indices:
            if index in self._participants:
                self._participants[index].memory = memories[index]
        self._trained = {index: each.client.trained for index, each in self._participants.items()}
        self._advance(indices, transport, report)

    def end_iteration(
        self, indices: Sequence[int], transport: MeteredTransport, report: Callable[[float], None] = lambda loss: None
    ) -> list[ClientResult]:
        """Let the devices end the iteration; return all results in order.

        Those who wait go on together, until they have to wait for others again: so each asks in vain once at most for
        whatever it needs of them.
        """
        while waiting := [index for index in indices if self._participants[index].outcome is None]:
            self._advance(waiting, transport, report, after_ms=POLL_MS)
        return [self._participants[index].result() for index in indices]

    def evaluate(self, iteration: int, model: Weights, indices: Sequence[int]) -> list[NamedAccuracy]:
        """Return the accuracy 0..1 of ``model``, that of ``iteration``, on these devices' test data; None without any.

        The devices need not have begun, and know nothing of it.
        """

        def accuracy(index: int) -> NamedAccuracy:
            name = self._clients[index]
            try:
                return name, self._accuracy(name, model)
            except InterruptedRunError:
                raise
            except MindflError as error:
                raise ClientError(name, iteration, str(error), hint=error.hint) from error

        return list(self._threads.map(accuracy, indices))

    def _accuracy(self, name: str, model: Weights) -> float | None:
        trainer = self._engine.trainer(self._dataset.user(name), self._stop)
        trainer.check_stop()
        if not trainer.eval_size:
            return None
        trainer.load(model)
        return trainer.evaluate()

    def _advance(
        self,
        indices: Sequence[int],
        transport: MeteredTransport,
        report: Callable[[float], None],
        after_ms: int = 0,
    ) -> None:
        schedule = self.schedule(lambda _: nullcontext(transport))
        for index in indices:
            schedule.add(index, after_ms)
        for index, step in schedule.steps():
            self._check_running(index, step)
            participant = self._participants[index]
            if participant.client.trained > self._trained.get(index, 0):
                self._trained[index] = participant.client.trained
                report(participant.loss)

    def schedule(self, way: Callable[[int], AbstractContextManager[MeteredTransport]]) -> Schedule:
        """Return an empty schedule of these devices on the worker threads; ``way(index)`` lends each its transport."""

        def advance(index: int) -> Step:
            with way(index) as transport:
                return self._step(transport, index)

        return Schedule(self._threads, advance)

    def participant(self, index: int) -> Participant | None:
        """Return a device, if it has begun."""
        return self._participants.get(index)

    def memory(self, index: int) -> Memory:
        """Return what a device that has begun keeps."""
        return self._participants[index].memory

    def finish(self, transport: MeteredTransport) -> None:
        """Let every device end its job in good order."""
        for participant in self._participants.values():
            participant.finish(transport)

    def close(self) -> None:
        """Stop the threads, at the latest after the epochs that are running, and end the devices' jobs."""
        self._stop.set()
        self._threads.shutdown(wait=True, cancel_futures=True)
        for participant in self._participants.values():
            participant.close()
        self._pair_keys.close()

    def _seeded(self, index: int) -> Randomness:
        return lambda iteration: seeded_bytes("upload", self._config.seed, index, iteration)

    def _check_running(self, index: int, step: Step) -> None:
        if isinstance(step, Finished):
            raise SimulationError(f"the server ended the job before client {self._participants[index].name} did")

    def _step(self, transport: MeteredTransport, index: int) -> Step:
        participant = self._participants.get(index)
        if participant is None:
            user = self._dataset.user(self._clients[index])
            randomness = self._seeded(index) if self._own_server else system_randomness
            participant = Participant(index, user, self._config, self._engine, self._stop, randomness, self._pair_keys)
            participant.memory = self._memories[index]
            self._participants[index] = participant
        return participant.advance(transport)


def _workers(wanted: int) -> int:
    """Return how many workers there will be. Raises :class:`SimulationError` where no thread can be started."""
    possible = startable_threads(wanted)
    if not possible:
        raise SimulationError("no thread can be started", hint="raise the limit of processes (ulimit -u)")
    if possible < wanted:
        warn(f"{possible} worker threads instead of {wanted}: the system lets no more start (ulimit -u)")
    return possible
