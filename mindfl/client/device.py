"""One device of a federated job: the flows train, inference and getModel, without sockets and clocks."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from mindfl.client.config import ClientConfig
from mindfl.client.flow import Flow, IterationDone, IterationOutcome, JobResult, Send, Wait
from mindfl.client.joblog import JobLog
from mindfl.client.log import ClientLog
from mindfl.client.trainer import Trainer
from mindfl.errors import ClientError, MindflError, ProtocolError
from mindfl.protocol import (
    CompressType,
    FLPlan,
    PlainText,
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

DEFAULT_LEARNING_RATE = 0.1
"""What the reference's device uses where the plan says 0."""

ResultT = TypeVar("ResultT")
TableT = TypeVar("TableT", ResponseFLJob, ResponseUpdateModel, ResponseGetModel)


class _ComeBackLater(Exception):  # noqa: N818 - a turn of the flow, not an error
    """The server sent this client back to startFLJob, at ``at_ms`` (None: it did not say when)."""

    def __init__(self, at_ms: int | None) -> None:
        super().__init__()
        self.at_ms = at_ms


class _NotReady(_ComeBackLater):
    """The server cannot answer just now, and said so in bare text."""


class _JobOver(Exception):  # noqa: N818 - a turn of the flow, not an error
    """The server's job is finished or disabled."""


