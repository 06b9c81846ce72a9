"""Folders of sweeps without a sweep: what ``mindfl sweep`` writes, with runs made of drawn numbers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from stand_in_runs import StandInRun

from mindfl.locks import acquire


class StandInSweep:
    """A sweep over learning rates in ``folder``; ``lives``: this process sweeps."""

    def __init__(self, folder: Path, rates: tuple[float, ...], *, lives: bool = False) -> None:
        self.folder = folder
        self.runs = {f"learning_rate={rate}": StandInRun(folder / "runs" / f"r{rate}", clients=4) for rate in rates}
        self._listed = [
            {"name": name, "folder": f"runs/{run.folder.name}", "settings": {"learning_rate": rate, "iterations": 20}}
            | {"varies": {"learning_rate": rate}, "status": "waiting", "error": None}
            for rate, (name, run) in zip(rates, self.runs.items(), strict=True)
        ]
        if lives:
            self.lock = acquire(folder / ".lock")
        self.note()

    def note(self, name: str = "", **changes: Any) -> None:
        """Write ``sweep.json``, with what has changed of the run ``name``."""
        for run in self._listed:
            if run["name"] == name:
                run.update(changes)
        (self.folder / "sweep.json").write_text(json.dumps({"format": 1, "runs": self._listed}))
