"""The text files a server writes as it runs, in the form of the MindSpore Federated 0.1.0 server's.

``metrics_file``: one JSON object a line and iteration. ``failure_event_file``: a line whenever a number of iterations
in a row have failed. Times are local.

Every line is one write, so that a crash leaves no half of one; a line that does not fit on the disk is taken back.
Errors are :class:`StorageError`; training does not depend on these files, so a caller may report them and go on.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from mindfl.errors import StorageError
from mindfl.files import PathLike, make_dir
from mindfl.server.iteration import IterationRecord, Visits

ENDPOINTS = ("startFLJob", "updateModel", "getModel")
_MS_PER_MINUTE = 60_000


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
        """Return what is written about an iteration.

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
