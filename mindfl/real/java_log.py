"""Reading a Java client's log while it grows: what the client did, in which iteration, and how it ended.

The lines are those of ``com.mindspore.flclient`` 0.1.0. Its records begin with a line of date, class and method and a
level word, both in the language of the machine, so everything hangs on the texts behind ``<FLClient> ``.
"""

from __future__ import annotations

import math
import re
from collections import deque
from dataclasses import dataclass, field

PREFIX = "<FLClient> "
#: of a line that never ends only so much is looked at, and of a line in a message so much is shown
_LONGEST_LINE, _LONGEST_SHOWN = 1 << 20, 200
_LAST_LINES = 3
_CAUSES = 3

_HEADER = re.compile(r"[^:]{1,40}\d[:.]\d\d[:.]\d\d[^:]{0,20} [\w.$]+ [\w$<>]+$")
_STACK = re.compile(r"\s*(at [\w.$/<>]+\(|\.\.\. \d+ more)")
_UNCAUGHT = re.compile(r'Exception in thread "|Error occurred during initialization|Error: |Caused by: |#  ')
#: below information, in the languages that Java's logging speaks
_FINE = frozenset(
    {
        "FINE",
        "FINER",
        "FINEST",
        "FEIN",
        "FEINER",
        "AM FEINSTEN",
        "普通",
        "詳細",
        "最も詳細",
        "详细",
        "较详细",
        "非常详细",
    }
)
_NUMBER = r"(-?\d{1,18})"
_VALUE = r"(-?[\w.]+(?:-\d+)?)"

_TEXTS = {
    "step": r"batch:\d+,loss:",
    "epoch": rf"-+epoch:\d+,average loss:{_VALUE} ?-+$",
    "begin": r"=+set input=+$",
    "task": r"start syncFLJob\.(\w+)\(\)",
    "data_size": rf"\[startFLJob\] the train data size: {_NUMBER}",
    "plan": rf"\[startFLJob\] (?:the )?GlobalParameters? <iterations> from server: {_NUMBER}",
    "values": rf"\[startFLJob\] \*\*\*the feature size get in ResponseFLJob\*\*\*: {_NUMBER}",
    "started": rf"\[startFLJob\] startFLJob succeed, curIteration: {_NUMBER}",
    "accuracy": rf"\[evaluate\] evaluate acc: {_VALUE}",
    "start_length": rf"\[startFLJob\] the response message length: {_NUMBER}",
    "update_length": rf"\[updateModel\] the request message length: {_NUMBER}",
    "model_length": rf"\[getModel\] the response message length: {_NUMBER}",
    "uploaded": r"\[updateModel\] updateModel success",
    "model_code": rf"\[getModel\] =+retCode: {_NUMBER}",
    "refused": r"\[update\w*\] Update feature failed",
    "time": rf"\[(?:start|end) time\] <single \w+> (?:start|end) time: {_NUMBER}",
    "total": rf"=+the total response of {_NUMBER}: (SUCCESS|FAILED)=+$",
    "job_code": rf"\[onFlJobFinished\] .*resultCode: {_NUMBER}",
    "job_over": r"\[isSeverJobFinished\] (.+), will stop the task",
    "inferred": r"\[model inference\] inference finish",
    "labels": r"\[model inference\] the predicted (?:labels|outputs): \[([-\d, ]*)\]",
    "nothing": r"do not do any thing",
}
_LINE = re.compile("|".join(f"(?P<{name}>{text})" for name, text in _TEXTS.items()))


@dataclass
class ClientIteration:
    """What a client did in one iteration.

    ``accuracy`` is that of the model the iteration began with, None without evaluation data; ``losses`` are the mean
    losses of the epochs. ``bytes_down`` and ``bytes_up`` count the values of the weights, or, where they travelled
    compressed, the messages. ``began`` and ``ended`` are in milliseconds since the epoch, NaN where not logged.
    """

    number: int = 0
    data_size: int = 0
    accuracy: float | None = None
    losses: list[float] = field(default_factory=list)
    steps: int = 0
    values: int = 0
    bytes_down: int = 0
    bytes_up: int = 0
    began: float = math.nan
    ended: float = math.nan


