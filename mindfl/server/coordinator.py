"""The server of a federated job as a state machine: (request, now) -> response. No sockets, no clock, no randomness.

Codes, texts and the order of the checks are those of the MindSpore Federated 0.1.0 server. Differences, all for the
better of the devices: an iteration closes the moment its last upload is accepted (not up to a second later), windows
end to the millisecond, the safemode text is never sent, and a retry time is computed per answer and is in the future.
"""

from __future__ import annotations

import math
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from mindfl.errors import ProtocolError
from mindfl.protocol import (
    ENDPOINTS,
    PlainText,
    Request,
    RequestFLJob,
    RequestGetModel,
    RequestUpdateModel,
    Response,
    ResponseCode,
    ResponseFLJob,
    ResponseGetModel,
    ResponseUpdateModel,
    Weights,
    texts,
)
from mindfl.server.aggregate import Contribution, FedAvgSum, PartialSum, initial_model
from mindfl.server.config import ServerConfig
from mindfl.server.iteration import Device, Iteration, IterationRecord, Upload
from mindfl.server.refusal import FAULT_REFUSALS, Refusal

MODELS_KEPT = 3
MAX_DATA_SIZE = 65535
FLOAT32_MAX = float(np.finfo(np.float32).max)

AGGREGATED = "Weight aggregation finished! This iteration is valid. Proceed to next iteration."
DISABLED = "Instance disabled! This iteration is invalid. Proceed to next iteration."


class ServerState(Enum):
    """What the job is doing."""

    RUNNING = "running"
    FINISHED = "finished"
    DISABLED = "disabled"


@dataclass(frozen=True, eq=False)
class Part:
    """What the clients of an :class:`EdgeCoordinator` did in ``iteration``: sizes, reports and summed uploads."""

    iteration: int
    devices: Mapping[str, Device]
    uploads: Mapping[str, Upload]
    sums: PartialSum


