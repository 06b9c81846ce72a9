"""``timeline.jsonl``: when the uploads of each round came, for the live page."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mindfl.work_files import TIMELINE

if TYPE_CHECKING:
    from mindfl.sim.callbacks import Progress, Reporter
    from mindfl.sim.history import IterationRow

#: at most so many entries per round and second
_STEPS, _SECONDS = 100, 0.1


class UploadTimeline:
    """A reporter that tells ``reporter`` everything, and from :meth:`begin` on writes when uploads came.

    A round has up to a hundred entries, ten a second. If they cannot be written, one warning says so, and the job
    continues. ``clock`` gives seconds.
    """

    def __init__(self, reporter: Reporter, clock: Callable[[], float] = time.monotonic) -> None:
        self._reporter = reporter
        self._path: Path | None = None
        self._clock = clock
        self._began = self._written = clock()
        self._is_new = True
        self._done = 0
        self._fails = False

    def begin(self, folder: Path) -> None:
        """Write into ``folder`` from now on."""
        self._path = folder / TIMELINE

    def stage(self, text: str) -> None:
        """Tell it; a stage such as "training 50 clients" begins the first round."""
        self._began = self._clock()
        self._reporter.stage(text)

    def warning(self, text: str) -> None:
        """Tell it."""
        self._reporter.warning(text)

    def progress(self, progress: Progress) -> None:
        """Write an entry, if it is time for one, and tell it."""
        self._reporter.progress(progress)
        now, is_last = self._clock(), progress.clients_done >= progress.clients
        steps = (progress.clients_done - self._done) * _STEPS >= progress.clients
        if is_last or progress.clients_done < self._done or (steps and now - self._written >= _SECONDS):
            self._written, self._done = now, 0 if is_last else progress.clients_done
            self._write(
                {
                    "iteration": progress.iteration,
                    "seconds": round(now - self._began, 3),
                    "uploads": progress.clients_done,
                    "clients": progress.clients,
                    "loss": progress.loss if progress.loss == progress.loss else None,
                }
            )

    def row(self, row: IterationRow) -> None:
        """Tell it; the next round begins."""
        self._reporter.row(row)
        self._began = self._clock()

    def _write(self, entry: dict[str, Any]) -> None:
        # The first entry of a first round replaces an earlier run's; a run that goes on adds to them.
        if self._path is None:
            return
        mode = "w" if self._is_new and entry["iteration"] == 1 else "a"
        self._is_new = False
        try:
            with self._path.open(mode, encoding="utf-8") as file:
                file.write(json.dumps(entry) + "\n")
        except OSError as error:
            if not self._fails:
                self._fails = True
                self._reporter.warning(f"cannot write {self._path}: {error.strerror}; the live page lacks uploads")
