"""The simulated clients of one process, and the threads that run them: a client that waits holds no thread."""

from __future__ import annotations

import heapq
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property, partial
from queue import Empty, Queue
from typing import Any

from mindfl.algorithms.client_algorithm import AlgorithmTrainer, Keeper
from mindfl.client import Finished, MeteredTransport
from mindfl.client.uploading import Randomness, system_randomness
from mindfl.data import Dataset, UserData
from mindfl.errors import ClientError, InterruptedRunError, MindflError, SimulationError
from mindfl.notices import warn
from mindfl.privacy import seeded_bytes
from mindfl.sim.client_memory import ClientMemory, Memories
from mindfl.sim.config import JobConfig
from mindfl.sim.engines import Engine, Weights
from mindfl.sim.evaluation import Measured
from mindfl.sim.job_data import central_parts
from mindfl.sim.participant import POLL_MS, ClientResult, PairKeyRing, Participant, Step
from mindfl.system import startable_threads


class ClientPool:
    """The simulated clients of one process, made when first needed, and its worker threads.

    ``memories`` are what clients remember of their iterations before, which may have been in another process; they may
    be replaced between two calls.
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
        self.memories = Memories()
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
    ) -> None:
        """Let each of these devices, in any order, begin an iteration and continue until it has to wait for others.

        ``report`` is called with the loss of each. The first failure is raised; others continue until :meth:`close`.
        """
        for index in indices:
            if index in self._participants:
                self._participants[index].client.memory = self.memories.values.get(index, {})
        self._trained = {index: each.client.trained for index, each in self._participants.items()}
        self._advance(indices, transport, report)

    def end_iteration(
        self, indices: Sequence[int], transport: MeteredTransport, report: Callable[[float], None] = lambda loss: None
    ) -> list[ClientResult]:
        """Let the devices end the iteration; return all results in order.

        Waiting clients continue together until they have to wait again. So each asks the server at most once per step
        without success.
        """
        while waiting := [index for index in indices if self._participants[index].outcome is None]:
            self._advance(waiting, transport, report, after_ms=POLL_MS)
        return [self._participants[index].result() for index in indices]

    def evaluate(self, iteration: int, model: Weights, indices: Sequence[int]) -> list[Measured]:
        """Return the accuracy of ``model``, that of ``iteration``, on these devices' test data, in order.

        The devices need not have begun, and know nothing of it.
        """

        def measured(index: int) -> Measured:
            name = self._clients[index]
            try:
                trainer: Any = self._engine.trainer(self._dataset.user(name), self._stop)
                if isinstance(trainer, AlgorithmTrainer):
                    trainer.keeper = self._keeper(index)
                if (known := self._participants.get(index)) is not None:
                    trainer.begin_with(known.own)
                return _measured(name, trainer, trainer, model)
            except InterruptedRunError:
                raise
            except MindflError as error:
                raise ClientError(name, iteration, str(error), hint=error.hint) from error

        return list(self._threads.map(measured, indices))

    def evaluate_central(self, iteration: int, model: Weights, parts: Sequence[int]) -> list[Measured]:
        """Return the accuracy of ``model``, that of ``iteration``, on these parts of the central test set, in order.

        Weights of a client's own take no part in it.
        """

        def measured(index: int) -> Measured:
            part = self.central[index]
            try:
                trainer: Any = self._engine.trainer(part, self._stop)
                common = trainer.plain if isinstance(trainer, AlgorithmTrainer) else trainer
                return _measured(part.name, trainer, common, model)
            except InterruptedRunError:
                raise
            except MindflError as error:
                raise SimulationError(
                    f"evaluation on the central test set failed in iteration {iteration}, in the part {part.name}:"
                    f" {error}",
                    hint=error.hint,
                ) from error

        return list(self._threads.map(measured, parts))

    @cached_property
    def central(self) -> tuple[UserData, ...]:
        """The parts of the central test set."""
        return central_parts(self._dataset, self._clients)

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

    def schedule(self, way: Callable[[int], AbstractContextManager[MeteredTransport]]) -> ClientSchedule:
        """Return an empty schedule of these devices on the worker threads; ``way(index)`` lends each its transport."""

        def advance(index: int) -> Step:
            with way(index) as transport:
                return self._step(transport, index)

        return ClientSchedule(self._threads, advance)

    def participant(self, index: int) -> Participant | None:
        """Return a device, if it has begun."""
        return self._participants.get(index)

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

    def _keeper(self, index: int) -> Keeper:
        return ClientMemory(lambda: self.memories, index)

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
            participant = Participant(
                index, user, self._config, self._engine, self._stop, randomness, self._pair_keys, self._keeper(index)
            )
            participant.client.memory = self.memories.values.get(index, {})
            self._participants[index] = participant
        return participant.advance(transport)


def _measured(name: str, loader: Any, trainer: Any, model: Weights) -> Measured:
    """Let ``loader`` load the model and ``trainer`` evaluate it; an accuracy of None without test data."""
    trainer.check_stop()
    if not trainer.eval_size:
        return Measured(name, None)
    loader.load(model)
    return Measured.by(trainer, name, float(trainer.evaluate()))


def _workers(wanted: int) -> int:
    """Return how many workers there will be. Raises :class:`SimulationError` where no thread can be started."""
    possible = startable_threads(wanted)
    if not possible:
        raise SimulationError("no thread can be started", hint="raise the limit of processes (ulimit -u)")
    if possible < wanted:
        warn(f"{possible} worker threads instead of {wanted}: the system lets no more start (ulimit -u)")
    return possible


class ClientSchedule:
    """Runs ``advance(index)`` in ``threads`` for every device that was added, as soon as its delay is over."""

    def __init__(self, threads: ThreadPoolExecutor, advance: Callable[[int], Step]) -> None:
        self._threads = threads
        self._advance = advance
        self._due: list[tuple[float, int]] = []
        self._running = 0
        # No SimpleQueue: CPython's waits forever where the thread loses the processor just as the timeout passes.
        self._ended: Queue[tuple[int, Future[Step]]] = Queue()

    def add(self, index: int, delay_ms: int = 0) -> None:
        """Run device ``index`` once more, after ``delay_ms`` milliseconds."""
        heapq.heappush(self._due, (time.monotonic() + delay_ms / 1000, index))

    def steps(self) -> Iterator[tuple[int, Step]]:
        """Yield each device with its step as they come, until all have ended that were added meanwhile too.

        The first failure is raised; running steps continue.
        """
        while self._due or self._running:
            self._begin()
            try:
                index, task = self._ended.get(timeout=self._pause())
            except Empty:
                continue
            self._running -= 1
            yield index, task.result()

    def _begin(self) -> None:
        while self._due and self._due[0][0] <= time.monotonic():
            _, index = heapq.heappop(self._due)
            self._running += 1
            task = self._threads.submit(self._advance, index)
            task.add_done_callback(partial(self._end, index))

    def _end(self, index: int, task: Future[Step]) -> None:
        self._ended.put((index, task))

    def _pause(self) -> float | None:
        return max(0.0, self._due[0][0] - time.monotonic()) if self._due else None
