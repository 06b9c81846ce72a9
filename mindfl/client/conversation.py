"""The messages of a client, and how it reads the server's answers, lost ones included."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from mindfl.client.flow import LONGEST_RETRY_MS, ClientConfig, Flow, Send, Trainer, Wait
from mindfl.client.log import JobLog
from mindfl.errors import ProtocolError, TransportError
from mindfl.modes import ANNOUNCED, UploadMode
from mindfl.privacy.compression import dequantise, named
from mindfl.protocol import (
    CompressFeatureMap,
    CompressType,
    PlainText,
    Request,
    RequestFLJob,
    RequestGetModel,
    RequestUpdateModel,
    Response,
    ResponseCode,
    ResponseFLJob,
    ResponseGetModel,
    UnsupervisedEvalItem,
    UnsupervisedEvalItems,
    Weights,
    texts,
)

SCORES_NAME = "DirectClassifierResult"
"""Name of the mean score of each class, which MindSpore Federated 0.1.0's device uploads after an evaluation."""

_DECODABLE = (CompressType.NO_COMPRESS, CompressType.QUANT)


def start_request(
    config: ClientConfig, trainer: Trainer, iteration: int, now_ms: int, own: UploadMode | None = None
) -> RequestFLJob:
    """Return the request to take part; ``iteration`` is the last one that this device saw.

    ``own`` is a user's upload mode that the device knows.
    """
    return RequestFLJob(
        fl_name=config.fl_name,
        fl_id=config.fl_id,
        iteration=iteration,
        data_size=trainer.train_size,
        eval_data_size=trainer.eval_size,
        timestamp=str(now_ms),
        download_compress_types=_DECODABLE,
        # A server asks for modes beyond MindSpore Federated 0.1.0's only if the device announced them.
        encrypt_types=ANNOUNCED if own is None else (*ANNOUNCED, own.name),
    )


def update_request(
    config: ClientConfig,
    trainer: Trainer,
    iteration: int,
    now_ms: int,
    *,
    fields: Mapping[str, Any],
    loss: float,
    accuracy: float | None,
) -> RequestUpdateModel:
    """Return the upload; ``fields`` hold the trained weights."""
    return RequestUpdateModel(
        fl_name=config.fl_name,
        fl_id=config.fl_id,
        iteration=iteration,
        timestamp=str(now_ms),
        # Rounded as on the wire, so that every transport gives the server the same numbers.
        upload_loss=float(np.float32(loss)),
        upload_accuracy=float(np.float32(accuracy or 0.0)),
        unsupervised_eval_items=_scores(None if accuracy is None else trainer.class_scores),
        **fields,
    )


def model_request(config: ClientConfig, iteration: int, now_ms: int) -> RequestGetModel:
    """Return the request for the model of ``iteration``."""
    return RequestGetModel(
        fl_name=config.fl_name,
        iteration=iteration,
        timestamp=str(now_ms),
        download_compress_types=_DECODABLE,
    )


def _scores(scores: NDArray[np.float32] | None) -> UnsupervisedEvalItems:
    """Return the vectors of an evaluation. Without one the table is empty but present, as the reference sends it."""
    if scores is None:
        return UnsupervisedEvalItems(eval_items=())
    return UnsupervisedEvalItems(eval_items=(UnsupervisedEvalItem(eval_name=SCORES_NAME, eval_data=scores),))


TableT = TypeVar("TableT", bound=Response)


class ComeBackLater(Exception):  # noqa: N818 - control flow, not an error
    """The server sent this client back to startFLJob, at ``at_ms`` (None: the server named no time)."""

    def __init__(self, at_ms: int | None) -> None:
        super().__init__()
        self.at_ms = at_ms


class NotReady(ComeBackLater):
    """The server is not ready and answered with this plain text."""

    def __init__(self, text: str) -> None:
        super().__init__(None)
        self.text = text


class Distrusted(ComeBackLater):
    """The client refuses an invalid message for ``fault`` and takes no further part in this iteration."""

    def __init__(self, fault: str) -> None:
        super().__init__(None)
        self.fault = fault


class JobOver(Exception):  # noqa: N818 - control flow, not an error
    """The server's job is finished or disabled."""


