"""A job that survives the death of its server: acknowledged uploads are on disk, and are counted once.

Every event goes into a :class:`~mindfl.server.journal.Journal` before it happens. An answer says which position of the
journal must be durable before it may be sent:

- updateModel: that of the newest upload, this one included. So a 200 is never taken back, not even by a power loss.
- the requests of secure aggregation: likewise that of the newest event, since other clients act on their answers.
- startFLJob and getModel: that of the end of the last iteration, because they show its model. It is nearly always
  durable already. The record of a startFLJob itself is written but not waited for: it survives the death of the
  process. If power fails within the milliseconds before the next flush, the device's upload is refused with 300 and it
  starts anew. An upload that was acknowledged is never without its start, which lies before it in the same journal.

At the end of an iteration the journal begins a new file and a snapshot (settings, the last three models) is written in
the background; then the files before are removed. So the disk holds the uploads of one iteration and a few models.
``on_iteration_end`` is called before the snapshot is begun, and again for iterations that end while the journal is
replayed: at least once for each, in order, with the same record but for the counts of refused requests.
"""

from __future__ import annotations

import logging
import os
import struct
import time
from collections.abc import Callable, Mapping, Set
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from mindfl.algorithms.algorithm import Algorithm
from mindfl.algorithms.learning_rates import LearningRates
from mindfl.algorithms.server_algorithm import ServerAlgorithm, split
from mindfl.errors import MindflError, ProtocolError, StorageError
from mindfl.files import PathLike
from mindfl.protocol import Request, RequestFLJob, RequestGetModel, Response
from mindfl.server.aggregate import FeatureLayout, initial_model
from mindfl.server.coordinator import Coordinator
from mindfl.server.events import Event, EventCodec, SecureEvent, Started, Uploaded
from mindfl.server.iteration import Clock, IterationRecord
from mindfl.server.reports import LastingFault
from mindfl.server.segment import Record
from mindfl.server.server_config import ServerConfig
from mindfl.server.snapshot import Given, JobOrigin, Snapshot, begun_differently, decode, other_settings
from mindfl.server.state import EMPTIED, MODELS_KEPT, JobState
from mindfl.server.storage import EventJournal, FolderStorage, Memory, Storage

_logger = logging.getLogger(__name__)


class Answer(NamedTuple):
    """A response that may be sent once ``position`` is durable (:meth:`DurableJob.durable`)."""

    response: Response
    position: int


@dataclass(frozen=True)
class Recovery:
    """Result of reading a state folder: replayed events, uploads among them, bytes of a torn end, seconds taken."""

    events: int
    uploads: int
    cut: int
    seconds: float


