"""The server of a federated job as a state machine: (request, now) -> response. No sockets, no clock.

Codes, texts and the order of the checks are those of the MindSpore Federated 0.1.0 server. Differences, all for the
better of the devices: an iteration closes the moment its last upload is accepted (not up to a second later), windows
end to the millisecond, the safemode text is never sent, and a retry time is computed per answer and is in the future.

The state and its changes are those of :mod:`mindfl.server.job_state`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mindfl.errors import ProtocolError, StorageError
from mindfl.modes import Basis
from mindfl.privacy.faults import EncodingError
from mindfl.protocol import (
    ENDPOINTS,
    PlainText,
    Request,
    RequestFLJob,
    RequestGetModel,
    RequestUpdateModel,
    Response,
    SendReconstructSecret,
    Weights,
    texts,
)
from mindfl.protocol.secure import SecureRequest
from mindfl.server import answers, events
from mindfl.server.aggregate import WithoutConstant
from mindfl.server.events import Uploaded
from mindfl.server.iteration import Converted, Device, Iteration, Part
from mindfl.server.job_state import FederatedJobState, JobArguments
from mindfl.server.refusal import (
    FAULT_REFUSALS,
    STORAGE_RETRY_MS,
    Refusal,
    start_refusal,
    storage_refusal,
    update_form_refusal,
)
from mindfl.server.secagg import steps
from mindfl.server.server_config import ServerConfig
from mindfl.server.state import ServerState

if TYPE_CHECKING:
    from typing_extensions import Unpack


class Coordinator:
    """The server of a federated job: answers clients, aggregates, and goes from round to round.

    All methods may be called from several threads. Times are milliseconds since the epoch; ``now_ms`` should follow a
    monotonic clock.

    Args:
        config: settings of the job.
        initial_weights: float32 arrays of any shape by name. Clients see them flat, in ascending byte order of
            the names.
        on_iteration_end: is called with each :class:`IterationRecord` in order, with the coordinator locked: keep it
            short.
        log: is given every event before it happens.
        wall: turns a time into the time on the clients' clocks (see :class:`mindfl.server.iteration.Clock`).
        state: continues an earlier job with weights of the same layout; its settings and models count then, not
            ``config`` and ``initial_weights``.
        constant: names of weights that clients get with startFLJob only and that keep their values, whatever is
            uploaded (the reference's require_aggr False).
        algorithm: makes the next model of the average; None: FedAvg.
        lr_schedule: learning rate of each iteration, as for :func:`mindfl.algorithms.learning_rates.make_schedule`.
            An iteration without a usable rate fails when the first client asks to start in it.
        random: number of bytes -> that many, unpredictable. ``PW_EXACT`` draws from them which clients share secrets.

    Raises:
        OptionError: the initial weights are unusable.

    Example:
        >>> from mindfl.protocol import RequestGetModel
        >>> coordinator.handle(RequestGetModel(fl_name="lenet", iteration=0), now_ms=0).feature_map.keys()
        dict_keys(['conv1.weight', ...])
    """

    def __init__(
        self, config: ServerConfig, initial_weights: Mapping[str, NDArray[np.float32]], **job: Unpack[JobArguments]
    ) -> None:
        self.job = FederatedJobState(config, initial_weights, **job)
        self._without_constant = WithoutConstant(self.job.constant)
        self._downloads = answers.Downloads()

    @property
    def config(self) -> ServerConfig:
        """Settings of the job."""
        return self.job.config

    @property
    def iteration(self) -> int:
        """The current iteration, from 1; one more than the last once the job has finished."""
        return self.job.iteration

    @property
    def state(self) -> ServerState:
        """The state of the job."""
        return self.job.state

    @property
    def model(self) -> Weights:
        """The latest model: that of iteration ``self.iteration - 1``; read-only."""
        return self.job.model

    def tick(self, now_ms: int) -> None:
        """Fail the current iteration if one of its windows has ended. Every request does this too."""
        self.job.tick(now_ms)

    def next_deadline(self) -> int | None:
        """Return when :meth:`tick` will next end a window, in ms, or None while no window is running."""
        return self.job.next_deadline()

    def handle(self, request: Request, now_ms: int, *, repeated: bool = False) -> Response:
        """Answer one request. ``repeated``: its answer may have been lost, so an accepted request is accepted again."""
        if isinstance(request, RequestUpdateModel):
            return self._update_model(request, now_ms, repeated)
        with self.job.lock:
            self.tick(now_ms)
            if isinstance(request, RequestFLJob):
                return self._start_fl_job(request, now_ms, repeated)
            if isinstance(request, RequestGetModel):
                return self._get_model(request, now_ms)
            return self._secure(request, now_ms)

    def _start_fl_job(self, request: RequestFLJob, now_ms: int, repeated: bool) -> Response:
        fl_id = request.fl_id or ""
        known = repeated and self.state is ServerState.RUNNING and fl_id in self.job.current.started
        refusal, fault = (None, "") if known else (self._start_refusal(request), self.job.rate_fault)
        if not (refusal or known):
            try:
                if fault:
                    refusal = Refusal.START_NO_RATE
                    self.job.abandon(now_ms, fault)
                else:
                    device = Device(request.data_size, max(request.eval_data_size, 0))
                    self.job.commit(events.Started(now_ms, fl_id, device))
            except StorageError as error:
                refusal = storage_refusal(error)
        time = self._next_req_time(now_ms, fl_id, refusal)
        places = {"fl_id": fl_id, "time": time, "mode": self.config.mode.name, "fault": fault}
        reason = self._refuse(request, refusal, **places) if refusal else texts.START_SUCCESS
        answer = answers.start_answer(
            refusal, reason, iteration=self.iteration, time=time, plan=self.job.plan, config=self.config
        )
        if refusal or isinstance(answer, PlainText):
            return answer
        return self._downloads.fill(answer, self.job.exchanged, request, self.config)

    def _start_refusal(self, request: RequestFLJob) -> Refusal | None:
        if self.state is not ServerState.RUNNING:
            return Refusal.FINISHED
        return start_refusal(request, self.job.current.started, self.job.current.clients, self.config)

    def _secure(self, request: SecureRequest, now_ms: int) -> Response:
        current = self.job.current
        mode = self.config.mode
        if current.rounds is None or type(request) not in mode.served:
            raise ProtocolError(f"this job has no {ENDPOINTS[type(request)]}: encrypt_type {mode.name}")
        if self.state is not ServerState.RUNNING:
            verdict = self.job.secagg.late(request, self.job.ended) if self.job.enabled else None
            if verdict is None:
                return PlainText(self._refuse(request, Refusal.FINISHED))
        else:
            verdict = self.job.secagg.judge(request, current.rounds, current.started.__contains__, self.job.ended)
        if verdict.fresh:
            try:
                self.job.commit(self.job.secagg.event(request, current.rounds, now_ms))
            except StorageError as error:
                # A device that has revealed nothing yet may save the iteration with its next try.
                last = isinstance(request, SendReconstructSecret)
                refusal = storage_refusal(error, Refusal.REVEAL_NOT_STORED if last else Refusal.NOT_STORED)
                if refusal is Refusal.SAFEMODE:
                    return PlainText(self._refuse(request, refusal))
                verdict = replace(verdict, refusal=refusal)
        elif not verdict.refusal:
            current.accept(ENDPOINTS[type(request)])
        if verdict.refusal:
            current.refuse(ENDPOINTS[type(request)], verdict.refusal)
        time = self._next_req_time(now_ms, request.fl_id, verdict.refusal)
        return steps.answer(request, verdict, self.iteration, time, closed=current is not self.job.current)

    def _update_model(self, request: RequestUpdateModel, now_ms: int, repeated: bool) -> Response:
        with self.job.lock:
            self.tick(now_ms)
            answer = self._answer_without_counting(request, now_ms, repeated)
            if answer:
                return answer
            current = self.job.current
            size = current.started[request.fl_id or ""].data_size
            mode = self.config.mode
            basis = Basis(model=self.job.exchanged, data_size=size, iteration=current.number, rounds=current.rounds)
        # Decoding and conversion take long and run unlocked. The iteration may end meanwhile: hence a second check.
        try:
            content = mode.content(request, basis)
        except EncodingError as error:
            with self.job.lock:
                return self._refuse_update(request, FAULT_REFUSALS[error.fault], now_ms, error.detail)
        with self.job.sum.convert(content) as contribution:
            event = Uploaded.of(request, content, now_ms)
            append = self.job.prepare(event) if not contribution.fault else lambda: None
            with self.job.lock:
                answer = self._answer_without_counting(request, now_ms, repeated, (contribution, current))
                if answer:
                    return answer
                try:
                    append()
                except StorageError as error:
                    return self._refuse_update(request, storage_refusal(error), now_ms)
                return self._accept_update(event, contribution)

    def _answer_without_counting(
        self, request: RequestUpdateModel, now_ms: int, repeated: bool, converted: Converted | None = None
    ) -> Response | None:
        if repeated and self._was_counted(request):
            return answers.upload_accepted(self._next_req_time(now_ms, request.fl_id))
        refusal = self._update_refusal(request)
        if converted and not refusal:
            refusal = self._converted_refusal(request, *converted)
        return self._refuse_update(request, refusal, now_ms) if refusal else None

    def _was_counted(self, request: RequestUpdateModel) -> bool:
        fl_id = request.fl_id or ""
        if request.iteration == self.iteration:
            return fl_id in self.job.current.uploaded
        return self.job.ended.was_counted(fl_id, request.iteration)

    def _update_refusal(self, request: RequestUpdateModel) -> Refusal | None:
        if self.state is not ServerState.RUNNING:
            return Refusal.FINISHED
        if refusal := update_form_refusal(request, self.config):
            return refusal
        if request.fl_id not in self.job.current.started:
            # A full quota closes the iteration at once, so only late clients can meet it.
            late = request.iteration == self.iteration - 1 and request.iteration in self.job.ended.counted
            return Refusal.UPDATE_QUOTA_FULL if late else Refusal.UPDATE_NOT_STARTED
        if request.iteration != self.iteration:
            return Refusal.UPDATE_STALE
        return steps.upload_refusal(self.job.current.rounds, request.fl_id)

    def _converted_refusal(self, request: RequestUpdateModel, contribution: Any, began: Iteration) -> Refusal | None:
        if began is not self.job.current:  # a new instance may have let the same device start again
            return Refusal.UPDATE_STALE
        if contribution.fault:
            return FAULT_REFUSALS[contribution.fault]
        return Refusal.UPDATE_DUPLICATE if request.fl_id in self.job.current.uploaded else None

    def _accept_update(self, event: Uploaded, contribution: Any) -> Response:
        self.job.count_upload(event, contribution)
        time = self._next_req_time(event.now_ms, event.fl_id)
        self.job.close_if_full(event.now_ms)
        return answers.upload_accepted(time)

    def _refuse_update(self, request: RequestUpdateModel, refusal: Refusal, now_ms: int, detail: str = "") -> Response:
        time = self._next_req_time(now_ms, request.fl_id, refusal)
        reason = self._refuse(
            request,
            refusal,
            fl_id=request.fl_id,
            given=request.iteration,
            current=self.iteration,
            time=time,
            detail=detail,
        )
        return answers.upload_refused(refusal, reason, time)

    def _get_model(self, request: RequestGetModel, now_ms: int) -> Response:
        if self.state is ServerState.DISABLED:
            return PlainText(self._refuse(request, Refusal.FINISHED))
        time = self._next_req_time(now_ms)
        if self.state is ServerState.RUNNING and request.iteration == self.iteration:
            reason = self._refuse(request, Refusal.MODEL_NOT_READY, given=request.iteration)
            return answers.model_not_ready(reason, iteration=self.iteration, time=time)
        self.job.current.accept("getModel")
        # The reference's getModel task asks for iteration 0 and wants the latest, not the untrained model.
        latest = self.job.exchanged
        model = self.job.ended.models.get(request.iteration, latest) if request.iteration > 0 else latest
        answer = answers.model_answer(request.iteration, iteration=self.iteration, time=time)
        return self._downloads.fill(answer, self._without_constant(model), request, self.config)

    def _refuse(self, request: Request, refusal: Refusal, **places: object) -> str:
        self.job.current.refuse(ENDPOINTS[type(request)], refusal)
        return refusal.text.format(**places)

    def _next_req_time(self, now_ms: int, fl_id: str | None = None, refusal: Refusal | None = None) -> str:
        time = self.job.current.next_req_time(self.config, now_ms, fl_id, refused=refusal is not None)
        if refusal is Refusal.NOT_STORED:
            time = max(time, now_ms + STORAGE_RETRY_MS)
        return str(self.job.wall(time))


class EdgeCoordinator(Coordinator):
    """Answers part of a job's clients on another coordinator's behalf, for one iteration.

    Uploads are summed here and wait to be taken; clients that ask for the model are told to wait until it is published.
    ``config.start_fl_job_threshold`` is the number of clients of this part.
    ``keep_uploads``: single uploads are handed on beside their sum, for an algorithm that needs them.
    """

    def __init__(
        self,
        config: ServerConfig,
        model: Mapping[str, NDArray[np.float32]],
        iteration: int,
        *,
        keep_uploads: bool = False,
    ) -> None:
        super().__init__(config, model)
        self.job.begin_part(iteration, keep_uploads=keep_uploads)

    def part(self) -> Part:
        """Return the part of the iteration so far, to be absorbed by the other coordinator."""
        return self.job.part()

    def publish(self, model: Weights, now_ms: int) -> None:
        """End the iteration with the model that the other coordinator made of it."""
        self.job.end_part(model, now_ms)