class Conversation:
    """One client's exchanges with the server. Errors name its ``stage`` and ``iteration``."""

    def __init__(
        self, config: ClientConfig, now_ms: Callable[[], int], steady_ms: Callable[[], int], lines: JobLog
    ) -> None:
        self.stage = ""
        self.iteration = 0
        self._config = config
        self._now_ms = now_ms
        self._steady_ms = steady_ms
        self._lines = lines
        self._answered = False

    def exchange(self, request: Request) -> Flow[tuple[Response | None, bool]]:
        """Send ``request`` until it is answered; return the answer, and whether an earlier try may have arrived.

        If no request was ever answered and the server cannot be reached, the address is wrong: that fails at once.
        """
        repeated = False
        pause, deadline = self._config.retry_ms, self._steady_ms() + self._config.retry_limit_ms
        while True:
            try:
                answer = yield Send(request)
                self._answered = True
                return answer, repeated
            except TransportError as error:
                # Drop the traceback: it would keep the message in memory while this client waits.
                failure = error.with_traceback(None)
            repeated = repeated or failure.sent
            hopeless = failure.lasting or not (self._answered or failure.sent)
            if hopeless or self._steady_ms() + pause > deadline:
                self._lines.no_answer(self.stage, str(failure))
                raise self._located(failure)
            self._lines.add("sending_again", stage=self.stage, reason=failure, milliseconds=pause)
            self._lines.flush()
            yield Wait(pause)
            pause = min(2 * pause, LONGEST_RETRY_MS)

    def table(self, answer: Response | None, table: type[TableT]) -> TableT:
        """Return ``answer`` if it is a ``table``; handle plain texts, which the reference finds by substring.

        Raises :class:`JobOver`, :class:`NotReady`, or :class:`ProtocolError`.
        """
        if isinstance(answer, table):
            return answer
        text = answer.text if isinstance(answer, PlainText) else repr(type(answer).__name__)
        if self.finished(answer):
            self._lines.add("server_finished", stage=self.stage, text=texts.FINISHED)
            raise JobOver
        not_ready = self.not_ready(answer)
        if not_ready is not None:
            raise NotReady(not_ready)
        raise self.error(f"got an answer it cannot use: {text[:200]}")

    def ask_model(self, iteration: int) -> Flow[ResponseGetModel]:
        """Return the answer to getModel, which holds a model unless its code is SUC_NOT_READY."""
        self.stage = "getModel"
        answer, _ = yield from self.exchange(model_request(self._config, iteration, self._now_ms()))
        response = self.table(answer, ResponseGetModel)
        if response.retcode != ResponseCode.SUC_NOT_READY:
            self.check_code(response.retcode, response.reason, None)
        return response

    def finished(self, answer: Response | None) -> bool:
        """Return whether ``answer`` is the plain text of a server whose job is over."""
        return isinstance(answer, PlainText) and texts.FINISHED in answer.text

    def not_ready(self, answer: Response | None) -> str | None:
        """Return the known text in ``answer`` if it is the plain text of a server that is not ready, else None."""
        text = answer.text if isinstance(answer, PlainText) else ""
        return next((known for known in (texts.SAFEMODE, texts.NOT_READY) if known in text), None)

    def check_code(self, code: int, reason: str | None, next_req_time: str | None) -> None:
        """Raise :class:`ComeBackLater` for code 300, and :class:`ProtocolError` for a refusal."""
        if code == ResponseCode.OUT_OF_TIME:
            raise ComeBackLater(_milliseconds(next_req_time or ""))
        if code != ResponseCode.SUCCEED:
            raise self.error(f"was refused with code {code}: {reason or 'no reason was given'}")

    def model_in(self, response: ResponseFLJob | ResponseGetModel) -> Weights | None:
        """Return the model in ``response``, if there is one. Raises :class:`ProtocolError` if it is invalid."""
        with self.named():
            return received_weights(response)

    @contextmanager
    def named(self) -> Iterator[None]:
        """Add the names of client, stage and iteration to a :class:`ProtocolError` raised inside."""
        try:
            yield
        except ProtocolError as error:
            raise self.error(str(error), hint=error.hint) from None

    def error(self, what: str, *, hint: str = "") -> ProtocolError:
        """Return an error that names client, stage and iteration."""
        return ProtocolError(f"{self._where()} {what}", hint=hint)

    def _located(self, error: TransportError) -> TransportError:
        return type(error)(f"{self._where()}: {error}", hint=error.hint, sent=error.sent, lasting=error.lasting)

    def _where(self) -> str:
        return f"client {self._config.name} in {self.stage} of iteration {self.iteration}"


def _milliseconds(time: str) -> int | None:
    """Return the number in a text from the server; None if it is no time (int64 has at most 19 digits)."""
    return int(time) if len(time) <= 19 and time.isdecimal() else None


def received_weights(response: ResponseFLJob | ResponseGetModel) -> Weights | None:
    """Return the model in ``response`` as float32, dequantised if needed; None if there is none.

    Raises :class:`EncodingError` if it is invalid.
    """
    if response.download_compress_type == CompressType.NO_COMPRESS or response.compress_feature_map is None:
        return response.feature_map
    return _dequantised(response.compress_feature_map)


# All devices of a process get the same object if their coordinator runs in it too.
@lru_cache(2)
def _dequantised(entries: tuple[CompressFeatureMap, ...]) -> Weights:
    weights = {name: dequantise(entry) for name, entry in named(entries).items()}
    for values in weights.values():
        values.flags.writeable = False
    return weights
