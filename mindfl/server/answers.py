"""The messages that a coordinator answers with."""

from __future__ import annotations

from mindfl.protocol import (
    FLPlan,
    PlainText,
    Response,
    ResponseCode,
    ResponseFLJob,
    ResponseGetModel,
    ResponseUpdateModel,
    Weights,
    texts,
)
from mindfl.server.refusal import Refusal


def start_answer(
    refusal: Refusal | None, reason: str, *, iteration: int, time: str, plan: FLPlan, model: Weights
) -> Response:
    """Return the answer to a startFLJob, accepted where ``refusal`` is None; ``time`` is when to come (again)."""
    if refusal and refusal.retcode is None:
        return PlainText(reason)
    return ResponseFLJob(
        retcode=refusal.retcode if refusal and refusal.retcode else ResponseCode.SUCCEED,
        reason=reason,
        iteration=iteration,
        is_selected=refusal is None,
        next_req_time=time,
        fl_plan_config=plan,
        feature_map=None if refusal else model,
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


def model_answer(given: int, model: Weights, *, iteration: int, time: str) -> Response:
    """Return the answer to a getModel that asked for iteration ``given`` while ``iteration`` is running."""
    return ResponseGetModel(
        retcode=ResponseCode.SUCCEED,
        reason=texts.MODEL_READY.format(given=given),
        iteration=iteration,
        feature_map=model,
        timestamp=time,
    )
