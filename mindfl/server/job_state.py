"""A federated job as a state machine that applies events. No sockets, no clock.

Each change of the state is an event (:mod:`mindfl.server.events`). The job first hands it to its log, if it has one,
and then applies it: an event that the log cannot store is not applied, and replaying the log gives the same job again.
Answers to clients are made by :class:`mindfl.server.coordinator.Coordinator`.
"""

from __future__ import annotations

import math
import os
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Set
from dataclasses import replace
from typing import Any, TypedDict

import numpy as np
from numpy.typing import NDArray

from mindfl.algorithms.algorithm import Algorithm
from mindfl.algorithms.learning_rates import LearningRates
from mindfl.algorithms.server_algorithm import EXTRA, ServerAlgorithm
from mindfl.errors import AlgorithmError, ProtocolError, SimulationError, StorageError
from mindfl.protocol import FloatVector, FLPlan, Weights
from mindfl.server import events
from mindfl.server.aggregate import MAX_UPLOADS, FedAvgSum, WithoutConstant, initial_model
from mindfl.server.events import Event, EventLog, SmallEvent, Uploaded
from mindfl.server.iteration import Iteration, IterationRecord, Part
from mindfl.server.secagg import steps
from mindfl.server.server_config import ServerConfig
from mindfl.server.state import (
    AGGREGATED,
    ALREADY,
    COMPLETED,
    DISABLED,
    NO_CLIENTS,
    UNMASK_FAILED,
    UNMASKED,
    EndedIterations,
    JobState,
    ServerState,
)

STORAGE_CHECK_MS = 1000  # an end of a window that could not be stored is tried again after this time


class JobArguments(TypedDict, total=False):
    """The optional arguments of a job; :class:`mindfl.server.coordinator.Coordinator` says what each means."""

    on_iteration_end: Callable[[IterationRecord], None] | None
    log: EventLog | None
    wall: Callable[[int], int]
    state: JobState | None
    constant: Set[str]
    algorithm: Algorithm | None
    lr_schedule: object
    random: Callable[[int], bytes]