class DeviceClient:
    """A client that trains with ``trainer`` and talks through its flows (see :mod:`mindfl.client.flow`).

    ``now_ms`` gives milliseconds since the epoch. Failures of the trainer are raised as :class:`ClientError`, refusals
    and nonsense from the server as :class:`ProtocolError`; both name the client and the iteration.
    """

    def __init__(
        self, config: ClientConfig, trainer: Trainer, now_ms: Callable[[], int], log: ClientLog | None = None
    ) -> None:
        self.config = config
        self._trainer = trainer
        self._now_ms = now_ms
        self._lines = JobLog(log, config, trainer)
        self._stage = ""
        self._iteration = 0
        self._iterations = 1
        self._accuracy: float | None = None
        self._evaluated: int | None = None

    def train(self) -> Flow[JobResult]:
        """Take part in iterations until the last one of the plan, or until the server's job is over.

        Closing the flow between two iterations is a normal end.
        """
        completed, code = 0, ResponseCode.SUCCEED
        self._lines.task_started("flJobRun")
        self._lines.job_started()
        try:
            while self._iteration < self._iterations:
                outcome = yield from self._next_iteration()
                completed += 1
                self._lines.iteration_ended(outcome.iteration)
                self._lines.flush()
                yield IterationDone(outcome)
        except _JobOver:
            code = ResponseCode.SYSTEM_ERROR
            self._lines.failed(self._stage, self._iteration, code)
        except MindflError:
            code = ResponseCode.REQUEST_ERROR
            self._lines.failed(self._stage, self._iteration, code)
            raise
        finally:
            self._lines.job_ended(self._iterations, code)
            self._lines.flush()
        return JobResult(completed, code)

    def get_model(self) -> Flow[int]:
        """Load the server's latest model with one request, for iteration 0 as the reference does; return its number."""
        self._lines.task_started("getModel")
        try:
            response = yield from self._ask_model(0)
            self._lines.model_response(response)
            self._load(response.feature_map)
            return response.iteration - 1
        except (_JobOver, _ComeBackLater):
            raise ProtocolError(
                f"client {self.config.name}: the server does not give its model away now",
                hint="wait until its job is running again",
            ) from None
        finally:
            self._lines.flush()

    def inference(self) -> NDArray[np.int_]:
        """Return the predicted labels of the test data, and log them. Needs no server."""
        self._lines.task_started("modelInference")
        self._lines.inference_started()
        begin = self._now_ms()
        try:
            labels = self._guarded(self._trainer.predict)
            self._lines.inferred(labels.tolist(), self._now_ms() - begin)
        finally:
            self._lines.flush()
        return labels

    def _next_iteration(self) -> Flow[IterationOutcome]:
        for _ in range(self.config.max_restarts + 1):
            try:
                return (yield from self._one_iteration())
            except _ComeBackLater as pause:
                wait = self._wait_until(pause.at_ms)
            # Outside of the handler, so that the frames of the failed attempt and what they hold are gone.
            self._lines.waiting(self._stage, self._iteration, wait.ms)
            self._lines.flush()
            yield wait
        raise self._protocol_error(
            f"was told to come back later {self.config.max_restarts + 1} times in a row",
            hint="raise start_fl_job_threshold on the server, or start fewer clients",
        )

    def _one_iteration(self) -> Flow[IterationOutcome]:
        plan = yield from self._start()
        before = self._evaluate(self._iteration - 1)
        loss = self._train(plan)
        yield from self._upload(loss, before)
        yield from self._await_model()
        after = self._evaluate(self._iteration) if self.config.evaluate_aggregated else None
        return IterationOutcome(
            client=self.config.name,
            iteration=self._iteration,
            loss=loss,
            accuracy_before=before,
            accuracy=after,
            data_size=self._trainer.train_size,
            eval_size=self._trainer.eval_size,
            epochs=plan.epochs,
        )

    def _start(self) -> Flow[FLPlan]:
        self._stage = "startFLJob"
        self._lines.iteration_started()
        answer = yield Send(self._start_request())
        response = self._table(answer, ResponseFLJob)
        self._lines.start_response(response)
        self._iteration = response.iteration
        plan = response.fl_plan_config
        if plan:
            self._iterations = plan.iterations
        self._check_code(response.retcode, response.reason, response.next_req_time)
        if plan is None or not response.feature_map:
            raise self._protocol_error("was accepted but got no plan or no model")
        self._check_plan(plan)
        self._load(response.feature_map)
        self._lines.start_accepted(response, plan, sum(values.size for values in response.feature_map.values()))
        return plan

    def _start_request(self) -> RequestFLJob:
        return RequestFLJob(
            fl_name=self.config.fl_name,
            fl_id=self.config.fl_id,
            iteration=self._iteration,
            data_size=self._trainer.train_size,
            eval_data_size=self._trainer.eval_size,
            timestamp=str(self._now_ms()),
            download_compress_types=(CompressType.NO_COMPRESS,),
        )

    def _check_plan(self, plan: FLPlan) -> None:
        cipher = plan.cipher.encrypt_type if plan.cipher else None
        if cipher not in (None, "NOT_ENCRYPT"):
            raise self._protocol_error(f"cannot do the encryption the server asks for ({cipher})")
        if plan.epochs < 1 or plan.mini_batch < 1:
            raise self._protocol_error(f"got a plan of {plan.epochs} epochs and batches of {plan.mini_batch}")
        if plan.mini_batch != self._trainer.batch_size:
            raise self._client_error(
                f"the server's plan has batches of {plan.mini_batch}, its model batches of {self._trainer.batch_size}",
                hint="export the model with the server's client_batch_size",
            )

    def _evaluate(self, model: int) -> float | None:
        if not self._trainer.eval_size:
            if model < self._iteration:
                self._lines.not_evaluated()
            return None
        if self._evaluated != model:
            self._lines.evaluation_started()
            begin = self._now_ms()
            self._accuracy = self._guarded(self._trainer.evaluate)
            self._evaluated = model
            self._lines.evaluated(self._accuracy, self._now_ms() - begin)
        return self._accuracy

    def _train(self, plan: FLPlan) -> float:
        self._stage = "train"
        rate = plan.lr or DEFAULT_LEARNING_RATE
        self._lines.training_started(self._iteration, rate)
        begin = self._now_ms()
        loss = self._guarded(lambda: self._trainer.train(plan.epochs, rate, self._lines.epoch))
        if not math.isfinite(loss):
            self._lines.training_failed(loss, self._now_ms() - begin)
            raise self._client_error(
                f"the training loss is {loss}", hint="lower the learning rate, or check this client's data"
            )
        self._lines.trained(self._now_ms() - begin)
        return loss

    def _upload(self, loss: float, accuracy: float | None) -> Flow[None]:
        self._stage = "updateModel"
        # The request must not outlive its sending: a client that waits for the others holds no weights.
        answer = yield Send(self._update_request(loss, accuracy or 0.0))
        response = self._table(answer, ResponseUpdateModel)
        self._lines.update_response(response)
        self._check_code(response.retcode, response.reason, response.next_req_time)

    def _update_request(self, loss: float, accuracy: float) -> RequestUpdateModel:
        scale = np.float32(self._trainer.train_size)
        return RequestUpdateModel(
            fl_name=self.config.fl_name,
            fl_id=self.config.fl_id,
            iteration=self._iteration,
            feature_map={name: values * scale for name, values in self._guarded(self._trainer.weights).items()},
            timestamp=str(self._now_ms()),
            # Rounded as on the wire, so that every transport gives the server the same numbers.
            upload_loss=float(np.float32(loss)),
            upload_accuracy=float(np.float32(accuracy)),
        )

    def _await_model(self) -> Flow[None]:
        deadline = self._now_ms() + self.config.poll_limit_ms
        logged = False
        while True:
            try:
                response = yield from self._ask_model(self._iteration)
                if response.retcode == ResponseCode.SUCCEED:
                    break
                # The reference asks every 10 s and logs each time; asking more often must not swell the log.
                if not logged:
                    self._lines.model_response(response)
                    logged = True
            except _NotReady:
                pass
            if self._now_ms() >= deadline:
                raise self._protocol_error(
                    f"got no model for {self.config.poll_limit_ms} ms", hint="look at the server's windows and its log"
                )
            self._lines.flush()
            yield Wait(self.config.poll_ms)
        self._lines.model_response(response)
        self._load(response.feature_map)
        # A server that has moved on may have sent a later model, which then has not been evaluated.
        if response.iteration != self._iteration + 1:
            self._evaluated = None

    def _ask_model(self, iteration: int) -> Flow[ResponseGetModel]:
        self._stage = "getModel"
        answer = yield Send(
            RequestGetModel(
                fl_name=self.config.fl_name,
                iteration=iteration,
                timestamp=str(self._now_ms()),
                download_compress_types=(CompressType.NO_COMPRESS,),
            )
        )
        response = self._table(answer, ResponseGetModel)
        if response.retcode != ResponseCode.SUC_NOT_READY:
            self._check_code(response.retcode, response.reason, None)
        return response

    def _table(self, answer: Response | None, table: type[TableT]) -> TableT:
        """Return ``answer`` if it is a ``table``; deal with bare texts, which the reference finds by substring."""
        if isinstance(answer, table):
            return answer
        text = answer.text if isinstance(answer, PlainText) else repr(type(answer).__name__)
        if texts.FINISHED in text:
            self._lines.server_finished(self._stage, texts.FINISHED)
            raise _JobOver
        if texts.SAFEMODE in text or texts.NOT_READY in text:
            raise _NotReady(None)
        raise self._protocol_error(f"got an answer it cannot use: {text[:200]}")

    def _check_code(self, code: int, reason: str | None, next_req_time: str | None) -> None:
        if code == ResponseCode.OUT_OF_TIME:
            raise _ComeBackLater(int(next_req_time) if next_req_time and next_req_time.isdecimal() else None)
        if code != ResponseCode.SUCCEED:
            raise self._protocol_error(f"was refused with code {code}: {reason}")

    def _wait_until(self, at_ms: int | None) -> Wait:
        ahead = 0 if at_ms is None else at_ms - self._now_ms()
        return Wait(min(max(ahead, self.config.poll_ms), self.config.longest_wait_ms))

    def _load(self, weights: Weights | None) -> None:
        if not weights:
            raise self._protocol_error("got a model without weights")
        self._guarded(lambda: self._trainer.load(weights))

    def _guarded(self, action: Callable[[], ResultT]) -> ResultT:
        """Run something of the trainer's; its failures name this client and the iteration."""
        try:
            return action()
        except ClientError:
            raise
        except MindflError as error:
            raise self._client_error(str(error), hint=error.hint) from error

    def _client_error(self, cause: str, *, hint: str) -> ClientError:
        return ClientError(self.config.name, self._iteration, cause, hint=hint)

    def _protocol_error(self, what: str, *, hint: str = "") -> ProtocolError:
        where = f"{self._stage} of iteration {self._iteration}"
        return ProtocolError(f"client {self.config.name} in {where} {what}", hint=hint)