class Coordinator:
    """Runs ``config.fl_iteration_num`` iterations of federated averaging, starting from ``initial_weights``.

    ``initial_weights`` maps names to float32 arrays of any shape; clients see them flat, in ascending byte order of
    the names. All methods may be called from several threads. ``on_iteration_end`` is called with each
    :class:`IterationRecord` in order, with the coordinator locked: keep it short. Times are milliseconds since the
    epoch. Raises :class:`OptionError` for unusable initial weights.
    """

    def __init__(
        self,
        config: ServerConfig,
        initial_weights: Mapping[str, NDArray[np.float32]],
        *,
        on_iteration_end: Callable[[IterationRecord], None] | None = None,
    ) -> None:
        self.config = config
        layout, model = initial_model(initial_weights)
        self._plan = config.plan()
        self._on_iteration_end = on_iteration_end
        self._lock = threading.RLock()
        self._sum = FedAvgSum(layout)
        self._models = {0: model}
        self._current = Iteration(1)
        self._earlier_refusals: Counter[str] = Counter()
        self._filled: int | None = None
        self._enabled = True

    @property
    def iteration(self) -> int:
        """The current iteration, from 1; one more than the last once the job has finished."""
        return self._current.number

    @property
    def state(self) -> ServerState:
        """What the job is doing."""
        if not self._enabled:
            return ServerState.DISABLED
        return ServerState.RUNNING if self.iteration <= self.config.fl_iteration_num else ServerState.FINISHED

    @property
    def model(self) -> Weights:
        """The latest model: that of iteration ``self.iteration - 1``; read-only."""
        with self._lock:
            return self._models[self.iteration - 1]

    @property
    def refusals(self) -> Mapping[str, int]:
        """How often each refusal (``Refusal.label``) happened in the whole job."""
        with self._lock:
            return self._earlier_refusals + self._current.refusals

    def next_deadline(self) -> int | None:
        """Return when :meth:`tick` will next end a window, in ms, or None while no window is running."""
        with self._lock:
            return min((end for end, _ in self._current.deadlines(self.config)), default=None)

    def tick(self, now_ms: int) -> None:
        """Fail the current iteration if one of its windows has ended. Every request does this too."""
        with self._lock:
            end, reason = min(self._current.deadlines(self.config), default=(math.inf, ""))
            if now_ms >= end:
                self._close(now_ms, valid=False, reason=reason)

    def disable(self, now_ms: int) -> None:
        """Abandon the running iteration (its number is used up) and answer every request with the finished text."""
        with self._lock:
            if self.state is ServerState.RUNNING:
                self._close(now_ms, valid=False, reason=DISABLED)
            self._enabled = False

    def enable(self) -> None:
        """Go on after :meth:`disable`."""
        with self._lock:
            self._enabled = True

    def handle(self, request: Request, now_ms: int) -> Response:
        """Answer one request."""
        if isinstance(request, RequestUpdateModel):
            return self._update_model(request, now_ms)
        with self._lock:
            self.tick(now_ms)
            if isinstance(request, RequestFLJob):
                return self._start_fl_job(request, now_ms)
            return self._get_model(request, now_ms)

    def _start_fl_job(self, request: RequestFLJob, now_ms: int) -> Response:
        refusal = self._start_refusal(request)
        fl_id = request.fl_id or ""
        if refusal:
            reason = self._refuse(request, refusal, fl_id=fl_id)
            if refusal.retcode is None:
                return PlainText(reason)
        else:
            reason = texts.START_SUCCESS
            self._current.accept("startFLJob")
            self._current.start(fl_id, Device(request.data_size, max(request.eval_data_size, 0)), now_ms)
        return ResponseFLJob(
            retcode=refusal.retcode if refusal and refusal.retcode else ResponseCode.SUCCEED,
            reason=reason,
            iteration=self.iteration,
            is_selected=refusal is None,
            next_req_time=self._next_req_time(now_ms, fl_id),
            fl_plan_config=self._plan,
            feature_map=None if refusal else self.model,
        )

    def _start_refusal(self, request: RequestFLJob) -> Refusal | None:
        if self.state is not ServerState.RUNNING:
            return Refusal.FINISHED
        if None in (request.fl_name, request.fl_id, request.timestamp):
            return Refusal.START_SCHEMA
        if len(self._current.started) >= self.config.start_fl_job_threshold:
            return Refusal.START_QUOTA_FULL
        if request.data_size < 1:
            return Refusal.DATA_SIZE_SMALL
        if request.data_size > MAX_DATA_SIZE:
            return Refusal.DATA_SIZE_LARGE
        return Refusal.START_DUPLICATE if request.fl_id in self._current.started else None

    def _update_model(self, request: RequestUpdateModel, now_ms: int) -> Response:
        with self._lock:
            self.tick(now_ms)
            refusal = self._update_refusal(request)
            if refusal:
                return self._refuse_update(request, refusal, now_ms)
        # The conversion is the heavy part, so it runs unlocked. The iteration may end meanwhile: hence a second check.
        with self._sum.convert(request.feature_map or {}) as contribution, self._lock:
            refusal = self._update_refusal(request) or self._contribution_refusal(request, contribution)
            if refusal:
                return self._refuse_update(request, refusal, now_ms)
            return self._accept_update(request, contribution, now_ms)

    def absorb(self, part: Part, now_ms: int) -> None:
        """Count the uploads that an :class:`EdgeCoordinator` received as if they had come here.

        Raises :class:`ProtocolError`, changing nothing, for another iteration than the running one and for a client
        that has been counted already.
        """
        with self._lock:
            self.tick(now_ms)
            twice = part.devices.keys() & self._current.started.keys()
            if self.state is not ServerState.RUNNING or part.iteration != self.iteration:
                raise ProtocolError(f"a sum of iteration {part.iteration} came in iteration {self.iteration}")
            if twice or len(self._current.started) + len(part.devices) > self.config.start_fl_job_threshold:
                raise ProtocolError(f"the sum of {len(part.devices)} clients holds one too many: {sorted(twice)[:3]}")
            self._sum.merge(part.sums)
            for fl_id, device in part.devices.items():
                upload = part.uploads[fl_id]
                self._current.start(fl_id, device, now_ms)
                self._current.upload(fl_id, upload.loss, upload.accuracy, now_ms)
                self._current.accept("startFLJob")
                self._current.accept("updateModel")
            self._close_if_full(now_ms)

    def _close_if_full(self, now_ms: int) -> None:
        if len(self._current.uploaded) == self.config.update_quota:
            self._close(now_ms, valid=True, reason=AGGREGATED)

    def _update_refusal(self, request: RequestUpdateModel) -> Refusal | None:
        if self.state is not ServerState.RUNNING:
            return Refusal.FINISHED
        if None in (request.fl_name, request.fl_id, request.timestamp) or request.feature_map is None:
            return Refusal.UPDATE_SCHEMA
        if not (abs(request.upload_loss) <= FLOAT32_MAX and abs(request.upload_accuracy) <= FLOAT32_MAX):
            return Refusal.UPDATE_NOT_FINITE
        if request.fl_id not in self._current.started:
            # A full quota closes the iteration at once, so only those who come too late can meet it.
            return Refusal.UPDATE_QUOTA_FULL if request.iteration == self._filled else Refusal.UPDATE_NOT_STARTED
        return Refusal.UPDATE_STALE if request.iteration != self.iteration else None

    def _contribution_refusal(self, request: RequestUpdateModel, contribution: Contribution) -> Refusal | None:
        if contribution.fault:
            return FAULT_REFUSALS[contribution.fault]
        return Refusal.UPDATE_DUPLICATE if request.fl_id in self._current.uploaded else None

    def _accept_update(self, request: RequestUpdateModel, contribution: Contribution, now_ms: int) -> Response:
        fl_id = request.fl_id or ""
        device = self._current.upload(fl_id, request.upload_loss, request.upload_accuracy, now_ms)
        self._sum.add(contribution, device.data_size)
        self._current.accept("updateModel")
        time = self._next_req_time(now_ms, fl_id)
        self._close_if_full(now_ms)
        return ResponseUpdateModel(retcode=ResponseCode.SUCCEED, reason=texts.UPDATE_SUCCESS, next_req_time=time)

    def _refuse_update(self, request: RequestUpdateModel, refusal: Refusal, now_ms: int) -> Response:
        time = self._next_req_time(now_ms, request.fl_id)
        reason = self._refuse(
            request, refusal, fl_id=request.fl_id, given=request.iteration, current=self.iteration, time=time
        )
        if refusal.retcode is None:
            return PlainText(reason)
        next_req_time = "" if refusal.text == texts.UPDATE_SCHEMA else time
        return ResponseUpdateModel(retcode=refusal.retcode, reason=reason, next_req_time=next_req_time)

    def _get_model(self, request: RequestGetModel, now_ms: int) -> Response:
        if self.state is ServerState.DISABLED:
            return PlainText(self._refuse(request, Refusal.FINISHED))
        time = self._next_req_time(now_ms)
        if self.state is ServerState.RUNNING and request.iteration == self.iteration:
            reason = self._refuse(request, Refusal.MODEL_NOT_READY, given=request.iteration)
            return ResponseGetModel(
                retcode=ResponseCode.SUC_NOT_READY, reason=reason, iteration=self.iteration, timestamp=time
            )
        self._current.accept("getModel")
        # The reference's getModel task asks for iteration 0 and wants the latest, not the untrained model.
        model = self._models.get(request.iteration, self.model) if request.iteration > 0 else self.model
        return ResponseGetModel(
            retcode=ResponseCode.SUCCEED,
            reason=texts.MODEL_READY.format(given=request.iteration),
            iteration=self.iteration,
            feature_map=model,
            timestamp=time,
        )

    def _refuse(self, request: Request, refusal: Refusal, **places: object) -> str:
        self._current.refuse(ENDPOINTS[type(request)], refusal)
        return refusal.text.format(**places)

    def _next_req_time(self, now_ms: int, fl_id: str | None = None) -> str:
        return str(self._current.next_req_time(self.config, now_ms, fl_id))

    def _close(self, now_ms: int, *, valid: bool, reason: str) -> None:
        model = self._sum.average(self.model) if valid else self.model
        self._sum.reset()
        ended = self._current
        self._filled = ended.number if valid else None
        self._models[ended.number] = model
        self._models.pop(ended.number - MODELS_KEPT, None)
        self._earlier_refusals += ended.refusals
        self._current = Iteration(ended.number + 1)
        if self._on_iteration_end:
            self._on_iteration_end(ended.record(valid=valid, reason=reason, model=model, now_ms=now_ms))


class EdgeCoordinator(Coordinator):
    """Answers part of a job's clients on another coordinator's behalf, for one iteration.

    Uploads are summed here and wait to be taken; clients that ask for the model are told to wait until it is published.
    ``config.start_fl_job_threshold`` is the number of clients of this part.
    """

    def __init__(self, config: ServerConfig, model: Mapping[str, NDArray[np.float32]], iteration: int) -> None:
        super().__init__(config, model)
        self._models = {iteration - 1: self._models[0]}
        self._current = Iteration(iteration)

    def part(self) -> Part:
        """Return what the clients did so far, to be absorbed by the other coordinator."""
        with self._lock:
            current = self._current
            devices = {fl_id: current.started[fl_id] for fl_id in current.uploaded}
            return Part(current.number, devices, dict(current.uploaded), self._sum.partial())

    def publish(self, model: Weights, now_ms: int) -> None:
        """End the iteration with the model that the other coordinator made of it."""
        with self._lock:
            number = self.iteration
            self._close(now_ms, valid=False, reason=AGGREGATED)
            self._models[number] = model

    def _close_if_full(self, now_ms: int) -> None:
        """Nothing ends here before the model is published."""