class FederatedJobState:
    """The state of a job between requests, and how it changes. See :class:`mindfl.server.coordinator.Coordinator`."""

    def __init__(
        self,
        config: ServerConfig,
        initial_weights: Mapping[str, NDArray[np.float32]],
        *,
        on_iteration_end: Callable[[IterationRecord], None] | None = None,
        log: EventLog | None = None,
        wall: Callable[[int], int] = int,
        state: JobState | None = None,
        constant: Set[str] = frozenset(),
        algorithm: Algorithm | None = None,
        lr_schedule: object = "constant",
        random: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self._lr_schedule = lr_schedule
        self._algorithm = ServerAlgorithm(algorithm, constant)
        self._algorithm.check(config.mode)
        self._keep_uploads = self._algorithm.needs_uploads
        self.layout, first = initial_model(self._algorithm.first(initial_weights))
        self._on_iteration_end = on_iteration_end
        self._log = log
        self.wall = wall
        self.lock = threading.RLock()
        self.constant = constant
        self._without_extras = WithoutConstant(
            {name for name in first if name.startswith(EXTRA)} if algorithm else set()
        )
        self.secagg = steps.SecAggServer(random)
        self._earlier_refusals: Counter[str] = Counter()
        self._storage_retry_ms = 0
        self._ends_elsewhere = False
        self._restore(state or self._begun(config, "", first))

    def _begun(self, config: ServerConfig, instance: str, first: Weights) -> JobState:
        return JobState(config, instance, 1, True, {0: first}, arrays=self._algorithm.first_state(first))

    def _restore(self, state: JobState) -> None:
        self.config = state.config
        self.instance = state.instance
        self._job_plan = state.config.plan(state.instance)
        self._rates = LearningRates(self._lr_schedule, state.config.fl_iteration_num)
        self.sum = state.config.mode.make_sum(state.config, self.layout, self.constant)
        self.ended = EndedIterations(state.models, state.counted)
        self._arrays = state.arrays
        self.begin(state.iteration)
        self.enabled = state.enabled

    def begin(self, iteration: int) -> None:
        """Begin an iteration without any client."""
        self.plan, self.rate_fault = self._planned(iteration)
        rounds = self.config.mode.rounds(self.config, self.plan, iteration)
        self.current = Iteration(iteration, self.config.start_fl_job_threshold, rounds)

    def _planned(self, iteration: int) -> tuple[FLPlan, str]:
        """Return the plan of an iteration, and why its learning rate is unusable; empty: it is usable.

        The schedule is asked again when a journal is replayed: with the same numbers it returns the same rate.
        """
        if self._rates.constant or iteration > self.config.fl_iteration_num:
            return self._job_plan, ""
        try:
            return replace(self._job_plan, lr=self._rates.planned(self.config.client_learning_rate, iteration)), ""
        except SimulationError as error:
            return self._job_plan, str(error)

    @property
    def iteration(self) -> int:
        """The current iteration, from 1; one more than the last once the job has finished."""
        return self.current.number

    @property
    def state(self) -> ServerState:
        """The state of the job."""
        if not self.enabled:
            return ServerState.DISABLED
        return ServerState.RUNNING if self.iteration <= self.config.fl_iteration_num else ServerState.FINISHED

    @property
    def model(self) -> Weights:
        """The latest model: that of iteration ``self.iteration - 1``; read-only."""
        return self._without_extras(self.exchanged)

    @property
    def exchanged(self) -> Weights:
        """The latest model with the algorithm's further arrays, as clients that start now receive it; read-only."""
        with self.lock:
            return self.ended.models[self.iteration - 1]

    @property
    def arrays(self) -> Mapping[str, NDArray[Any]]:
        """The algorithm's state after iteration ``self.iteration - 1``; read-only."""
        with self.lock:
            return self._arrays

    @property
    def refusals(self) -> Mapping[str, int]:
        """How often each refusal (``Refusal.label``) happened in the whole job."""
        with self.lock:
            return self._earlier_refusals + self.current.refusals

    @property
    def is_busy(self) -> bool:
        """Whether clients have started in the running iteration."""
        with self.lock:
            return bool(self.current.started)

    def snapshot(self) -> JobState:
        """Return the state to continue from. It is complete only at the end of an iteration, or before any event."""
        with self.lock:
            models, counted = dict(self.ended.models), dict(self.ended.counted)
            return JobState(self.config, self.instance, self.iteration, self.enabled, models, counted, self._arrays)

    def next_deadline(self) -> int | None:
        """Return when :meth:`tick` will next end a window, in ms, or None while no window is running."""
        with self.lock:
            end = min((end for end, _ in self.current.deadlines(self.config)), default=None)
            return None if end is None else max(end, self._storage_retry_ms)

    def tick(self, now_ms: int) -> None:
        """Fail the current iteration if one of its windows has ended. Every request does this too."""
        with self.lock:
            end, reason = min(self.current.deadlines(self.config), default=(math.inf, ""))
            if now_ms < max(end, self._storage_retry_ms):
                return
            try:
                self.commit(events.WindowEnded(now_ms, reason))
            except StorageError:
                self._storage_retry_ms = now_ms + STORAGE_CHECK_MS

    def disable(self, now_ms: int) -> None:
        """Abandon the running iteration (its number is used up) and answer every request with the finished text.

        Raises :class:`ProtocolError` with the reference's text where the job is finished or disabled already, and
        :class:`StorageError` where the log cannot take it.
        """
        with self.lock:
            self._check_switch("disabled", ServerState.DISABLED)
            self.commit(events.Disabled(now_ms))

    def abandon(self, now_ms: int, reason: str) -> None:
        """Fail the running iteration, if there is one, for this ``reason``. Raises as :meth:`disable` does."""
        with self.lock:
            if self.state is ServerState.RUNNING:
                self.commit(events.WindowEnded(now_ms, reason))

    def enable(self) -> None:
        """Go on after :meth:`disable`. Raises as that does, also where the job is not disabled."""
        with self.lock:
            self._check_switch("enabled", ServerState.RUNNING)
            self.commit(events.Enabled())

    def new_instance(self, config: ServerConfig, instance: str, now_ms: int) -> None:
        """Begin again at iteration 1 with other settings, the latest model and the name ``instance``, enabled.

        The uploads of the running iteration are dropped without a record: its number comes again. Raises
        :class:`OptionError` where the settings leave the algorithm too few uploads, and :class:`StorageError` where the
        log cannot take it.
        """
        self._algorithm.check(config.mode, config.update_quota)
        with self.lock:
            self.commit(events.Renewed(now_ms, instance, config))

    def resume(self, now_ms: int) -> None:
        """Go on after a pause: the windows stand where they stood at the last start or upload."""
        with self.lock:
            self.commit(events.Resumed(now_ms))

    def replay(self, event: Event) -> None:
        """Apply an event of a log again. Raises :class:`ProtocolError` if it does not fit the events before."""
        with self.lock:
            if isinstance(event, Uploaded):
                if event.fl_id not in self.current.started:
                    raise ProtocolError(f"an upload of {event.fl_id}, which did not start")
                if event.fl_id in self.current.uploaded:
                    raise ProtocolError(f"two uploads of {event.fl_id} in one iteration")
                with self.sum.convert(event.content) as contribution:
                    if contribution.fault:
                        raise ProtocolError(f"an upload of {event.fl_id} with {contribution.fault.value}")
                    self.count_upload(event, contribution)
                self.close_if_full(event.now_ms)
            else:
                if isinstance(event, events.CohortSet):
                    self._check_cohort(event.clients)
                self._apply(event)

    def _check_cohort(self, clients: int) -> None:
        if self.state is not ServerState.RUNNING or self.current.started:
            raise ProtocolError(f"the cohort of iteration {self.iteration} cannot be set: it has begun or is over")
        if self.current.rounds is not None:
            raise ProtocolError(
                f"{self.config.mode.name} needs the plan's number of clients, {self.current.clients}, not {clients}"
            )
        if not 0 <= clients <= MAX_UPLOADS:
            raise ProtocolError(f"an iteration takes 0 to {MAX_UPLOADS} clients, not {clients}")

    def _check_switch(self, done: str, already: ServerState) -> None:
        if self.state is ServerState.FINISHED:
            raise ProtocolError(COMPLETED.format(done=done))
        if self.state is already:
            raise ProtocolError(ALREADY.format(done=done))

    def prepare(self, event: Event) -> Callable[[], None]:
        """Hand an event to the log; return the function that stores it, to be called before it is applied."""
        return self._log.prepare(event) if self._log else lambda: None

    def commit(self, event: SmallEvent) -> None:
        """Store an event in the log, and apply it."""
        self.prepare(event)()
        self._apply(event)

    def _apply(self, event: SmallEvent) -> None:
        match event:
            case events.Started():
                self.current.start(event.fl_id, event.device, event.now_ms)
                self.current.accept("startFLJob")
            case events.WindowEnded():
                if not self._close_if_unmasked(event.now_ms, event.reason):
                    self.close(event.now_ms, None, event.reason)
            case events.CohortSet():
                self.current.clients = event.clients
                if not event.clients:
                    self.close(event.now_ms, self.exchanged, NO_CLIENTS)
            case events.Disabled():
                running = self.state is ServerState.RUNNING
                self.enabled = False
                if running:
                    self.close(event.now_ms, None, DISABLED)
            case events.Enabled():
                self.enabled = True
            case events.Renewed():
                self._earlier_refusals += self.current.refusals
                _, first = initial_model(self._algorithm.first(self.model))
                self._restore(self._begun(event.config, event.instance, first))
            case events.Resumed():
                self.current.resume(event.now_ms)
            case _:
                self.current.accept(steps.apply(event, self.current.rounds))
                self.current.note(event.now_ms)
                if isinstance(event, events.SharesRevealed):
                    self._close_if_unmasked(event.now_ms)

    def set_cohort(self, clients: int, now_ms: int) -> None:
        """Let the running iteration take this many clients in place of ``config.start_fl_job_threshold``.

        An iteration of no clients ends at once, valid, with the model that it began with. Raises
        :class:`ProtocolError` where clients have started already, and where masks need the plan's number.
        """
        with self.lock:
            if clients != self.current.clients:
                self._check_cohort(clients)
                self.commit(events.CohortSet(now_ms, clients))

    def absorb(self, part: Part, now_ms: int) -> None:
        """Count the uploads that an :class:`EdgeCoordinator` received as if they had come here.

        Sums are not logged. Raises :class:`ProtocolError`, changing nothing, for another iteration than the running one
        and for a client that has been counted already.
        """
        with self.lock:
            self.tick(now_ms)
            twice = part.devices.keys() & self.current.started.keys()
            if self.state is not ServerState.RUNNING or part.iteration != self.iteration:
                raise ProtocolError(f"a sum of iteration {part.iteration} came in iteration {self.iteration}")
            if twice or len(self.current.started) + len(part.devices) > self.current.clients:
                raise ProtocolError(f"the sum of {len(part.devices)} clients holds one too many: {sorted(twice)[:3]}")
            if not isinstance(self.sum, FedAvgSum):
                raise ProtocolError("masked uploads cannot be summed in several places")
            self.sum.merge(part.sums)
            self.current.kept.update(part.kept)
            for fl_id, device in part.devices.items():
                self.current.start(fl_id, device, now_ms)
                self.current.upload(fl_id, part.uploads[fl_id], now_ms)
                self.current.accept("startFLJob")
                self.current.accept("updateModel")
            self.close_if_full(now_ms)

    def begin_part(self, iteration: int, *, keep_uploads: bool) -> None:
        """Take the uploads of ``iteration`` for another coordinator: it does not end before :meth:`end_part`."""
        self._ends_elsewhere = True
        self._keep_uploads = keep_uploads
        self.ended = EndedIterations({iteration - 1: self.exchanged}, {})
        self.begin(iteration)

    def part(self) -> Part:
        """Return the part of the iteration so far, to be absorbed by the other coordinator."""
        with self.lock:
            devices = {fl_id: self.current.started[fl_id] for fl_id in self.current.uploaded}
            assert isinstance(self.sum, FedAvgSum)
            uploads, kept = dict(self.current.uploaded), dict(self.current.kept)
            return Part(self.current.number, devices, uploads, self.sum.partial(), kept)

    def end_part(self, model: Weights, now_ms: int) -> None:
        """End the iteration with the model that the other coordinator made of it."""
        with self.lock:
            number = self.iteration
            self.close(now_ms, None, AGGREGATED)
            self.ended.models[number] = model

    def close_if_full(self, now_ms: int) -> None:
        """End the iteration with the average where all uploads are here."""
        if self._ends_elsewhere:
            return
        if len(self.current.uploaded) < self.config.quota_of(self.current.clients):
            return
        if self.current.rounds is None:
            self.close(now_ms, self.sum.average(self.exchanged), AGGREGATED)
        else:
            self.current.rounds.freeze(self.current.uploaded)
            self._close_if_unmasked(now_ms)

    def _close_if_unmasked(self, now_ms: int, failure: str = "") -> bool:
        """Close the iteration where the masks can be taken out of its sum, or never can, and say whether that was done.

        ``failure``: why it fails if it cannot be done now.
        """
        rounds = self.current.rounds
        done = rounds and steps.unmasked(rounds, self.sum, self.exchanged, last_chance=bool(failure))
        if not done:
            return False
        self.close(now_ms, done.model, UNMASKED if done.model is not None else failure or UNMASK_FAILED)
        return True

    def count_upload(self, event: Uploaded, contribution: Any) -> None:
        """Add an upload to the sum of the iteration."""
        device = self.current.upload(event.fl_id, event.upload, event.now_ms)
        self.sum.add(contribution, device.data_size)
        if self._keep_uploads:
            assert isinstance(event.content, Mapping)
            self.current.kept[event.fl_id] = self._flat(event.content, device.data_size)
        self.current.accept("updateModel")

    def _flat(self, content: Weights, data_size: int) -> FloatVector:
        """Return a copy of one upload's weights in the order of the layout.

        Those that are constant or were not uploaded have their value in the model.
        """
        sent = content.keys() - self.constant
        given = {name: content[name] / np.float32(data_size) for name in sent}
        return self.layout.flatten({**self.exchanged, **given})

    def close(self, now_ms: int, average: Weights | None, reason: str) -> None:
        """End the iteration with the ``average`` of its uploads; None: it failed, and the model stays."""
        self.sum.reset()
        ended, exchanged, error = self.current, None, None
        if average is not None:
            try:
                exchanged = self._stepped(ended, average) if ended.uploaded else average
            except AlgorithmError as failure:
                error, reason = failure, str(failure)
        valid = exchanged is not None
        self.ended.keep(
            ended.number, self.exchanged if exchanged is None else exchanged, ended.uploaded if valid else None
        )
        self.secagg.end(ended.rounds, valid=valid)
        self._earlier_refusals += ended.refusals
        self.begin(ended.number + 1)
        if self._on_iteration_end:
            self._on_iteration_end(
                ended.record(
                    valid=valid,
                    reason=reason,
                    model=self.model,
                    now_ms=now_ms,
                    wall=self.wall,
                    instance=self.instance,
                    error=error,
                )
            )

    def _stepped(self, ended: Iteration, average: Weights) -> Weights:
        """Return the next model. Raises :class:`AlgorithmError`, changing nothing."""
        samples = {fl_id: device.data_size for fl_id, device in ended.started.items()}
        uploads = [(fl_id, samples[fl_id], self.layout.split(flat)) for fl_id, flat in sorted(ended.kept.items())]
        made, arrays = self._algorithm.next(
            ended.number, self.exchanged, average, self._arrays, len(ended.uploaded), uploads
        )
        self._arrays = arrays
        return average if made is average else self.layout.split(self.layout.flatten(made))