class DurableJob:
    """The job of ``config`` and ``initial_weights`` in ``storage``, a folder by default: a new one, or the one there.

    A stored job resumes with the settings and the model that it began with: others are refused. ``as_stored``: it
    resumes with any values of the weights, and the settings may also be its present ones. ``clock`` is the job's time:
    ``now_ms`` of every call must be its ``now_ms()``. ``instance`` names a new job's first instance,
    ``first_iteration`` is its first iteration. ``constant``, ``algorithm`` and ``lr_schedule``: see
    :class:`Coordinator`. ``memory``: the state from which the job resumes where nothing is stored; if clients had
    started in its running iteration, that fails. A storage belongs to the job from now on, also where this fails.

    Raises :class:`StorageError` where the folder cannot be used, is in use, is damaged, or holds another job;
    :class:`OptionError` for unusable weights.
    """

    def __init__(
        self,
        storage: PathLike | Storage,
        config: ServerConfig,
        initial_weights: Mapping[str, NDArray[np.float32]],
        *,
        clock: Clock,
        on_iteration_end: Callable[[IterationRecord], None] | None = None,
        instance: str = "",
        first_iteration: int = 1,
        as_stored: bool = False,
        constant: Set[str] = frozenset(),
        algorithm: Algorithm | None = None,
        lr_schedule: object = "constant",
        memory: Memory | None = None,
    ) -> None:
        begin = time.perf_counter()
        self._on_iteration_end = on_iteration_end
        self._saver = ThreadPoolExecutor(1, "snapshot")
        self._snapshots = LastingFault(_logger)
        served = ServerAlgorithm(algorithm)
        layout, first = initial_model(served.first(initial_weights))
        rates = LearningRates(lr_schedule, config.fl_iteration_num)
        given = Given(config, split(first)[0], layout, constant, served.description, as_stored, rates.name)
        self._log = _EventLog(layout)
        self._storage = FolderStorage(storage) if isinstance(storage, (str, os.PathLike)) else storage
        try:
            arrays = served.first_state(first)
            new = JobState(config, instance, first_iteration, True, {first_iteration - 1: first}, arrays=arrays)
            snapshot = self._newest = self._read_or_begin(given, new, memory)
            self.coordinator = Coordinator(
                config,
                initial_weights,
                on_iteration_end=self._iteration_ended,
                log=self._log,
                wall=clock.wall_ms,
                state=snapshot.state,
                constant=constant,
                algorithm=algorithm,
                lr_schedule=lr_schedule,
            )
            self._resume(snapshot, clock)
            self._check_settings(config)
            if memory and self.revived and memory.busy:
                self.coordinator.job.abandon(clock.now_ms(), EMPTIED)
        except BaseException:
            self._storage.close()
            raise
        seconds = time.perf_counter() - begin
        self.recovery = Recovery(self._log.replayed, self._log.uploads_replayed, self._journal.cut, seconds)

    def handle(self, request: Request, now_ms: int, *, repeated: bool = False) -> Answer:
        """Answer one request; callable from several threads. The answer must wait for its position."""
        response = self.coordinator.handle(request, now_ms, repeated=repeated)
        # Read afterwards, so it covers all events that the response depends on; later ones only delay it a little.
        shows_model = isinstance(request, RequestFLJob | RequestGetModel)
        return Answer(response, self._log.settled if shows_model else self._log.counted)

    def durable(self, position: int) -> Future[None] | None:
        """Return None if all before ``position`` is on disk, else a future that is done when it is.

        See :meth:`Journal.durable`: if it fails, answer nothing more and end the process.
        """
        return self._journal.durable(position)

    @property
    def prompt(self) -> bool:
        """Whether :meth:`handle` never waits for a network."""
        return self._storage.prompt

    @property
    def away(self) -> bool:
        """Whether the storage cannot be reached just now."""
        return self._storage.away

    @property
    def origin(self) -> JobOrigin:
        """The settings and the model that the job began with."""
        return self._newest.origin

    def memory(self) -> Memory:
        """Return the state from which the job resumes if its storage is emptied."""
        state, busy = self.coordinator.job.snapshot(), self.coordinator.job.is_busy
        return Memory(state, busy, self.origin.job, self._log.end)

    @property
    def settled(self) -> int:
        """The position to wait for after ``disable``, ``enable``, ``new_instance`` and ``tick`` of the job."""
        return self._log.settled

    def close(self) -> None:
        """Flush everything to the disk and release the storage. No request may be under way."""
        self._saver.shutdown()
        self._journal.close()
        self._storage.close()

    def _check_settings(self, config: ServerConfig) -> None:
        changed = other_settings(config, asdict(self.origin.config), asdict(self.coordinator.config))
        if changed:
            self._journal.close()
            raise begun_differently(self._storage.place, changed)

    def _read_or_begin(self, given: Given, new: JobState, memory: Memory | None) -> Snapshot:
        """Return the stored snapshot, or store that of a job in the state ``new``, or in its state in ``memory``."""
        stored = self._storage.load()
        self.resumed = stored is not None
        self.revived = stored is None and memory is not None
        if stored is not None:
            return decode(stored, self._storage.place, given)
        snapshot = Snapshot(given.begin(), 0, memory.state if memory else new)
        self._storage.save(snapshot.parts())
        return snapshot

    def _resume(self, snapshot: Snapshot, clock: Clock) -> None:
        """Replay the journal after the snapshot, and append to it from now on."""
        self._journal = self._storage.open_journal(snapshot.origin.job, snapshot.position, self._replay)
        self._journal.drop_before(snapshot.position)
        self._log.open(self._journal)
        try:
            # Some models more than now may be kept by then.
            state = sum(array.nbytes for array in snapshot.state.arrays.values())
            self._storage.set_reserve(2 * (MODELS_KEPT * 4 * self._log.layout.size + state))
            self.coordinator.job.resume(clock.now_ms())
        except BaseException:
            self._journal.close()
            raise

    def _replay(self, kind: int, payload: bytes) -> None:
        event = self._log.decode(kind, payload)
        try:
            self.coordinator.job.replay(event)
        except ProtocolError as error:
            raise StorageError(
                f"{self._storage.place}: the journal does not go with its snapshot: {error}",
                hint="restore both from a backup, or begin anew in another place",
            ) from None

    def _iteration_ended(self, record: IterationRecord) -> None:
        try:
            if self._on_iteration_end:
                self._on_iteration_end(record)
        finally:
            position = self._log.end_iteration()
            if position is not None:
                self._newest = Snapshot(self.origin, position, self.coordinator.job.snapshot())
                self._saver.submit(self._save, self._newest)

    def _save(self, snapshot: Snapshot) -> None:
        if snapshot is not self._newest:
            return
        try:
            self._store(snapshot)
        except StorageError:
            with self._storage.spending():
                try:
                    self._store(snapshot)
                except StorageError as error:
                    # The journal holds everything from the snapshot before on; the next one will make up for it.
                    self._snapshots.occurred(error.line())
                    return
        self._snapshots.over(f"{self._storage.place} takes snapshots")

    def _store(self, snapshot: Snapshot) -> None:
        self._storage.save(snapshot.parts())
        self._journal.drop_before(snapshot.position)


class _EventLog:
    """Between coordinator and journal: the bytes of events, and the positions that answers depend on."""

    def __init__(self, layout: FeatureLayout) -> None:
        self.layout = layout
        self.counted = self.settled = self.end = 0
        self.replayed = self.uploads_replayed = 0
        self._codec = EventCodec(layout)
        self._journal: EventJournal | None = None

    def open(self, journal: EventJournal) -> None:
        """Append to ``journal`` from now on; its records have been replayed."""
        self._journal = journal

    def prepare(self, event: Event) -> Callable[[], None]:
        journal = self._journal
        if journal is None:
            raise StorageError("the journal is not open")
        record = Record.of(*self._codec.encode(event))
        bulk = isinstance(event, (Started, Uploaded, *get_args(SecureEvent)))

        def append() -> None:
            position = self.end = journal.append(record, vital=not bulk)
            if not isinstance(event, Started):
                self.counted = position
            if not bulk:
                self.settled = position

        return append

    def decode(self, kind: int, payload: bytes) -> Event:
        """Return an event of the journal, and count it."""
        try:
            event = self._codec.decode(kind, payload)
        except (ValueError, LookupError, TypeError, struct.error, MindflError) as error:
            raise StorageError(
                f"the journal holds an event that this version of mindfl does not understand: {error}"
            ) from error
        self.replayed += 1
        self.uploads_replayed += isinstance(event, Uploaded)
        return event

    def end_iteration(self) -> int | None:
        """Let the journal begin a new file; return its position, or None while the journal is being replayed."""
        if self._journal is None:
            return None
        self.settled = self.counted
        return self._journal.rotate()
