"""The log of one client: events as lines of MindSpore Federated 0.1.0's Java client, in the file ``client.log``.

The texts of the lines are in :mod:`mindfl.client.log_lines`. The file has the two-line records of
``java.util.logging``, with numbers and times as Java writes them.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from datetime import datetime
from itertools import chain
from pathlib import Path, PurePath
from typing import Any, TypeAlias

import numpy as np

from mindfl.client.flow import ClientConfig, Trainer
from mindfl.client.log_lines import EVENTS, PREFIX
from mindfl.errors import StorageError
from mindfl.files import PathLike, make_dir
from mindfl.modes import UploadMode
from mindfl.modes.mode import LogLine
from mindfl.protocol import (
    FLPlan,
    ReconstructSecret,
    ResponseCode,
    ResponseExchangeKeys,
    ResponseFLJob,
    ResponseGetModel,
    ResponseShareSecrets,
    ResponseUpdateModel,
    ReturnClientList,
    ReturnExchangeKeys,
    ReturnShareSecrets,
)

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def java_float(value: float) -> str:
    """Return ``value``, rounded to float32, as ``Float.toString`` does: ``0.33333334``, ``1.0E-8``, ``4.1258564``.

    The shortest decimal that reads back as the same float32, with at least one digit after the point; plain from
    1.0E-3 up to (not including) 1.0E7, scientific elsewhere; ``NaN``, ``Infinity``.
    """
    if 1e-3 <= value < 9e6:
        return str(np.float32(value))  # by far the most frequent case, and here NumPy writes as Java does
    with np.errstate(over="ignore"):
        single = np.float32(value)
    if math.isnan(single):
        return "NaN"
    if math.isinf(single):
        return "Infinity" if single > 0 else "-Infinity"
    if single == 0 or 1e-3 <= abs(single) < 1e7:
        return np.format_float_positional(single, unique=True, trim="0")
    # Of several two-digit decimals Java takes the nearest, where NumPy may stop at one digit (1.4E-45, not 1.0E-45).
    two_digits = f"{float(single):.1e}"
    shortest = np.format_float_scientific(single, unique=True, trim="0")
    mantissa, exponent = (two_digits if np.float32(two_digits) == single else shortest).split("e")
    return f"{mantissa}E{int(exponent)}"


def java_double(value: float) -> str:
    """Return ``value``, rounded to float32, as ``Double.toString`` does for ordinary numbers."""
    return repr(float(np.float32(value)))


def java_log_time(moment: datetime) -> str:
    """Return ``moment`` as the head of a ``java.util.logging`` record: ``Nov 22, 2026 7:44:19 AM``.

    Always English: the reference follows the machine's language, which only makes its logs harder to search.
    """
    half = "AM" if moment.hour < 12 else "PM"
    clock = f"{moment.hour % 12 or 12}:{moment.minute:02}:{moment.second:02} {half}"
    return f"{_MONTHS[moment.month - 1]} {moment.day}, {moment.year} {clock}"


_PACKAGE = "com.mindspore.flclient."


class ClientLog:
    """Collects records in memory and appends them to ``path`` on :meth:`flush`.

    So thousands of clients do not write line by line.

    ``clock`` gives the local time of a record. ``brief`` leaves out the loss of every single batch. Nothing is
    created before the first flush.
    """

    def __init__(self, path: PathLike, clock: Callable[[], datetime], *, brief: bool = False) -> None:
        self.path = Path(path)
        self.brief = brief
        self._clock = clock
        self._records: list[str] = []
        self._second: tuple[int, ...] = ()
        self._second_text = ""

    def record(self, source: str, text: str, *, level: str = "INFO", prefix: str = PREFIX) -> None:
        """Add one record. ``source`` is the reference's class below ``com.mindspore.flclient`` and its method."""
        self._records.append(f"{self._time()} {_PACKAGE}{source}\n{level}: {prefix}{text}\n")

    def _time(self) -> str:
        moment = self._clock()
        second = (moment.year, moment.month, moment.day, moment.hour, moment.minute, moment.second)
        if second != self._second:
            self._second, self._second_text = second, java_log_time(moment)
        return self._second_text

    def flush(self) -> None:
        """Append the collected records to the file: all of them or, if that fails, none.

        Raises :class:`StorageError` naming the file.
        """
        if not self._records:
            return
        content = "".join(self._records).encode()
        try:
            try:
                _append(self.path, content)
            except FileNotFoundError:
                make_dir(self.path.parent)
                _append(self.path, content)
        except OSError as error:
            raise StorageError.from_os_error(error, "write", self.path) from None
        self._records.clear()


