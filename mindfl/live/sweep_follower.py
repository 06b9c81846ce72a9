"""Follows the folder of a sweep: which runs it has, how far they are, and the value of each of their rounds."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mindfl.live.line_tail import LineTail
from mindfl.live.run_header import file_stamp, json_object
from mindfl.live.run_rows import is_number, parsed
from mindfl.locks import is_held
from mindfl.work_files import HISTORY, RECORD, SWEEP

_STATES = ("waiting", "running", "done", "failed")


def is_sweep(folder: Path) -> bool:
    """Return whether ``folder`` is that of a sweep, and not of a run."""
    return (folder / SWEEP).is_file() and not (folder / RECORD).exists()


class SweepFollower:
    """Reads the sweep in ``folder`` as it grows; :meth:`poll` looks at the files. Of one thread at a time.

    ``header`` lists the runs, and ``points`` holds (iteration, value) of the rounds of each. ``generation`` changes
    where points that were told of are no longer those of the folder.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._token = secrets.token_hex(4)
        self._resets = 0
        self._headers = 0
        self._tails: list[LineTail] = []
        self.header: dict[str, Any] = {}
        self.points: list[list[tuple[int, float | None]]] = []
        self._metrics: list[str] = []
        #: what the list says, what is wrong with it, and the state of the file that it was read from
        self._listed: list[dict[str, Any]] = []
        self._list_problems: list[str] = []
        self._stamp: tuple[int, ...] | None = None

    @property
    def generation(self) -> str:
        """Identifies the list of runs and their beginnings."""
        return f"{self._token}-{self._resets}"

    @property
    def version(self) -> tuple[object, ...]:
        """Another value whenever there is something new."""
        return self.generation, self._headers, sum(map(len, self.points))

    def run_folder(self, number: int) -> Path | None:
        """Return the folder of run ``number``; None if there is no such run, or if it leads out of the sweep."""
        if number >= len(self._tails):
            return None
        return self._tails[number].path.parent

    def poll(self) -> None:
        """Look at the folder."""
        stamp = file_stamp(self._folder / SWEEP)
        if stamp is None or stamp != self._stamp:
            self._read_list()
            self._stamp = stamp
        problems = [*self._list_problems]
        try:
            self._look()
        except OSError as error:
            problems.append(f"{error.filename or self._folder}: {error.strerror or error}")
        lives = is_held(self._folder / ".lock")
        header = {
            "name": self._folder.name,
            "folder": str(self._folder),
            "state": self._state(self._listed, lives),
            "runs": [self._shown(run, metric, lives) for run, metric in zip(self._listed, self._metrics, strict=True)],
            "problems": problems,
        }
        if header != self.header:
            self.header = header
            self._headers += 1

    def _read_list(self) -> None:
        """Read which runs there are; to find the folders of thousands takes long, so only a list that has changed."""
        problems: list[str] = []
        listed = json_object(self._folder / SWEEP, problems).get("runs")
        if not isinstance(listed, list):
            listed = []
        found = [(run, self._place(run)) for run in listed if isinstance(run, dict)]
        runs, places = [run for run, place in found if place], [place for _, place in found if place]
        if len(runs) < len(listed):
            problems.append(f"{SWEEP}: {len(listed) - len(runs)} of {len(listed)} runs have no folder here, left out")
        self._listed, self._list_problems = runs, problems
        if places != [tail.path.parent for tail in self._tails]:
            self._begin(places)

    def _begin(self, places: list[Path]) -> None:
        if self._tails:
            self._resets += 1
        self._tails = [LineTail(place / HISTORY) for place in places]
        self.points = [[] for _ in places]
        self._metrics = ["accuracy" for _ in places]

    def _look(self) -> None:
        replaced = [tail.poll() for tail in self._tails]
        if any(replaced):
            self._begin([tail.path.parent for tail in self._tails])
            for tail in self._tails:
                tail.poll()
        for number, tail in enumerate(self._tails):
            for _, line in tail.lines():
                row = parsed(line)
                if row is None:
                    continue
                value, metric = row.get("avg"), row.get("metric")
                self.points[number].append((row["iteration"], value if is_number(value) else None))
                if isinstance(metric, str):
                    self._metrics[number] = metric

    def _place(self, run: Mapping[str, Any]) -> Path | None:
        found = run.get("folder")
        if not isinstance(found, str) or "\0" in found:
            return None
        place = self._folder / found
        try:
            inside = place.resolve().is_relative_to(self._folder.resolve())
        except (OSError, RuntimeError):
            return None
        return place if inside and place != self._folder else None

    def _state(self, runs: list[dict[str, Any]], lives: bool) -> str:
        if not self._folder.is_dir():
            return "missing"
        if lives:
            return "training"
        return "ended" if all(run.get("status") in ("done", "failed") for run in runs) else "stopped"

    def _shown(self, run: Mapping[str, Any], metric: str, lives: bool) -> dict[str, Any]:
        settings, varies, error = run.get("settings"), run.get("varies"), run.get("error")
        status = run.get("status") if run.get("status") in _STATES else "waiting"
        asked = settings.get("iterations") if isinstance(settings, dict) else None
        return {
            "name": str(run.get("name")),
            "status": "stopped" if status == "running" and not lives else status,
            "error": error if isinstance(error, str) else None,
            "varies": {name: str(value) for name, value in varies.items()} if isinstance(varies, dict) else {},
            "iterations": asked if is_number(asked) else None,
            "metric": metric,
        }
