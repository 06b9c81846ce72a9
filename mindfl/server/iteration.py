"""The state of one iteration: its clients, its uploads, its windows, and counts of requests."""

from __future__ import annotations

import math
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from mindfl.errors import AlgorithmError
from mindfl.protocol import FloatVector, Weights, texts
from mindfl.server.aggregate import PartialSum
from mindfl.server.refusal import Refusal
from mindfl.server.server_config import ServerConfig

if TYPE_CHECKING:
    from mindfl.server.secagg.rounds import Rounds

RETRY_MARGIN_MS = 1000
"""A retry time lies at least this far ahead, so that it is still in the future when the client reads it."""

_MOST_DOUBLINGS = 12


class Clock:
    """The time of a running job, in milliseconds since the epoch: it begins as the wall clock's and never steps.

    Windows are measured in it, so a step of the wall clock (by hand, NTP, a daylight rule gone wrong) neither ends
    an iteration nor stretches it. Clients are told the wall time as it is now, which they compare with their own clock.
    The two sources return nanoseconds.
    """

    def __init__(
        self, monotonic_ns: Callable[[], int] = time.monotonic_ns, wall_ns: Callable[[], int] = time.time_ns
    ) -> None:
        self._monotonic_ns = monotonic_ns
        self._wall_ns = wall_ns
        self._anchor_ns = wall_ns() - monotonic_ns()

    def now_ms(self) -> int:
        """Return the job time."""
        return (self._anchor_ns + self._monotonic_ns()) // 1_000_000

    def wall_ms(self, job_ms: int) -> int:
        """Return the wall time that corresponds to a job time, by the wall clock as it is set now."""
        stepped_ns = self._wall_ns() - self._monotonic_ns() - self._anchor_ns
        return job_ms + round(stepped_ns / 1_000_000)


@dataclass(slots=True)
class Visits:
    """Requests to one endpoint. A getModel answered "not ready" counts as rejected, as in the reference's metrics."""

    accepted: int = 0
    rejected: int = 0

    @property
    def total(self) -> int:
        """All requests."""
        return self.accepted + self.rejected


@dataclass(frozen=True, slots=True)
class Device:
    """A client's report in its startFLJob."""

    data_size: int
    eval_data_size: int


@dataclass(frozen=True, slots=True)
class UploadReport:
    """A client's report in its updateModel."""

    loss: float
    accuracy: float


@dataclass(frozen=True, eq=False)
class Part:
    """The part of ``iteration`` that an edge coordinator served: sizes, reports and summed uploads.

    ``kept``: the single uploads, where the job's algorithm needs them.
    """

    iteration: int
    devices: Mapping[str, Device]
    uploads: Mapping[str, UploadReport]
    sums: PartialSum
    kept: Mapping[str, FloatVector] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class IterationRecord:
    """The result of one iteration.

    ``model`` is the model of this iteration (that of the iteration before where ``valid`` is False). ``loss`` is
    sum(loss x data_size) / sum(data_size) over the uploads, ``accuracy`` likewise over eval_data_size, both 0.0 where
    nothing was reported. ``start_ms`` is the first accepted startFLJob (None if there was none), in wall time, as is
    ``end_ms``; time during which the server was down is left out, also from ``durations_ms``: how long each upload took
    from its client's startFLJob on. ``instance`` is the name of the job's instance. ``error``: the algorithm failed.
    ``devices`` and ``reports`` are what clients said in startFLJob and updateModel, by fl_id.
    """

    iteration: int
    valid: bool
    reason: str
    model: Weights
    loss: float
    accuracy: float
    started: int
    uploads: int
    data_size: int
    eval_data_size: int
    start_ms: int | None
    end_ms: int
    visits: Mapping[str, Visits]
    refusals: Mapping[str, int]
    durations_ms: Sequence[int] = ()
    instance: str = ""
    error: AlgorithmError | None = None
    devices: Mapping[str, Device] = field(default_factory=dict)
    reports: Mapping[str, UploadReport] = field(default_factory=dict)