class JavaLog:
    """Is fed the bytes of a log as they come. Attributes say what was read so far.

    ``completed`` holds the iterations that the log calls a success, by number; ``accuracies`` each accuracy by the
    number of the iteration that began with the model; ``uploads`` the iterations in which it uploaded. ``current`` is
    the iteration the client is in or tried last, ``succeeded`` what the log says of it: None where it says nothing.
    """

    def __init__(self) -> None:
        self.speaks = False
        self.task: str | None = None
        self.iterations = 0
        self.current = ClientIteration()
        self.completed: dict[int, ClientIteration] = {}
        self.uploads: dict[int, ClientIteration] = {}
        self.accuracies: dict[int, float] = {}
        self.succeeded: bool | None = None
        self.last_total = 0
        self.job_code: int | None = None
        self.model_code: int | None = None
        self.refused = False
        self.inferred = False
        self.did_nothing = False
        self.labels: tuple[int, ...] | None = None
        self._information = ""
        self._causes: list[str] = []
        self._last: deque[str] = deque(maxlen=_LAST_LINES)
        self._rest = b""
        self._lengths = {"start": 0, "update": 0, "model": 0}

    def feed(self, content: bytes) -> None:
        """Read on; a line without its end is kept for the next call."""
        *lines, rest = (self._rest + content).split(b"\n")
        self._rest = rest[:_LONGEST_LINE]
        for line in lines:
            self._read(line[:_LONGEST_LINE].decode(errors="replace").rstrip("\r"))

    def close(self) -> None:
        """The log is complete: read the last line, also where it has no end."""
        self.feed(b"\n")

    @property
    def causes(self) -> list[str]:
        """What the client complained about in its latest iteration: the first complaints and the last one."""
        return list(self._causes)

    @property
    def last_lines(self) -> list[str]:
        """The last lines that say something, without dates and stack traces."""
        return list(self._last)

    def _read(self, line: str) -> None:
        level, found, text = line.partition(PREFIX)
        if not found:
            self._read_foreign(line.strip())
            return
        self._last.append(line.strip()[:_LONGEST_SHOWN])
        self._note_level(level, text)
        self.speaks = True
        match = _LINE.match(text)
        if match and match.lastgroup:
            kind = match.lastgroup
            groups = [group for group in match.groups() if group is not None]
            getattr(self, f"_on_{kind}")(*groups[1:])

    def _read_foreign(self, line: str) -> None:
        """Read a line of the virtual machine's, of the model script's, or the head of a record."""
        if not line or _STACK.match(line) or _HEADER.match(line):
            return
        self._last.append(line[:_LONGEST_SHOWN])
        if _UNCAUGHT.match(line):
            self._complain(line)

    def _note_level(self, level: str, text: str) -> None:
        """The first record is always information, so its level word tells that of this machine's language."""
        self._information = self._information or level
        if level != self._information and level.rstrip(": ") not in _FINE and not _LINE.match(text):
            self._complain(text.strip())

    def _complain(self, text: str) -> None:
        if len(self._causes) == _CAUSES:
            self._causes.pop()
        self._causes.append(text[:_LONGEST_SHOWN])

    def _on_begin(self) -> None:
        self.current = ClientIteration()
        self.succeeded = None
        self._causes.clear()

    def _on_task(self, name: str) -> None:
        self.task = name

    def _on_data_size(self, size: str) -> None:
        self.current.data_size = int(size)

    def _on_plan(self, iterations: str) -> None:
        self.iterations = int(iterations)

    def _on_values(self, values: str) -> None:
        self.current.values = int(values)
        self.current.bytes_down += self._weight_bytes("start")

    def _on_started(self, number: str) -> None:
        self.current.number = int(number)

    def _on_accuracy(self, value: str) -> None:
        accuracy = _float(value)
        self.current.accuracy = accuracy
        self.accuracies[self.current.number] = accuracy

    def _on_step(self) -> None:
        self.current.steps += 1

    def _on_epoch(self, loss: str) -> None:
        self.current.losses.append(_float(loss))

    def _on_start_length(self, length: str) -> None:
        self._lengths["start"] = int(length)

    def _on_update_length(self, length: str) -> None:
        self._lengths["update"] = int(length)

    def _on_model_length(self, length: str) -> None:
        self._lengths["model"] = int(length)

    def _on_uploaded(self) -> None:
        self.uploads[self.current.number] = self.current
        self.current.bytes_up += self._weight_bytes("update")

    def _on_model_code(self, code: str) -> None:
        self.model_code = int(code)
        if self.model_code == 200:
            self.current.bytes_down += self._weight_bytes("model")

    def _on_refused(self) -> None:
        self.refused = True
        self._complain("the model file cannot take the server's weights")

    def _on_time(self, stamp: str) -> None:
        moment = float(stamp)
        if math.isnan(self.current.began):
            self.current.began = moment
        self.current.ended = moment

    def _on_total(self, number: str, outcome: str) -> None:
        self.succeeded = outcome == "SUCCESS"
        self.last_total = int(number)
        if self.succeeded:
            self.completed[self.last_total] = self.current

    def _on_job_code(self, code: str) -> None:
        self.job_code = int(code)

    def _on_job_over(self, text: str) -> None:
        self._complain(text)

    def _on_inferred(self) -> None:
        self.inferred = True

    def _on_labels(self, labels: str) -> None:
        self.labels = tuple(int(label) for label in re.findall(r"-?\d{1,18}", labels))

    def _on_nothing(self) -> None:
        self.did_nothing = True

    def _weight_bytes(self, message: str) -> int:
        """Return what the weights in the latest such message took: four bytes per value, or less if compressed."""
        return min(self._lengths[message], 4 * self.current.values)


def _float(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
