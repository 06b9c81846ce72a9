"""One device of a federated job: its flows train, inference and getModel, without sockets and clocks."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mindfl.client.conversation import (
    ComeBackLater,
    Conversation,
    Distrusted,
    JobOver,
    NotReady,
    start_request,
    update_request,
)
from mindfl.client.flow import (
    LONGEST_RETRY_MS,
    ClientConfig,
    Flow,
    IterationDone,
    IterationOutcome,
    JobResult,
    ModelFiles,
    Trainer,
    Wait,
    evaluation_due,
)
from mindfl.client.local_model import LocalModel, planned_rate
from mindfl.client.log import ClientLog, JobLog
from mindfl.client.secagg_client import PairKeysOf, SecAggClient
from mindfl.client.uploading import Digests, Randomness, UploadEncoder, Uploading, digests, system_randomness, unchanged
from mindfl.errors import MindflError, ProtocolError
from mindfl.modes import UploadMode
from mindfl.protocol import (
    FLPlan,
    RequestUpdateModel,
    ResponseCode,
    ResponseFLJob,
    Weights,
    texts,
)
from mindfl.spelling import counted


def monotonic_ms() -> int:
    """Return milliseconds of the machine's monotonic clock."""
    return time.monotonic_ns() // 1_000_000


class DeviceClient:
    """A client of a federated job. Its flows train, predict and fetch the model (see :mod:`mindfl.client.flow`).

    Failures name the client and the iteration: :class:`ClientError` for those of the trainer, :class:`ProtocolError`
    for refusals and broken answers, :class:`TransportError` if the server cannot be reached.

    Args:
        config: name, time limits and evaluation of the client.
        trainer: the model with the client's data.
        now_ms: milliseconds since the epoch, as the device's clock shows them.
        log: receives the lines of the reference's client; None: no log.
        files: model files. They are backed up when a job or task begins, and hold the new model at its end
            (``config.model_file`` names them in the log). None: no files.
        steady_ms: milliseconds of a monotonic clock, for time limits and durations.
        randomness: iteration -> source of random bytes, for noise and secrets.
        pair_keys: derives the keys of secure aggregation for all clients of a process
            (:data:`mindfl.client.secagg_client.PairKeysOf`); None: the client derives its own.

    Example:
        >>> import threading, time
        >>> from mindfl.client import ClientConfig
        >>> from mindfl.sim.engines import LiteEngine
        >>> trainer = LiteEngine(model).trainer(open_dataset("writers").user(0), threading.Event())
        >>> client = DeviceClient(ClientConfig(name="ann", fl_id="1"), trainer, lambda: time.time_ns() // 10**6)
        >>> client.inference().shape == (trainer.eval_size,)
        True
    """

    def __init__(
        self,
        config: ClientConfig,
        trainer: Trainer,
        now_ms: Callable[[], int],
        log: ClientLog | None = None,
        files: ModelFiles | None = None,
        *,
        steady_ms: Callable[[], int] = monotonic_ms,
        randomness: Randomness = system_randomness,
        pair_keys: PairKeysOf | None = None,
        own_mode: UploadMode | None = None,
    ) -> None:
        self.config = config
        self._trainer = trainer
        self._now_ms = now_ms
        self._steady_ms = steady_ms
        self._lines = JobLog(log, config, trainer)
        self._talk = Conversation(config, now_ms, steady_ms, self._lines)
        self._local = LocalModel(config, trainer, self._talk, self._lines, files, steady_ms)
        self._masking = SecAggClient(
            config,
            self._talk,
            self._lines,
            now_ms=now_ms,
            steady_ms=steady_ms,
            randomness=randomness,
            pair_keys=pair_keys,
        )
        self._own_mode = own_mode
        self._encoder = UploadEncoder(
            randomness,
            self._lines.write,
            steady_ms,
            self._masking.hide,
            compares=config.compare_models,
            own=own_mode,
        )
        self._uploading = Uploading(config, self._talk, self._lines, self._encoder)
        self._iterations = 1
        self._taking_part: int | None = None
        self._start_lost = False
        self._began_with: Digests = {}

    @property
    def iterations(self) -> int:
        """Iterations of the server's plan; 1 until the plan is known."""
        return self._iterations

    @property
    def taking_part(self) -> int | None:
        """The iteration that accepted this client, until it begins another one; None if none has."""
        return self._taking_part

    @property
    def trained(self) -> int:
        """How often this client has trained."""
        return self._local.trained

    @property
    def memory(self) -> Mapping[str, Any]:
        """Plain values by name that this client keeps between iterations; set them only between two."""
        return self._encoder.memory

    @memory.setter
    def memory(self, values: Mapping[str, Any]) -> None:
        self._encoder.memory = values

    def train(self) -> Flow[JobResult]:
        """Take part in iterations until the last one of the plan, or until the server's job is over.

        Closing the flow between two iterations is a normal end, which saves no model.
        """
        completed, failed, code = 0, 0, ResponseCode.SUCCEED
        self._local.begin("flJobRun")
        self._lines.add("job_started")
        try:
            while self._talk.iteration < self._iterations:
                outcome = yield from self._next_iteration()
                completed += 1
                failed += not outcome.aggregated
                self._lines.add("iteration_ended", "iteration_result", iteration=outcome.iteration, code=code)
                self._lines.flush()
                yield IterationDone(outcome)
            if failed < completed:
                self._local.save()
        except JobOver:
            code = ResponseCode.SYSTEM_ERROR
            self._lines.failed(self._talk.stage, self._talk.iteration, code)
        except MindflError:
            code = ResponseCode.REQUEST_ERROR
            self._lines.failed(self._talk.stage, self._talk.iteration, code)
            raise
        finally:
            self._taking_part = None
            self._lines.add("job_ended", iterations=self._iterations, code=code)
            self._lines.flush()
        return JobResult(completed, code, failed)

    def get_model(self) -> Flow[int]:
        """Load the server's latest model with one request, for iteration 0 as the reference does; return its number."""
        self._local.begin("getModel")
        try:
            response = yield from self._talk.ask_model(0)
            self._lines.model_response(response)
            self._local.load(self._talk.model_in(response))
            self._local.save()
            return response.iteration - 1
        except (JobOver, ComeBackLater):
            raise ProtocolError(
                f"client {self.config.name}: the server does not give its model away now",
                hint="wait until its job is running again",
            ) from None
        finally:
            self._lines.flush()

    def inference(self) -> NDArray[np.int_]:
        """Return the predicted labels of the test data, and log them. Needs no server."""
        return self._local.predict()

    def _next_iteration(self) -> Flow[IterationOutcome]:
        self._taking_part = None
        fault = not_ready = ""
        for attempt in range(self.config.max_restarts + 1):
            try:
                return (yield from self._one_iteration())
            except ComeBackLater as pause:
                wait = self._wait_until(pause.at_ms)
                not_ready = pause.text if isinstance(pause, NotReady) else ""
                if not_ready:
                    # Servers that meet, or wait for their Redis, take a second or more.
                    wait = Wait(min(wait.ms << min(attempt, 16), max(wait.ms, LONGEST_RETRY_MS)))
                    self._lines.server_not_ready(self._talk.stage, not_ready)
                if isinstance(pause, Distrusted):
                    fault = pause.fault
                    self._lines.add("distrusted", stage=self._talk.stage, iteration=self._talk.iteration, fault=fault)
            self._taking_part = None
            # Outside of the handler, so that the frames of the failed attempt are freed.
            self._lines.add(
                "waiting",
                "iteration_result",
                stage=self._talk.stage,
                iteration=self._talk.iteration,
                milliseconds=wait.ms,
                code=ResponseCode.OUT_OF_TIME,
            )
            self._lines.flush()
            yield wait
        limit = self.config.max_restarts
        self._lines.add("too_many_restarts", count=limit + 1, limit=limit)
        raise self._gave_up(fault, not_ready)

    def _gave_up(self, fault: str, not_ready: str) -> ProtocolError:
        times = f"{self.config.max_restarts + 1} times in a row"
        if fault:
            return self._talk.error(
                f"had to start again {times}: {fault}",
                hint="the server or another device violates the protocol: look at the server's log",
            )
        if not_ready:
            return self._talk.error(
                f"had to start again {times}: {not_ready}",
                hint="wait until all servers of the job and their Redis run",
            )
        return self._talk.error(
            f"was told to come back later {times}",
            hint="raise start_fl_job_threshold on the server, or start fewer clients",
        )

    def _one_iteration(self) -> Flow[IterationOutcome]:
        plan = yield from self._start()
        before = self._local.received_accuracy()
        loss = yield from self._contribute(plan, before)
        aggregated = yield from self._await_model()
        after = self._local.evaluate(self._talk.iteration) if self._evaluates_aggregated() else None
        return IterationOutcome(
            client=self.config.name,
            iteration=self._talk.iteration,
            loss=loss,
            accuracy_before=before,
            accuracy=after,
            data_size=self._trainer.train_size,
            eval_size=self._trainer.eval_size,
            epochs=plan.epochs,
            aggregated=aggregated,
            learning_rate=planned_rate(plan),
        )

    def _contribute(self, plan: FLPlan, before: float | None) -> Flow[float]:
        """Train and upload in the upload mode of the plan; return the loss."""
        try:
            yield from self._agree()
            self._encoder.training_begins()
            loss = self._local.train(plan)
            counted = yield from self._uploading.send(self._update_request(loss, before))
            yield from self._masking.reveal(counted=counted)
            return loss
        finally:
            self._masking.wipe()

    def _agree(self) -> Flow[None]:
        model = yield from self._masking.agree(self._trainer.train_size)
        if model is not None:
            self._local.load(model)

    def _start(self) -> Flow[FLPlan]:
        self._talk.stage = "startFLJob"
        self._lines.add("iteration_started")
        request = start_request(self.config, self._trainer, self._talk.iteration, self._now_ms(), self._own_mode)
        answer, repeated = yield from self._talk.exchange(request)
        response = self._talk.table(answer, ResponseFLJob)
        self._lines.start_response(response)
        self._talk.iteration = response.iteration
        plan, model = response.fl_plan_config, self._talk.model_in(response)
        if plan:
            self._iterations = plan.iterations
        self._start_lost = self._start_lost or repeated
        if self._may_have_started(response):
            model = yield from self._model_to_start_from(response)
        else:
            self._talk.check_code(response.retcode, response.reason, response.next_req_time)
        self._start_lost = False
        if plan is None or not model:
            raise self._talk.error("was accepted but got no plan or no model")
        self._check_plan(plan)
        with self._talk.named():
            self._encoder.begin(response, model)
        self._began_with = digests(model) if self.config.compare_models else {}
        self._local.load(model)
        self._masking.begin(self._encoder.mode, model, self._local.weights)
        self._taking_part = self._talk.iteration
        values = sum(each.size for each in model.values())
        self._lines.start_accepted(response, plan, values, self._encoder.mode)
        return plan

    def _may_have_started(self, response: ResponseFLJob) -> bool:
        """Return whether a refusal may be due to an earlier request of this client, whose answer was lost.

        Certain if the server already knows its identity. If the quota is full, this client may be part of it, and then
        the others wait for its upload.
        """
        known = texts.START_DUPLICATE.format(fl_id=self.config.fl_id)
        refused = response.retcode == ResponseCode.OUT_OF_TIME and response.reason in (known, texts.START_QUOTA_FULL)
        return self._start_lost and refused

    def _model_to_start_from(self, refusal: ResponseFLJob) -> Flow[Weights | None]:
        """Fetch the model that the lost answer held."""
        response = yield from self._talk.ask_model(refusal.iteration - 1)
        self._talk.stage = "startFLJob"
        if response.iteration != refusal.iteration:
            raise ComeBackLater(None)
        return self._talk.model_in(response)

    def _check_plan(self, plan: FLPlan) -> None:
        if plan.epochs < 1 or plan.mini_batch < 1:
            raise self._talk.error(f"got a plan of {counted(plan.epochs, 'epoch')} and batches of {plan.mini_batch}")
        if plan.mini_batch != self._trainer.batch_size:
            raise self._local.error(
                f"the server's plan has batches of {plan.mini_batch}, its model batches of {self._trainer.batch_size}",
                hint="export the model with the server's client_batch_size",
            )

    def _evaluates_aggregated(self) -> bool:
        due = evaluation_due(self._talk.iteration, self.config.evaluate_every, self._iterations)
        return self.config.evaluate_aggregated and due

    def _update_request(self, loss: float, accuracy: float | None) -> RequestUpdateModel:
        fields = self._local.guarded(lambda: self._encoder.encode(self._trainer.weights(), self._trainer.train_size))
        number, now_ms = self._talk.iteration, self._now_ms()
        return update_request(self.config, self._trainer, number, now_ms, fields=fields, loss=loss, accuracy=accuracy)

    def _await_model(self) -> Flow[bool]:
        """Load the iteration's model; return False if certainly nothing was aggregated."""
        deadline = self._steady_ms() + self.config.poll_limit_ms
        logged = False
        while True:
            try:
                response = yield from self._talk.ask_model(self._talk.iteration)
                if response.retcode == ResponseCode.SUCCEED:
                    break
                # The reference asks every 10 s and logs each time. This client asks more often, and logs once.
                if not logged:
                    self._lines.model_response(response)
                    logged = True
            except NotReady as pause:
                if not logged:
                    self._lines.server_not_ready(self._talk.stage, pause.text)
                    logged = True
            if self._steady_ms() >= deadline:
                limit = self.config.poll_limit_ms // self.config.poll_ms
                self._lines.add("waited_too_long", count=limit + 1, limit=limit)
                raise self._talk.error(
                    f"got no model for {self.config.poll_limit_ms} ms", hint="look at the server's windows and its log"
                )
            self._lines.flush()
            yield Wait(self.config.poll_ms)
        self._lines.model_response(response)
        model = self._talk.model_in(response)
        self._local.load(model)
        self._encoder.iteration_ended(model or {})
        failed = self._encoder.changes and unchanged(self._began_with, digests(model or {}))
        if failed:
            self._lines.add("nothing_aggregated", iteration=self._talk.iteration)
        # The server may have sent a later model, which has not been evaluated.
        if response.iteration != self._talk.iteration + 1:
            self._local.forget_evaluation()
        return not failed

    def _wait_until(self, at_ms: int | None) -> Wait:
        ahead = 0 if at_ms is None else at_ms - self._now_ms()
        return Wait(min(max(ahead, self.config.poll_ms), self.config.longest_wait_ms))
