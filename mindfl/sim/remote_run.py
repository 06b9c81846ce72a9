"""Clients of this process in the job of a server that runs elsewhere; only its answers to clients are known."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from mindfl.client import IterationDone, IterationOutcome, MeteredTransport, Traffic, Wait
from mindfl.client.conversation import received_weights
from mindfl.errors import SimulationError, TransportError
from mindfl.protocol import (
    CompressType,
    Request,
    RequestGetModel,
    RequestUpdateModel,
    Response,
    ResponseCode,
    ResponseGetModel,
)
from mindfl.sim.callbacks import Progress
from mindfl.sim.client_pool import ClientPool, ClientSchedule
from mindfl.sim.config import JobConfig
from mindfl.sim.embedded_run import Observer
from mindfl.sim.engines import Weights
from mindfl.sim.evaluation import Evaluated, Evaluation
from mindfl.sim.participant import ClientResult, Participant, now_ms
from mindfl.sim.round_loop import Aggregated, TrainedRound
from mindfl.spelling import counted

if TYPE_CHECKING:
    from mindfl.client import HttpTransport


class ModelKeeper:
    """A transport that remembers the latest model that passed through it."""

    def __init__(self, transport: MeteredTransport) -> None:
        self._transport = transport
        self._lock = threading.Lock()
        self._kept: tuple[int, Weights] | None = None
        self._models: dict[int, Weights] = {}
        self._quantised = False

    def send(self, request: Request, now_ms: int) -> Response:
        """Pass request and response on."""
        response = self._transport.send(request, now_ms)
        if isinstance(request, RequestGetModel) and isinstance(response, ResponseGetModel):
            self._keep(request.iteration, response)
        return response

    @property
    def traffic(self) -> Traffic:
        """What was exchanged so far."""
        return self._transport.traffic

    @property
    def model(self) -> Weights | None:
        """The latest model that a client has fetched."""
        return self._kept[1] if self._kept else None

    def take(self, iteration: int) -> Weights | None:
        """Return the model of ``iteration`` as it was given, and forget it and those before it."""
        with self._lock:
            model = self._models.get(iteration)
            self._models = {number: kept for number, kept in self._models.items() if number > iteration}
        return model

    def complete(self) -> None:
        """Fetch the latest model unquantised, if clients received it quantised."""
        if self._kept is None or not self._quantised:
            return
        iteration, _ = self._kept
        request = RequestGetModel(iteration=iteration, timestamp=str(now_ms()))
        try:
            answer = self._transport.send(request, now_ms())
        except TransportError:  # a server that ends with its job; what it gave stays
            return
        if isinstance(answer, ResponseGetModel) and answer.feature_map:
            self._kept = iteration, answer.feature_map

    def _keep(self, iteration: int, response: ResponseGetModel) -> None:
        with self._lock:
            newer = self._kept is None or iteration > self._kept[0]
            model = received_weights(response) if newer and response.retcode == ResponseCode.SUCCEED else None
            if model:
                self._kept = iteration, model
                self._models[iteration] = model
                self._quantised = response.download_compress_type == CompressType.QUANT


class RemoteRun:
    """Lets ``pool``'s first ``clients`` devices take part in a server's job; closes ``transport`` in the end.

    A round is over once no device of this process is busy with it any more; ``iterations`` are those of the server's
    plan, once it is known. Means are over the devices of this process: what others contribute is not known here.
    ``in_turn``: no others take part, and these are to upload in the order of their numbers, for the sake of a server
    whose sum depends on it. ``affordable`` tells, for a number of clients that took part, at which interval evaluating
    all of this process costs no more than they trained; None: at any.
    """

    resumable = False
    values: Mapping[str, Any] = MappingProxyType({})
    arrays: Mapping[str, Any] = MappingProxyType({})
    stepwise = True

    def __init__(
        self,
        config: JobConfig,
        pool: ClientPool,
        clients: int,
        transport: HttpTransport,
        observer: Observer,
        *,
        in_turn: bool = False,
        affordable: Callable[[int], int] | None = None,
    ) -> None:
        self._evaluation = Evaluation(config.evaluate, config.evaluate_every or 1)
        self._affordable = affordable if config.evaluate_every is None else None
        self._pool = pool
        self._clients = clients
        self._http = transport
        self._transport = ModelKeeper(transport)
        self._observer = observer
        self._outcomes: dict[int, dict[int, IterationOutcome]] = {}
        self._seen = 0
        self._latest: dict[int, IterationOutcome] = {}
        self._last = 0
        self._accuracies: Mapping[str, float] = {}
        self._order = UploadOrder() if in_turn else None
        self._held: list[int] = []
        self._rounds = self._take_part()
        self.first, self.iterations = 1, config.iterations

    @property
    def traffic(self) -> Traffic:
        """What clients and server have exchanged so far."""
        return self._transport.traffic

    @property
    def model(self) -> Weights:
        """The latest aggregated model, flat float32 arrays by name."""
        model = self._transport.model
        if model is None:
            raise SimulationError("the server has not given any model yet")
        return model

    def saved(self, iteration: int) -> None:
        """Nothing is saved: the server keeps the job."""

    def choose(self, iteration: int) -> None:
        """The server chooses: it takes the clients that come first."""

    def train(self, iteration: int, cohort: Sequence[int] | None) -> TrainedRound | None:
        """Let all clients take part until an iteration has ended that one was in; None: the server's job is over.

        Devices that were told to wait for another iteration need not find out that there is none.
        """
        trained = next(self._rounds, None)
        if trained is not None:
            self._last = trained.iteration
        elif not self._last:
            raise SimulationError(
                "the server's job was over before any client took part", hint="start a new job on the server"
            )
        elif self._order is not None:
            raise SimulationError(
                f"the server ended its job after {self._last} of {counted(self.iterations, 'iteration')}",
                hint="its log says why; was it stopped?",
            )
        return trained

    def aggregate(self, trained: TrainedRound) -> Aggregated:
        """Return what the clients saw of it."""
        outcomes = list(self._latest.values())
        return Aggregated(
            valid=any(item.aggregated for item in outcomes),
            loss=_mean_loss(outcomes),
            samples=sum(item.data_size for item in outcomes),
        )

    def evaluate(self, trained: TrainedRound) -> Evaluated:
        """Return the evaluation of the new model; "all" clients, and a central test set of theirs, are of this process.

        The server chooses the clients, so the interval follows from how many took part.
        """
        done = trained.results
        model = self._transport.take(trained.iteration)
        evaluation = self._evaluation
        everybody = len(done) == self._clients
        if self._affordable is not None and evaluation.whose != "drawn" and not everybody:
            evaluation = replace(evaluation, every=self._affordable(len(done)))
        if not evaluation.due(trained.iteration, self.iterations):
            return Evaluated()
        if evaluation.whose == "central":
            return self._central(trained.iteration, model)
        found = {index: result.measured for index, result in done.items()}
        others = [index for index in range(self._clients) if index not in done]
        whose = "all" if everybody else evaluation.whose
        if whose == "all" and others:
            if model is None:
                whose = "drawn"
            else:
                found.update(zip(others, self._pool.evaluate(trained.iteration, model, others), strict=True))
        evaluated = Evaluated.of_clients(whose, (found[index] for index in sorted(found)), self._accuracies)
        self._accuracies = evaluated.accuracies
        return evaluated

    def _central(self, iteration: int, model: Weights | None) -> Evaluated:
        if model is None:  # no client of this process has fetched it
            return Evaluated()
        return Evaluated.of_central(self._pool.evaluate_central(iteration, model, range(len(self._pool.central))))

    def finish(self) -> None:
        """Fetch the latest model unquantised."""
        self._transport.complete()

    def close(self) -> None:
        """End the threads, and close the connections."""
        self._pool.close()
        self._http.close()

    def _take_part(self) -> Iterator[TrainedRound]:
        schedule = self._pool.schedule(self._way)
        self._begin(schedule, range(self._clients))
        for index, step in schedule.steps():
            if isinstance(step, Wait):
                schedule.add(index, step.ms)
                continue
            if isinstance(step, IterationDone):
                self._note(index, step.outcome)
                self._held.append(index)
            yield from self._ended()
            if self._order is None or not self._outcomes:
                held, self._held = self._held, []
                self._begin(schedule, sorted(held))
        yield from self._ended()

    def _way(self, index: int) -> AbstractContextManager[MeteredTransport]:
        return nullcontext(self._transport) if self._order is None else self._order.at_work(index, self._transport)

    def _begin(self, schedule: ClientSchedule, indices: Iterable[int]) -> None:
        """Let devices begin an iteration."""
        for index in indices:
            if self._order is not None:
                self._order.enter(index)
            schedule.add(index)

    def _note(self, index: int, outcome: IterationOutcome) -> None:
        done = self._outcomes.setdefault(outcome.iteration, {})
        done[index] = outcome
        self.iterations = self._participant(index).client.iterations
        self._observer(
            Progress(outcome.iteration, len(done), self._clients, _mean_loss(done.values()), self.iterations)
        )

    def _ended(self) -> Iterator[TrainedRound]:
        """Yield each iteration that no device of this process is busy with any more."""
        while self._outcomes:
            iteration = min(self._outcomes)
            if self._busy(iteration):
                return
            self._seen = 0
            done = self._outcomes.pop(iteration)
            self._latest = {index: done[index] for index in sorted(done)}
            results = {index: self._result(index) for index in self._latest}
            rate = next(iter(done.values())).learning_rate
            yield TrainedRound(iteration=iteration, results=results, learning_rate=rate)

    def _busy(self, iteration: int) -> bool:
        """Return whether a client is still taking part in ``iteration``.

        No client can join it any more, so those found not to take part are not looked at again.
        """
        done = self._outcomes[iteration]
        while self._seen < self._clients:
            participant = self._pool.participant(self._seen)
            if self._seen not in done and participant and participant.client.taking_part == iteration:
                return True
            self._seen += 1
        return False

    def _result(self, index: int) -> ClientResult:
        outcome = self._latest[index]
        participant = self._participant(index)
        return ClientResult(outcome.loss, participant.steps(outcome), participant.measured(outcome))

    def _participant(self, index: int) -> Participant:
        participant = self._pool.participant(index)
        assert participant is not None
        return participant


def _mean_loss(outcomes: Collection[IterationOutcome]) -> float:
    """Return the mean weighted by data sizes, as servers report it."""
    return math.fsum(item.loss * item.data_size for item in outcomes) / sum(item.data_size for item in outcomes)


class UploadOrder:
    """Tracks which devices are working. A device that waits for the server is not, so that no other waits for it."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._working: set[int] = set()

    def enter(self, index: int) -> None:
        """Note that device ``index`` is about to work."""
        with self._changed:
            self._working.add(index)

    @contextmanager
    def at_work(self, index: int, transport: MeteredTransport) -> Iterator[MeteredTransport]:
        """Return device ``index``'s transport, on which its upload waits for those of lower numbers."""
        try:
            yield _InTurn(transport, self, index)
        finally:
            self._leave(index)

    def upload(self, index: int, transport: MeteredTransport, request: RequestUpdateModel, now_ms: int) -> Response:
        """Send the upload of device ``index`` once no device of a lower number is at work."""
        with self._changed:
            self._changed.wait_for(lambda: all(other >= index for other in self._working))
        try:
            return transport.send(request, now_ms)
        finally:
            self._leave(index)

    def _leave(self, index: int) -> None:
        with self._changed:
            self._working.discard(index)
            self._changed.notify_all()


class _InTurn:
    def __init__(self, transport: MeteredTransport, order: UploadOrder, index: int) -> None:
        self._transport = transport
        self._order = order
        self._index = index

    def send(self, request: Request, now_ms: int) -> Response:
        if isinstance(request, RequestUpdateModel):
            return self._order.upload(self._index, self._transport, request, now_ms)
        return self._transport.send(request, now_ms)

    @property
    def traffic(self) -> Traffic:
        return self._transport.traffic
