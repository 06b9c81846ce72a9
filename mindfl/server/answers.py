"""The messages that a coordinator answers with."""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

from mindfl.privacy.compression import quantise_weights
from mindfl.privacy.faults import EncodingError
from mindfl.protocol import (
    CompressFeatureMap,
    CompressType,
    FLPlan,
    PlainText,
    RequestFLJob,
    RequestGetModel,
    Response,
    ResponseCode,
    ResponseFLJob,
    ResponseGetModel,
    ResponseUpdateModel,
    Weights,
    texts,
)
from mindfl.server.refusal import Refusal
from mindfl.server.server_config import ServerConfig

AnswerT = TypeVar("AnswerT", ResponseFLJob, ResponseGetModel)
#: of the latest two iterations, with and without the constant weights
_QUANTISED_KEPT = 4


class Downloads:
    """Models in the form in which devices get them; a model is quantised once."""

    def __init__(self) -> None:
        self._quantised: list[tuple[Weights, tuple[CompressFeatureMap, ...] | None]] = []

    def fill(
        self, response: AnswerT, model: Weights, request: RequestFLJob | RequestGetModel, config: ServerConfig
    ) -> AnswerT:
        """Return ``response`` with ``model``: quantised where the job asks for it and the device can read it."""
        readable = CompressType.QUANT in (request.download_compress_types or ())
        quantised = readable and config.download_compress_type == "QUANT"
        entries = self._entries(model) if quantised else None
        if entries is None:
            return replace(response, feature_map=model)
        return replace(response, compress_feature_map=entries, download_compress_type=CompressType.QUANT)

    def _entries(self, model: Weights) -> tuple[CompressFeatureMap, ...] | None:
        for known, entries in self._quantised:
            if known is model:
                return entries
        try:
            made = quantise_weights(model)
        except EncodingError:  # its values reach further than float32 can say: it goes as it is
            made = None
        self._quantised = [*self._quantised[1 - _QUANTISED_KEPT :], (model, made)]
        return made


def start_answer(
    refusal: Refusal | None, reason: str, *, iteration: int, time: str, plan: FLPlan, config: ServerConfig
) -> ResponseFLJob | PlainText:
    """Return the answer to a startFLJob, accepted where ``refusal`` is None; ``time`` is when to come (again).

    The model is missing.
    """
    if refusal and refusal.retcode is None:
        return PlainText(reason)
    return ResponseFLJob(
        retcode=refusal.retcode if refusal and refusal.retcode else ResponseCode.SUCCEED,
        reason=reason,
        iteration=iteration,
        is_selected=refusal is None,
        next_req_time=time,
        fl_plan_config=plan,
        upload_compress_type=config.upload_compression,
        upload_sparse_rate=config.sparse_rate if config.upload_compression else 0.0,
    )


def upload_accepted(time: str) -> Response:
    """Return the answer to an updateModel that was counted."""
    return ResponseUpdateModel(retcode=ResponseCode.SUCCEED, reason=texts.UPDATE_SUCCESS, next_req_time=time)


def upload_refused(refusal: Refusal, reason: str, time: str) -> Response:
    """Return the answer to an updateModel that was not."""
    if refusal.retcode is None:
        return PlainText(reason)
    next_req_time = "" if refusal.text == texts.UPDATE_SCHEMA else time
    return ResponseUpdateModel(retcode=refusal.retcode, reason=reason, next_req_time=next_req_time)


def model_not_ready(reason: str, *, iteration: int, time: str) -> Response:
    """Return the answer to a getModel of the running iteration."""
    return ResponseGetModel(retcode=ResponseCode.SUC_NOT_READY, reason=reason, iteration=iteration, timestamp=time)


def model_answer(given: int, *, iteration: int, time: str) -> ResponseGetModel:
    """Return the answer to a getModel that asked for iteration ``given`` while ``iteration`` is running.

    The model is missing.
    """
    return ResponseGetModel(
        retcode=ResponseCode.SUCCEED,
        reason=texts.MODEL_READY.format(given=given),
        iteration=iteration,
        timestamp=time,
    )