@dataclass(slots=True)
class Iteration:
    """An iteration in progress, in which ``clients`` may start.

    ``rounds`` are those of secure aggregation, if it is used. ``starts_ms`` are counted as if the server had never been
    down. ``kept`` are the clients' weights in the order of the layout, where the job's algorithm needs single uploads.
    """

    number: int
    clients: int
    rounds: Rounds[Any] | None = None
    started: dict[str, Device] = field(default_factory=dict)
    uploaded: dict[str, UploadReport] = field(default_factory=dict)
    kept: dict[str, FloatVector] = field(default_factory=dict)
    starts_ms: dict[str, int] = field(default_factory=dict)
    durations_ms: list[int] = field(default_factory=list)
    first_start_ms: int | None = None
    first_upload_ms: int | None = None
    last_ms: int = 0
    paused_ms: int = 0
    visits: defaultdict[str, Visits] = field(default_factory=lambda: defaultdict(Visits))
    refusals: Counter[str] = field(default_factory=Counter)
    sent_away: Counter[str] = field(default_factory=Counter)

    def start(self, fl_id: str, device: Device, now_ms: int) -> None:
        """Note an accepted startFLJob."""
        self.started[fl_id] = device
        self.starts_ms[fl_id] = now_ms - self.paused_ms
        self.last_ms = now_ms
        if self.first_start_ms is None:
            self.first_start_ms = now_ms

    def upload(self, fl_id: str, upload: UploadReport, now_ms: int) -> Device:
        """Note an accepted updateModel and return the device it came from."""
        device = self.started[fl_id]
        self.uploaded[fl_id] = upload
        self.durations_ms.append(now_ms - self.paused_ms - self.starts_ms[fl_id])
        self.last_ms = now_ms
        if self.first_upload_ms is None:
            self.first_upload_ms = now_ms
        return device

    def note(self, now_ms: int) -> None:
        """Note another event at ``now_ms``."""
        self.last_ms = now_ms

    def resume(self, now_ms: int) -> None:
        """Let the windows continue at ``now_ms`` where they stood at the last start or upload."""
        pause = now_ms - self.last_ms
        self.last_ms = now_ms
        self.paused_ms += pause
        if self.first_start_ms is not None:
            self.first_start_ms += pause
        if self.first_upload_ms is not None:
            self.first_upload_ms += pause
        if self.rounds is not None:
            self.rounds.resume(pause)

    def accept(self, endpoint: str) -> None:
        """Count an accepted request."""
        self.visits[endpoint].accepted += 1

    def refuse(self, endpoint: str, refusal: Refusal) -> None:
        """Count a refused request."""
        self.visits[endpoint].rejected += 1
        self.refusals[refusal.label] += 1

    def deadlines(self, config: ServerConfig) -> list[tuple[int, str]]:
        """Return (time in ms, reason of the failure) of each window that is running now."""
        running = []
        if self.first_start_ms is not None:
            if len(self.started) < self.clients:
                running.append((self.first_start_ms + config.start_fl_job_time_window, texts.START_TIMEOUT))
            running.append((self.first_start_ms + config.global_iteration_time_window, texts.GLOBAL_TIMEOUT))
        if self.first_upload_ms is not None and not self.is_full:
            running.append((self.first_upload_ms + config.update_model_time_window, texts.UPDATE_TIMEOUT))
        for endpoint, began_ms in self.rounds.windows() if self.rounds else ():
            running.append((began_ms + config.cipher_time_window, texts.ROUND_TIMEOUT.format(endpoint=endpoint)))
        return running

    @property
    def is_full(self) -> bool:
        """Whether all uploads are here, and masks are yet to be taken out of their sum."""
        return self.rounds is not None and self.rounds.survivors is not None

    def next_req_time(
        self, config: ServerConfig, now_ms: int, fl_id: str | None = None, *, refused: bool = False
    ) -> int:
        """Return when ``fl_id`` should ask startFLJob again, in ms and always ahead of ``now_ms``.

        At once (plus a margin) if it may still join this iteration, else when the next one is certain to be open: the
        earliest end among the windows that nothing but the end of the iteration can stop. A second refusal in a row
        makes the reference's device give up, so an optimistic guess would cost a client. Where only masks are left to
        be taken out the end is near, unless devices are lost: a client that is ``refused`` then comes back after 1, 2,
        4, ... s.
        """
        joinable = fl_id is not None and fl_id not in self.started and len(self.started) < self.clients
        final = {texts.GLOBAL_TIMEOUT} if self.rounds else {texts.GLOBAL_TIMEOUT, texts.UPDATE_TIMEOUT}
        ends = [end for end, reason in self.deadlines(config) if reason in final and not joinable]
        wait_ms = max(min(ends, default=now_ms) - now_ms, 0)
        if refused and self.is_full:
            wait_ms = min(wait_ms, RETRY_MARGIN_MS * (2 ** min(self.sent_away[fl_id or ""], _MOST_DOUBLINGS) - 1))
            if fl_id in self.started:  # an attacker may invent any number of others
                self.sent_away[fl_id] += 1
        return now_ms + wait_ms + RETRY_MARGIN_MS

    def record(
        self,
        *,
        valid: bool,
        reason: str,
        model: Weights,
        now_ms: int,
        wall: Callable[[int], int],
        instance: str,
        error: AlgorithmError | None,
    ) -> IterationRecord:
        """Return the record of this iteration, ended at ``now_ms``; ``wall`` makes wall time of it."""
        reports = [(self.started[fl_id], upload) for fl_id, upload in self.uploaded.items()]
        data_size = sum(device.data_size for device, _ in reports)
        eval_data_size = sum(device.eval_data_size for device, _ in reports)
        # fsum is exact, so the averages do not depend on the order of arrival either.
        return IterationRecord(
            iteration=self.number,
            valid=valid,
            reason=reason,
            model=model,
            loss=math.fsum(upload.loss * device.data_size for device, upload in reports) / max(data_size, 1),
            accuracy=math.fsum(upload.accuracy * device.eval_data_size for device, upload in reports)
            / max(eval_data_size, 1),
            started=len(self.started),
            uploads=len(self.uploaded),
            data_size=data_size,
            eval_data_size=eval_data_size,
            start_ms=None if self.first_start_ms is None else wall(self.first_start_ms),
            end_ms=wall(now_ms),
            visits=dict(self.visits),
            refusals=dict(self.refusals),
            durations_ms=tuple(self.durations_ms),
            instance=instance,
            error=error,
            devices=self.started,
            reports=self.uploaded,
        )


Converted: TypeAlias = tuple[Any, Iteration]
"""An upload as numbers to add, and the iteration that it came in."""
