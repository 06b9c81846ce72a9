"""Reads a Java client's log while it grows: what the client did, in which iteration, and how it ended.

The lines are those of ``com.mindspore.flclient`` 0.1.0. A record begins with a line of date, class and method, and
with a level word. Both are in the language of the machine, so only the texts after ``<FLClient> `` are interpreted.
"""

from __future__ import annotations

import math
import re
from collections import deque
from dataclasses import dataclass, field

PREFIX = "<FLClient> "
#: bytes that are read of a line without end, and characters of a line in a message
_LONGEST_LINE, _LONGEST_SHOWN = 1 << 20, 200
_LAST_LINES = 3
_CAUSES = 3

_HEADER = re.compile(r"[^:]{1,40}\d[:.]\d\d[:.]\d\d[^:]{0,20} [\w.$]+ [\w$<>]+$")
_STACK = re.compile(r"\s*(at [\w.$/<>]+\(|\.\.\. \d+ more)")
_UNCAUGHT = re.compile(r'Exception in thread "|Error occurred during initialization|Error: |Caused by: |#  ')
#: levels below information, in the languages of Java's logging
_FINE = frozenset(
    (
        *("FINE", "FINER", "FINEST", "FEIN", "FEINER", "AM FEINSTEN"),
        *("普通", "詳細", "最も詳細", "详细", "较详细", "非常详细"),
    )
)
_NUMBER = r"(-?\d{1,18})"
_VALUE = r"(-?[\w.]+(?:-\d+)?)"

_TEXTS = {
    "step": r"batch:\d+,loss:",
    "epoch": rf"-+epoch:\d+,average loss:{_VALUE} ?-+$",
    "begin": r"=+set input=+$",
    "data_size": rf"\[startFLJob\] the train data size: {_NUMBER}",
    "plan": rf"\[startFLJob\] (?:the )?GlobalParameters? <iterations> from server: {_NUMBER}",
    "values": rf"\[startFLJob\] \*\*\*the feature size get in ResponseFLJob\*\*\*: {_NUMBER}",
    "rate": rf"\[train\] lr for client is: {_VALUE}",
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
    "did_nothing": r"do not do any thing",
}
#: events that set a flag of the log; that set a number of the log; of the iteration; and lengths of messages
_FLAGS = ("inferred", "did_nothing")
_NUMBERS = {"plan": "iterations", "job_code": "job_code"}
_OF_ITERATION = {"data_size": "data_size", "started": "number"}
_LENGTHS = {"start_length": "start", "update_length": "update", "model_length": "model"}
_LINE = re.compile("|".join(f"(?P<{name}>{text})" for name, text in _TEXTS.items()))


@dataclass
class ClientIteration:
    """What a client did in one iteration.

    Args:
        number: the iteration, from 1.
        data_size: training samples.
        accuracy: of the model that the iteration began with, 0..1; None without evaluation data.
        losses: mean loss of each local epoch.
        steps: training steps.
        learning_rate: that of its training.
        values: number of values in the weights.
        bytes_down: bytes of the downloaded weights; of the messages where these are compressed.
        bytes_up: the same of the upload.
        began: start in milliseconds since 1970; NaN where not logged.
        ended: end, in the same way.
    """

    number: int = 0
    data_size: int = 0
    accuracy: float | None = None
    losses: list[float] = field(default_factory=list)
    steps: int = 0
    learning_rate: float = math.nan
    values: int = 0
    bytes_down: int = 0
    bytes_up: int = 0
    began: float = math.nan
    ended: float = math.nan


class JavaLog:
    """Parses a log that is fed as bytes; attributes hold what was read so far.

    ``completed`` holds the iterations that the log calls a success, by number; ``accuracies`` each accuracy by the
    number of the iteration that began with the model; ``uploads`` the iterations with an upload. ``current`` is the
    latest iteration, ``succeeded`` the log's verdict on it: None if there is none. ``causes`` are the complaints of
    the latest iteration: the first ones and the last one. ``last_lines`` are without dates and stack traces.
    """

    def __init__(self) -> None:
        self.speaks = False
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
        self.causes: list[str] = []
        self.last_lines: deque[str] = deque(maxlen=_LAST_LINES)
        self._information = ""
        self._rest = b""
        self._lengths = dict.fromkeys(_LENGTHS.values(), 0)

    def feed(self, content: bytes) -> None:
        """Read more bytes; the part of a line without its end is kept for the next call."""
        *lines, rest = (self._rest + content).split(b"\n")
        self._rest = rest[:_LONGEST_LINE]
        for line in lines:
            self._read(line[:_LONGEST_LINE].decode(errors="replace").rstrip("\r"))

    def close(self) -> None:
        """Read the last line of the complete log, also if it has no line end."""
        self.feed(b"\n")

    def _read(self, line: str) -> None:
        level, found, text = line.partition(PREFIX)
        if not found:
            self._read_foreign(line.strip())
            return
        self.last_lines.append(line.strip()[:_LONGEST_SHOWN])
        self._note_level(level, text)
        self.speaks = True
        if (match := _LINE.match(text)) and match.lastgroup:
            _, *values = [group for group in match.groups() if group is not None]
            self._note(match.lastgroup, *values)

    def _note(self, event: str, *values: str) -> None:
        """Keep what a line says: ``event`` is its name in :data:`_TEXTS`."""
        if event in _FLAGS:
            setattr(self, event, True)
        elif event in _NUMBERS:
            setattr(self, _NUMBERS[event], int(values[0]))
        elif event in _OF_ITERATION:
            setattr(self.current, _OF_ITERATION[event], int(values[0]))
        elif event in _LENGTHS:
            self._lengths[_LENGTHS[event]] = int(values[0])
        else:
            getattr(self, f"_on_{event}")(*values)

    def _read_foreign(self, line: str) -> None:
        """Read a line of the virtual machine or the model script, or the head of a record."""
        if not line or _STACK.match(line) or _HEADER.match(line):
            return
        self.last_lines.append(line[:_LONGEST_SHOWN])
        if _UNCAUGHT.match(line):
            self._complain(line)

    def _note_level(self, level: str, text: str) -> None:
        """The first record is always information, so its level word is that of this machine's language."""
        self._information = self._information or level
        if level != self._information and level.rstrip(": ") not in _FINE and not _LINE.match(text):
            self._complain(text.strip())

    def _complain(self, text: str) -> None:
        if len(self.causes) == _CAUSES:
            self.causes.pop()
        self.causes.append(text[:_LONGEST_SHOWN])

    def _on_begin(self) -> None:
        self.current = ClientIteration()
        self.succeeded = None
        self.causes.clear()

    def _on_values(self, values: str) -> None:
        self.current.values = int(values)
        self.current.bytes_down += self._weight_bytes("start")

    def _on_accuracy(self, value: str) -> None:
        accuracy = _float(value)
        self.current.accuracy = accuracy
        self.accuracies[self.current.number] = accuracy

    def _on_step(self) -> None:
        self.current.steps += 1

    def _on_epoch(self, loss: str) -> None:
        self.current.losses.append(_float(loss))

    def _on_rate(self, rate: str) -> None:
        self.current.learning_rate = _float(rate)

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

    def _on_job_over(self, text: str) -> None:
        self._complain(text)

    def _on_labels(self, labels: str) -> None:
        self.labels = tuple(int(label) for label in re.findall(r"-?\d{1,18}", labels))

    def _weight_bytes(self, message: str) -> int:
        """Return the bytes of the weights in the latest such message: four per value, or less if compressed."""
        return min(self._lengths[message], 4 * self.current.values)


def _float(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
