"""The text files a server writes as it runs, in the form of the MindSpore Federated 0.1.0 server's.

``metrics_file``: one JSON object a line and iteration. ``failure_event_file``: a line whenever a number of iterations
in a row have failed. ``data_rate_dir``: files ``<date>_flow_server<address>.json``, one a day, with a line of JSON for
each second in which a message was answered: ``receive`` and ``send`` count the bodies of requests and answers, refusals
among them, without HTTP's headers and without requests that are no message (unknown paths, empty bodies). Times are
local.

Every line is one write, so that a crash leaves no half of one; a line that does not fit on the disk is taken back.
Errors are :class:`StorageError`; training does not depend on these files, so a caller may report them and continue.
"""

from __future__ import annotations

import json
import logging
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from mindfl.errors import StorageError
from mindfl.files import PathLike, make_dir
from mindfl.server.http.pages import Reply
from mindfl.server.http.request import Request
from mindfl.server.http.service import Counted, Front
from mindfl.server.iteration import IterationRecord, Visits
from mindfl.server.reports import LastingFault

ENDPOINTS = ("startFLJob", "updateModel", "getModel")
_MS_PER_MINUTE = 60_000
WRITE_SECONDS = 60.0
"""How often the files are written, as in the reference; the rest follows when the server stops, and at once."""
MOST_LINES = 3600
"""So many lines of a day are kept for a disk that is full; older ones are given up."""

_logger = logging.getLogger("mindfl.server")


class LineFile:
    """A text file that grows by whole lines. Created, with its folders, at once: an unusable path is known at start."""

    def __init__(self, path: PathLike) -> None:
        self.path = Path(path)
        make_dir(self.path.parent)
        self._write(b"")

    def append(self, line: str) -> None:
        """Add ``line``; on any error the file is as before. Raises :class:`StorageError`."""
        self._write(line.encode() + b"\n")

    def _write(self, content: bytes) -> None:
        try:
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
            try:
                _append(descriptor, content)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise StorageError.from_os_error(error, "write", self.path) from None


class MetricsFile:
    """Writes one line for each :class:`IterationRecord` that it is called with.

    ``instance_name`` is that of records that name none. ``time_level`` is ``participation_time_level``: two
    numbers of minutes, ascending, such as "5,15".
    """

    def __init__(
        self, path: PathLike, *, fl_name: str, fl_iteration_num: int, instance_name: str, time_level: str
    ) -> None:
        self.instance_name = instance_name
        self.fl_iteration_num = fl_iteration_num
        self._fl_name = fl_name
        self._limits_ms = [int(minutes) * _MS_PER_MINUTE for minutes in time_level.split(",")]
        self._file = LineFile(path)

    def __call__(self, record: IterationRecord) -> None:
        """Append the line of an ended iteration. Raises :class:`StorageError`."""
        self._file.append(json.dumps(self.line(record), ensure_ascii=False, separators=(",", ":"), sort_keys=True))

    def line(self, record: IterationRecord, *, instance_status: str = "running") -> dict[str, Any]:
        """Return the line of an iteration.

        ``participationTimeLevel1`` and ``2`` count clients that took less than the first and the second limit from
        startFLJob to updateModel, ``3`` all that uploaded.
        """
        start_ms = record.end_ms if record.start_ms is None else record.start_ms
        elapsed_ms = max(record.end_ms - start_ms, 0)
        return {
            "clientVisitedInfo": _visited(record.visits) | self._participation(record.durations_ms),
            "currentIteration": record.iteration,
            "endTime": _time(record.end_ms),
            "flIterationNum": self.fl_iteration_num,
            "flName": self._fl_name,
            "instanceName": record.instance or self.instance_name,
            "instanceStatus": instance_status,
            "iterationExecutionTime": elapsed_ms,
            "iterationResult": "success" if record.valid else "fail",
            "metricsAuc": _shortest(record.accuracy),
            "metricsLoss": _shortest(record.loss),
            "startTime": _time(start_ms),
            "unsupervisedEval": 0.0,
        }

    def _participation(self, durations_ms: Sequence[int]) -> dict[str, int]:
        counts = [sum(duration < limit for duration in durations_ms) for limit in self._limits_ms]
        return {f"participationTimeLevel{level}": count for level, count in enumerate((*counts, len(durations_ms)), 1)}


