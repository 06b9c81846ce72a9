"""A server's job in the files that the live page reads: rows of iterations, and the uploads of the running one."""

from __future__ import annotations

import json
import math
import re
import threading
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mindfl.errors import StorageError
from mindfl.files import make_dir, write_atomic
from mindfl.live.line_tail import LineTail
from mindfl.live.run_header import SERVER
from mindfl.live.run_rows import parsed
from mindfl.locks import Lock, acquire
from mindfl.work_files import HISTORY, TIMELINE

if TYPE_CHECKING:
    from mindfl.server.coordinator import Coordinator
    from mindfl.server.iteration import IterationRecord

_LOOK_SECONDS = 0.25


def live_folder(fl_name: str) -> Path:
    """Return the folder of a job's live page, named after the job."""
    return Path(re.sub(r"[^\w.-]+", "_", fl_name) + "_live")


class ServerRows:
    """Writes the iterations of a server's job into ``folder``, in the form of a run folder.

    Rows that are there stay if the job goes on behind them; otherwise they are replaced. ``facts`` are settings to be
    shown. Methods raise :class:`StorageError`. Used by several threads.
    """

    def __init__(self, folder: Path, title: str, facts: dict[str, Any]) -> None:
        self._folder = make_dir(folder)
        self._facts = facts
        self._header: dict[str, Any] = {"title": title, "settings": facts, "began": _now(), "ended": None}
        self._lock = threading.Lock()
        self._received = self._sent = 0
        self._coordinator: Coordinator | None = None
        self._held: Lock | None = None
        self._looked: tuple[int, int] = (0, 0)
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="mindfl-live", daemon=True)

    def follow(self, coordinator: Coordinator) -> None:
        """Begin with the job of ``coordinator``, which was opened; also where this server takes over a job."""
        first = self._coordinator is None
        self._coordinator = coordinator
        if not first:
            return
        if self._last() != coordinator.iteration - 1:
            for name in (HISTORY, TIMELINE):
                write_atomic(self._folder / name, "")
        self._facts |= {"iterations": coordinator.config.fl_iteration_num}
        self._held = acquire(self._folder / ".lock")
        self._write_header()
        self._thread.start()

    def count(self, received: int, sent: int) -> None:
        """Count a message of ``received`` bytes and its answer of ``sent`` bytes."""
        with self._lock:
            self._received += received
            self._sent += sent

    def __call__(self, record: IterationRecord) -> None:
        """Write the row of an ended iteration."""
        with self._lock:
            received, sent, self._received, self._sent = self._received, self._sent, 0, 0
        begin_ms = record.end_ms if record.start_ms is None else record.start_ms
        sizes = {fl_id: device.eval_data_size for fl_id, device in record.devices.items()}
        row = {
            "iteration": record.iteration,
            "avg": record.accuracy if record.eval_data_size else None,
            "loss": record.loss if record.uploads else None,
            "clients": record.uploads,
            "samples": record.data_size,
            "bytes_down": sent,
            "bytes_up": received,
            "seconds": max(record.end_ms - begin_ms, 0) / 1000,
            "aggregated": record.valid,
            "reason": "" if record.valid else record.reason,
            "measured": "drawn",
            "evaluated": sum(sizes[fl_id] > 0 for fl_id in record.reports),
            "refusals": dict(record.refusals),
            "accuracies": {
                fl_id: report.accuracy if sizes[fl_id] and math.isfinite(report.accuracy) else None
                for fl_id, report in record.reports.items()
            },
        }
        self._append(HISTORY, row)

    def close(self) -> None:
        """Write that the server has ended."""
        self._closing.set()
        if self._thread.is_alive():
            self._thread.join()
        if self._coordinator is not None:
            self._header |= {"ended": _now(), "iterations": self._coordinator.iteration - 1}
            self._write_header()
        if self._held is not None:
            self._held.close()

    def _run(self) -> None:
        while not self._closing.wait(_LOOK_SECONDS):
            try:
                self._look()
            except StorageError:
                continue  # rows that cannot be written either are reported

    def _look(self) -> None:
        assert self._coordinator is not None
        current = self._coordinator.job.current
        looked = current.number, len(current.uploaded)
        if looked == self._looked or current.first_start_ms is None:
            return
        self._looked = looked
        began = self._coordinator.job.wall(current.first_start_ms)
        entry = {"seconds": max(time.time() - began / 1000, 0), "uploads": looked[1], "clients": current.clients}
        self._append(TIMELINE, {"iteration": current.number, **entry})

    def _last(self) -> int:
        """Return the number of the last iteration that has a row, 0 if there is none."""
        tail, last = LineTail(self._folder / HISTORY), 0
        tail.poll()
        for _, line in tail.lines():
            row = parsed(line)
            last = last if row is None else row["iteration"]
        return last

    def _append(self, name: str, entry: dict[str, Any]) -> None:
        path = self._folder / name
        try:
            with path.open("ab", buffering=0) as file:
                file.write((json.dumps(entry, ensure_ascii=False) + "\n").encode(errors="replace"))
        except OSError as error:
            raise StorageError.from_os_error(error, "write", path) from None

    def _write_header(self) -> None:
        write_atomic(self._folder / SERVER, json.dumps(self._header, indent=2) + "\n")


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
