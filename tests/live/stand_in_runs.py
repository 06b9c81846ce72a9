"""Run folders without a run: what a training writes, made of drawn numbers."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from mindfl.locks import Lock, acquire
from mindfl.sim.history import HistoryFiles, IterationRow
from mindfl.sim.tables import csv_text


class StandInRun:
    """Writes the files of a run of ``clients``, of which ``drawn`` take part in a round, into ``folder``."""

    def __init__(self, folder: Path, *, clients: int = 10, drawn: int | None = None, iterations: int = 20) -> None:
        self.folder = folder
        self.names = [f"writer_{number:04d}" for number in range(clients)]
        self.drawn = clients if drawn is None else drawn
        self.iterations = iterations
        self.rows: list[IterationRow] = []
        self._random = random.Random(clients)
        self._skill = [self._random.gauss(0, 0.08) for _ in self.names]
        folder.mkdir(parents=True, exist_ok=True)
        self.files = HistoryFiles(folder)

    def begin(self, *, lives: bool = False) -> StandInRun:
        """Write what is there before the first round; ``lives``: this process trains."""
        settings = {"model": "lenet", "train_dataset": "/data/femnist", "algorithm": "fedprox:mu=0.01", "seed": 0}
        self._config({"settings": {**settings, "iterations": self.iterations, "epochs": 5}, "ended": None})
        rows = [(number, name, 200, 20) for number, name in enumerate(self.names)]
        text = csv_text([("client", "name", "train_samples", "test_samples"), *rows])
        (self.folder / "clients.csv").write_text(text, "utf-8")
        self.lock: Lock | None = None
        if lives:
            self.lock = acquire(self.folder / ".lock")
        self.files.begin()
        return self

    def _config(self, changes: dict[str, Any]) -> None:
        data = {"users": len(self.names), "samples": 220 * len(self.names), "classes": 62, "sha256": "0" * 64}
        path = self.folder / "config.json"
        before = (
            json.loads(path.read_text()) if path.exists() else {"form": 1, "data": data, "began": "2026-11-30T20:00:00"}
        )
        path.write_text(json.dumps({**before, **changes}))

    def round(self, **values: Any) -> IterationRow:
        """Add the row of the next round."""
        iteration = len(self.rows) + 1
        base = 0.82 * (1 - 0.86**iteration)
        accuracies = {
            name: min(max(round(20 * (base + skill + self._random.gauss(0, 0.03))) / 20, 0.0), 1.0)
            for name, skill in zip(self.names, self._skill, strict=True)
        }
        taken = tuple(sorted(self._random.sample(range(len(self.names)), self.drawn)))
        ranked = sorted(accuracies.values())
        usual: dict[str, Any] = {
            "avg": sum(ranked) / len(ranked),
            "top5": sum(ranked[-5:]) / len(ranked[-5:]),
            "low5": sum(ranked[:5]) / len(ranked[:5]),
            "loss": 4.1 * 0.9**iteration + self._random.random() / 20,
            "clients": self.drawn,
            "samples": 200 * self.drawn,
            "bytes_down": 531232 * self.drawn,
            "bytes_up": 265616 * self.drawn,
            "steps": 35 * self.drawn,
            "steps_per_s": 410.5,
            "seconds": 0.085 * self.drawn + self._random.random() / 5,
            "evaluated": len(self.names),
            "measured": "all",
            "test_samples": 20 * len(self.names),
            "weighted_avg": sum(ranked) / len(ranked),
            "learning_rate": 0.01,
            "participants": taken if self.drawn < len(self.names) else (),
            "accuracies": accuracies,
        }
        row = IterationRow(iteration=iteration, **{**usual, **values})
        self.files.append(row)
        self.rows.append(row)
        return row

    def log(self, client: int, text: str) -> None:
        """Write a client's log."""
        path = self.folder / f"client_{client}" / "client.log"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, "utf-8")

    def end(self, *, asked: int | None = None) -> None:
        """Write what is there after the last round, or where so many had been ``asked`` for, after an interruption."""
        self._config({"ended": "2026-11-30T21:00:00", "iterations": len(self.rows)})
        card = {"form": 1, "title": f"lenet, FEMNIST, {len(self.names)} clients", "stopped": None}
        card |= {"iterations": len(self.rows), "iterations_asked": len(self.rows) if asked is None else asked}
        (self.folder / "result.json").write_text(json.dumps(card))
