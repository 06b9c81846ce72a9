"""One Java client as a process: its folder, its log, and how it ended.

The client exits with 0 on every failure that it reports, so its log decides.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from mindfl.protocol import ResponseCode
from mindfl.real.java_files import JavaClientFiles
from mindfl.real.java_log import JavaLog
from mindfl.real.java_settings import GET_MODEL, INFERENCE, TRAIN
from mindfl.real.process_registry import StartedProcess
from mindfl.spelling import counted
from mindfl.system import signal_name

State = Literal["succeeded", "left_out", "failed"]


class DeviceOutcome(NamedTuple):
    """What became of a client; ``cause`` says why it did not succeed, and is empty if it did."""

    state: State
    cause: str


@dataclass(frozen=True, kw_only=True)
class JavaOutcome:
    """How a client ended.

    Args:
        index: number of the client, from 0.
        name: name of the client.
        state: ``succeeded``, ``failed``, or ``left_out`` where the server admitted it to no iteration at the end.
        exit_code: of the process; negative: the signal that ended it.
        cause: why it did not succeed; empty if it did.
        iteration: its last iteration; 0: none.
        iterations: the iterations that it completed.
        labels: what inference predicted; None where the log does not contain it.
        log: its log file.
    """

    index: int
    name: str
    state: State
    exit_code: int
    cause: str
    iteration: int
    iterations: tuple[int, ...]
    labels: tuple[int, ...] | None
    log: Path

    @property
    def succeeded(self) -> bool:
        """Whether it completed its task."""
        return self.state == "succeeded"


class JavaDevice:
    """One client and its state. It runs in ``folder``, and its output is in ``client.log`` there."""

    def __init__(self, index: int, files: JavaClientFiles, folder: Path, command: list[str]) -> None:
        self.index = index
        self.files = files
        self.folder = folder
        self.command = command
        self.log_file = folder / "client.log"
        self.log = JavaLog()
        self.process: StartedProcess | None = None
        self.outcome: JavaOutcome | None = None
        self.reported: set[int] = set()  # the iterations whose upload was reported

    def renewed(self) -> JavaDevice:
        """Return the client as it was before it ran."""
        return JavaDevice(self.index, self.files, self.folder, self.command)

    def end(self, exit_code: int, task: str) -> JavaOutcome:
        """Judge by the complete log how the process ended."""
        self.log.close()
        state, cause = judge(self.log, exit_code, task)
        self.outcome = JavaOutcome(
            index=self.index,
            name=self.files.name,
            state=state,
            exit_code=exit_code,
            cause=cause,
            iteration=self.log.current.number or self.log.last_total,
            iterations=tuple(sorted(self.log.completed)),
            labels=self.log.labels,
            log=self.log_file,
        )
        return self.outcome


def judge(log: JavaLog, exit_code: int, task: str) -> DeviceOutcome:
    """Return what became of a client that ended with ``exit_code`` after it wrote ``log``.

    Args:
        log: the complete log.
        exit_code: negative: the signal that ended the process.
        task: what the client was started for.
    """
    if task == TRAIN and not exit_code and log.speaks and not log.did_nothing and _is_left_out(log):
        count = len(log.completed)
        done = f"it took part in {counted(count, 'iteration')}" if count else "it took part in none"
        return DeviceOutcome("left_out", f"the server told it to come back later, until the job was over: {done}")
    failure = _failure(log, exit_code, task)
    if failure and log.causes:
        failure += f" ({'; '.join(log.causes)})"
    return DeviceOutcome("failed", failure) if failure else DeviceOutcome("succeeded", "")


def _is_left_out(log: JavaLog) -> bool:
    return log.succeeded is None and log.job_code == ResponseCode.OUT_OF_TIME and not log.causes


def _failure(log: JavaLog, exit_code: int, task: str) -> str:
    """Return what failed; empty where nothing did."""
    if exit_code:
        return _exit_text(exit_code)
    if not log.speaks:
        return "it ended without a word of the client in its log"
    if log.did_nothing:
        return f"the client knows no task {task!r} and did nothing"
    if task == TRAIN:
        return _training_failure(log)
    if task == GET_MODEL:
        return _download_failure(log)
    if task == INFERENCE:
        return "" if log.inferred else "its log does not say that inference finished"
    # Another text as task: that of the tutorial infers one record.
    return "" if log.inferred or not log.causes else "it reports a failure"


def _training_failure(log: JavaLog) -> str:
    if log.succeeded is None:
        return "its log does not say how the last iteration ended"
    if not log.succeeded:
        return f"it reports a failure in iteration {log.last_total}"
    return "" if log.last_total >= log.iterations else f"it ended after iteration {log.last_total} of {log.iterations}"


def _download_failure(log: JavaLog) -> str:
    if log.refused:
        return "the downloaded model was not saved"
    if log.model_code is None:
        return "it got no answer from the server"
    return "" if log.model_code == ResponseCode.SUCCEED else f"the server answered {log.model_code} instead of a model"


def _exit_text(exit_code: int) -> str:
    if exit_code > 0:
        return f"it ended with exit code {exit_code}"
    return f"it was ended by {signal_name(-exit_code)}"