class FailureEventFile:
    """Writes a line whenever ``failure_times`` iterations in a row have failed. The file is created empty.

    ``address`` is the node's, such as ``127.0.0.1:6668``.
    """

    def __init__(self, path: PathLike, *, address: str, failure_times: int) -> None:
        self._address = address
        self._failure_times = failure_times
        self._failed = 0
        self._file = LineFile(path)

    def __call__(self, record: IterationRecord) -> None:
        """Take note of an ended iteration. Raises :class:`StorageError`."""
        self._failed = 0 if record.valid else self._failed + 1
        if self._failed < self._failure_times:
            return
        event = f"Iteration failed {self._failed} times continuously"
        self._file.append(f"nodeRole:SERVER,{self._address},currentTime:{_time(record.end_ms)},event:{event};")
        self._failed = 0


class DataRate:
    """Counts until :meth:`close`, and writes once a minute in a thread of its own.

    ``address`` is the server's, such as ``127.0.0.1:6668``; ``clock`` gives the local time. Training does not depend on
    these files: lines that cannot be written cause one warning and are tried again. Raises :class:`StorageError` where
    ``folder`` cannot be made.
    """

    def __init__(self, folder: PathLike, address: str, clock: Callable[[], datetime] = datetime.now) -> None:
        self._folder = make_dir(folder)
        self._address = address
        self._clock = clock
        self._lock = threading.Lock()
        self._seconds: dict[datetime, tuple[int, int]] = {}
        self._unwritten: dict[Path, list[str]] = {}
        self._fault = LastingFault(_logger)
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="mindfl-data-rate", daemon=True)
        self._thread.start()

    def count(self, received: int, sent: int) -> None:
        """Count a message of ``received`` bytes and its answer of ``sent`` bytes; called from any thread."""
        second = self._clock().replace(microsecond=0)
        with self._lock:
            before = self._seconds.get(second, (0, 0))
            self._seconds[second] = before[0] + received, before[1] + sent

    def write(self, *, everything: bool = False) -> None:
        """Append the seconds that are over, or ``everything`` that was counted."""
        now = self._clock().replace(microsecond=0)
        with self._lock:
            over = [second for second in self._seconds if everything or second != now]
            counted = [(second, *self._seconds.pop(second)) for second in sorted(over)]
        for second, received, sent in counted:
            path = self._folder / f"{second:%Y-%m-%d}_flow_server{self._address}.json"
            line = {"receive": received, "send": sent, "time": f"{second:%Y-%m-%d %H:%M:%S}"}
            self._unwritten.setdefault(path, []).append(json.dumps(line, separators=(",", ":")))
        try:
            for path, lines in list(self._unwritten.items()):
                del lines[:-MOST_LINES]
                LineFile(path).append("\n".join(lines))
                del self._unwritten[path]
        except StorageError as error:
            self._fault.occurred(error.line())
        else:
            self._fault.over("data rates are written")

    def close(self) -> None:
        """Write the remaining lines, and count no more."""
        self._closing.set()
        self._thread.join()
        self.write(everything=True)

    def _run(self) -> None:
        while not self._closing.wait(WRITE_SECONDS):
            self.write()


def uncounted(answer: Front) -> Front:
    """Return ``answer`` as it is."""
    return answer


class ByteCounter(Protocol):
    """Counts the bytes of messages."""

    def count(self, received: int, sent: int) -> None:
        """Count a message of ``received`` bytes and its answer of ``sent`` bytes."""


def counted_by(rate: ByteCounter) -> Counted:
    """Return the wrapper by which ``rate`` counts the messages that a front answers."""

    def wrap(answer: Front) -> Front:
        async def counted(request: Request) -> Reply:
            reply = await answer(request)
            if reply.status == 200:
                rate.count(request.received, len(reply.body))
            return reply

        return counted

    return wrap


def _visited(visits: Mapping[str, Visits]) -> dict[str, int]:
    info = {}
    for endpoint in ENDPOINTS:
        count = visits.get(endpoint, Visits())
        info[f"{endpoint}TotalClientNum"] = count.total
        info[f"{endpoint}AcceptClientNum"] = count.accepted
        info[f"{endpoint}RejectClientNum"] = count.rejected
    return info


def _append(descriptor: int, content: bytes) -> None:
    size = os.fstat(descriptor).st_size
    if content and size and os.pread(descriptor, 1, size - 1) != b"\n":
        content = b"\n" + content  # the machine went down in the middle of the last line
    try:
        written = os.write(descriptor, content)
        if written < len(content):
            os.write(descriptor, content[written:])
    except OSError:
        os.ftruncate(descriptor, size)
        raise


def _time(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds / 1000).isoformat(" ", "milliseconds")


def _shortest(value: float) -> float:
    """Return the number whose shortest decimal form is that of ``value`` in float32, as the reference prints it."""
    return float(str(np.float32(value)))
