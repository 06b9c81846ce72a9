"""Work folders as runs leave them, of numbers that a test chooses: nothing is trained."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from mindfl.sim import History, IterationRow, JobConfig, Result
from mindfl.sim.history import HistoryFiles
from mindfl.sim.run_record import RunRecord, setting_text
from mindfl.sim.tables import json_text


def a_row(iteration: int, avg: float, **values: Any) -> IterationRow:
    """Return a row of 10 seconds and 2 MB each way, whose three clients have ``avg`` and 0.1 less and more."""
    accuracies = {f"f{client}": avg + (client - 1) / 10 for client in range(3)}
    usual = {
        **{"top5": avg + 0.05, "low5": avg - 0.05, "weighted_avg": avg, "loss": 2 - avg, "clients": 3, "samples": 90},
        **{"bytes_down": 2_000_000, "bytes_up": 2_000_000, "steps": 40, "steps_per_s": 4.0, "seconds": 10.0},
        **{"evaluated": 3, "measured": "all", "test_samples": 30, "accuracies": accuracies},
    }
    return IterationRow(iteration=iteration, avg=avg, **{**usual, **values})


def write_run(
    folder: Path,
    avg: Sequence[float],
    *,
    ended: bool = True,
    data: str = "ab" * 32,
    row: Mapping[str, Any] | None = None,
    metrics: Mapping[str, Sequence[float]] | None = None,
    **settings: Any,
) -> Path:
    """Write the folder of a run with this AVG after each round; NaN: not evaluated. ``row``: other values of rows."""
    defaults = {item.name: setting_text(item.name, item.default) for item in fields(JobConfig)}
    known = {**defaults, "iterations": len(avg), "work_dir": str(folder), **settings}
    rows = []
    for number, value in enumerate(avg, 1):
        own = {name: values[number - 1] for name, values in (metrics or {}).items()}
        unevaluated = {"evaluated": 0, "measured": "", "accuracies": {}} if np.isnan(value) else {}
        rows.append(a_row(number, value, metrics=own, **unevaluated, **(row or {})))
    folder.mkdir(parents=True)
    HistoryFiles(folder).begin(rows)
    model = {"path": str(folder / "ms" / "lenet_train.ms"), "sha256": "cd" * 32, "own": False}
    fingerprint = {"users": 3, "samples": 120, "classes": 62, "sha256": data}
    RunRecord(settings=known, command=[], versions={}, data=fingerprint, model=model, began="").write(folder)
    about = {"network": known["model"] or "lenet", "clients": 3, "settings": {}, "data": fingerprint}
    result = Result(folder.name, known["iterations"], History(rows), {"w": np.zeros(1, np.float32)}, about=about)
    if ended:
        (folder / "result.json").write_text(json_text(result.card))
    return folder


def write_sweep(folder: Path, statuses: Mapping[str, str]) -> Path:
    """Write the list of a sweep's runs, whose folders are ``runs/<name>``."""
    runs = [
        {"name": name, "folder": f"runs/{name}", "settings": {}, "varies": {}, "status": status, "error": None}
        for name, status in statuses.items()
    ]
    (folder / "sweep.json").write_text(json.dumps({"format": 1, "runs": runs}))
    return folder