def _append(path: Path, content: bytes) -> None:
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        size = os.fstat(file).st_size
        left = memoryview(content)
        try:
            while left:
                left = left[os.write(file, left) :]
        except OSError:
            with suppress(OSError):
                os.ftruncate(file, size)
            raise
    finally:
        os.close(file)


Answer: TypeAlias = (
    ResponseExchangeKeys
    | ReturnExchangeKeys
    | ResponseShareSecrets
    | ReturnShareSecrets
    | ReturnClientList
    | ReconstructSecret
)
"""The server's answers to the requests of secure aggregation."""

#: answer -> class and method that log it, its name in the lines, its field whose length is logged
_ANSWERS: dict[type[Answer], tuple[str, str, str]] = {
    ResponseExchangeKeys: ("CipherClient judgeRequestExchangeKeys", "RequestExchangeKeys", ""),
    ReturnExchangeKeys: ("CipherClient judgeGetExchangeKeys", "GetExchangeKeys", ""),
    ResponseShareSecrets: ("CipherClient judgeRequestShareSecrets", "RequestShareSecrets", ""),
    ReturnShareSecrets: ("CipherClient judgeGetShareSecrets", "GetShareSecrets", "encrypted_shares"),
    ReturnClientList: ("cipher.ClientListReq judgeGetClientList", "GetClientList", "clients"),
    ReconstructSecret: ("cipher.ReconstructSecretReq judgeSendReconstructSecrets", "ReconstructSecrets", ""),
}
#: headings other than "the response of" and that name
_HEADINGS = {
    "GetClientList": " the response of GetClientList ",
    "ReconstructSecrets": "the response of SendReconstructSecrets",
}

#: data -> its line if there are none
_NO_DATA = {
    "train": "in the case of only inference",
    "eval": "in the case of only training without evaluation",
    "infer": "in the case of training without inference",
}
#: the reference's name of a stage without an answer
_NO_ANSWER = {"startFLJob": " in StartFLJob", "updateModel": " in updateModel"}
_RULES = {"rule": "=" * 80, "stars": "*" * 80, "end": ""}


