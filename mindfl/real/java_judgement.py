"""Did a Java client do what it was started for? Its log is asked: it exits with 0 on every failure that it reports."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from mindfl.protocol import ResponseCode
from mindfl.real.java_log import JavaLog
from mindfl.real.java_settings import GET_MODEL, INFERENCE, TRAIN
from mindfl.spelling import counted
from mindfl.system import signal_name

State = Literal["succeeded", "left_out", "failed"]


@dataclass(frozen=True)
class Verdict:
    """``cause`` says why the client did not succeed; empty where it did."""

    state: State
    cause: str = ""

    @property
    def summary(self) -> str:
        """Return the verdict as the end of a sentence that begins with the client."""
        return (
            self.state.replace("_", " ")
            if self.state == "succeeded"
            else f"{self.state.replace('_', ' ')}: {self.cause}"
        )


_SUCCESS = Verdict("succeeded")


def judge(log: JavaLog, exit_code: int, task: str) -> Verdict:
    """Return what became of a client that ended with ``exit_code`` (negative: the signal) after writing ``log``."""
    if exit_code:
        return _failed(log, _exit_text(exit_code))
    if not log.speaks:
        return _failed(log, "it ended without a word of the client in its log")
    if log.did_nothing:
        return _failed(log, f"the client knows no task {task!r} and did nothing")
    return _JUDGES.get(task, _judge_other)(log)


def _judge_train(log: JavaLog) -> Verdict:
    if log.succeeded is None and log.job_code == ResponseCode.OUT_OF_TIME and not log.causes:
        done = (
            f"it took part in {counted(len(log.completed), 'iteration')}" if log.completed else "it took part in none"
        )
        return Verdict("left_out", f"the server told it to come back later, until the job was over: {done}")
    if log.succeeded is None:
        return _failed(log, "its log does not say how the last iteration ended")
    if not log.succeeded:
        return _failed(log, f"it reports a failure in iteration {log.last_total}")
    if log.last_total < log.iterations:
        return _failed(log, f"it ended after iteration {log.last_total} of {log.iterations}")
    return _SUCCESS


def _judge_inference(log: JavaLog) -> Verdict:
    return _SUCCESS if log.inferred else _failed(log, "its log does not say that inference finished")


def _judge_get_model(log: JavaLog) -> Verdict:
    if log.refused:
        return _failed(log, "the model that it got was not saved")
    if log.model_code is None:
        return _failed(log, "it got no answer from the server")
    if log.model_code != ResponseCode.SUCCEED:
        return _failed(log, f"the server answered {log.model_code} instead of a model")
    return _SUCCESS


def _judge_other(log: JavaLog) -> Verdict:
    """Another text as task: that of the tutorial infers one record."""
    return _SUCCESS if log.inferred or not log.causes else _failed(log, "it reports a failure")


_JUDGES: dict[str, Callable[[JavaLog], Verdict]] = {
    TRAIN: _judge_train,
    INFERENCE: _judge_inference,
    GET_MODEL: _judge_get_model,
}


def _failed(log: JavaLog, what: str) -> Verdict:
    return Verdict("failed", f"{what} ({'; '.join(log.causes)})" if log.causes else what)


def _exit_text(exit_code: int) -> str:
    if exit_code > 0:
        return f"it ended with exit code {exit_code}"
    return f"it was ended by {signal_name(-exit_code)}"