class JobLog:
    """Writes events to ``log``, if there is one. Events that need more than their values have a method."""

    def __init__(self, log: ClientLog | None, config: ClientConfig, trainer: Trainer) -> None:
        self._log = log
        self._config = config
        self._trainer = trainer
        self.model_file = PurePath(config.model_file)

    def add(self, *events: str, **values: Any) -> None:
        """Write the lines of these events of :data:`EVENTS`, with these values in them."""
        if self._log:
            values |= {"config": self._config, "trainer": self._trainer, "job": self, **_RULES}
            for line in chain.from_iterable(EVENTS[event] for event in events):
                source, text = line.source.format_map(values), line.text.format_map(values)
                self._log.record(source, text, level=line.level, prefix=line.prefix)

    def write(self, lines: Iterable[LogLine]) -> None:
        """Write the lines of an upload mode."""
        if self._log:
            for source, text in lines:
                self._log.record(source, text)

    def flush(self) -> None:
        """Append the collected lines to the file."""
        if self._log:
            self._log.flush()

    @property
    def backup(self) -> PurePath:
        """The copy of the model file."""
        return self.model_file.with_name(f"bak_{self.model_file.name}")

    @property
    def train_batches(self) -> int:
        """Batches of an epoch."""
        return math.ceil(self._trainer.train_size / self._trainer.batch_size)

    @property
    def eval_batches(self) -> int:
        """Batches of the test data."""
        return math.ceil(self._trainer.eval_size / self._trainer.batch_size)

    def task_started(self, task: str) -> None:
        """Log the start of ``flJobRun``, ``modelInference`` or ``getModel``."""
        config = self._config
        paths = {
            "train": config.train_data if task == "flJobRun" else "",
            "eval": config.eval_data,
            "infer": config.eval_data if task == "modelInference" else "",
        }
        data = {f"{kind}_data": _data_path(kind, path) for kind, path in paths.items()}
        self.add("task_started", task=task, **data)

    def no_answer(self, stage: str, reason: str) -> None:
        """Log that ``stage`` got no answer and is not tried again."""
        self.add("no_answer", stage=stage, where=_NO_ANSWER.get(stage, ""), reason=reason)

    def server_not_ready(self, stage: str, text: str) -> None:
        """Log that the server is not ready for ``stage``."""
        self.add("server_not_ready", stage=stage, text=text)

    def start_response(self, response: ResponseFLJob) -> None:
        """Log the answer to startFLJob, of any code."""
        selected, timestamp = str(response.is_selected).lower(), response.timestamp or "null"
        self.add("start_response", response=response, selected=selected, timestamp=timestamp)

    def start_accepted(self, response: ResponseFLJob, plan: FLPlan, values: int, mode: UploadMode) -> None:
        """Log the plan and the size of the received model, ``values`` numbers."""
        rate = java_float(response.upload_sparse_rate)
        self.add("start_accepted", response=response, plan=plan, values=values, sparse_rate=rate)
        self.write(mode.log_asked())
        self.add("started", response=response)

    def epoch(self, number: int, losses: Sequence[float]) -> None:
        """Log local epoch ``number`` (from 0) and the losses of its batches."""
        if not self._log:
            return
        if not self._log.brief:
            # One line per batch: a template would take twice the time.
            lines = (f"batch:{batch},loss:{java_float(loss)}" for batch, loss in enumerate(losses))
            self.write(("model.LossCallback stepEnd", line) for line in lines)
        self.add("epoch", number=number, loss=java_float(sum(losses) / max(len(losses), 1)))

    def update_response(self, response: ResponseUpdateModel) -> None:
        """Log the answer to updateModel, of any code."""
        accepted = ["update_accepted"] if response.retcode == ResponseCode.SUCCEED else []
        self.add("update_response", *accepted, "update_answered", response=response)

    def model_response(self, response: ResponseGetModel) -> None:
        """Log the answer to getModel, of any code."""
        more = []
        if response.retcode == ResponseCode.SUCCEED:
            more = ["model_received"]
        elif response.retcode == ResponseCode.SUC_NOT_READY:
            more = ["model_not_ready"]
        self.add("model_response", *more, "model_answered", response=response)

    def secagg_response(self, response: Answer) -> None:
        """Log an answer to a request of secure aggregation, of any code."""
        source, name, field = _ANSWERS[type(response)]
        events = ["secagg_answer", *(["secagg_reason"] if hasattr(response, "reason") else []), "secagg_times"]
        values: dict[str, Any] = {
            "source": source,
            "name": name,
            "heading": _HEADINGS.get(name, f"the response of {name}"),
        }
        if field:
            events.append("secagg_count")
            values |= {"counted": field.replace("_", " "), "count": len(getattr(response, field) or ())}
        if response.retcode == ResponseCode.SUCCEED:
            events.append("secagg_success")
        elif response.retcode == ResponseCode.SUC_NOT_READY:
            events.append("secagg_not_ready")
        self.add(*events, response=response, **values)

    def failed(self, stage: str, iteration: int, code: ResponseCode) -> None:
        """Log that ``stage`` failed, and the job with it."""
        what = "failed" if stage == "startFLJob" else f"{stage} failed"
        self.add("failed", "iteration_result", stage=stage, what=what, iteration=iteration, code=code)


def _data_path(kind: str, path: str) -> str:
    if path:
        return f"the {kind}DataPath: /AnonymousPath/{PurePath(path).name}"
    return f"the {kind}DataPath is null or empty, please check if you are {_NO_DATA[kind]}"
