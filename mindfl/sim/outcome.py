"""What a job leaves in its folders: results, models, and the note of who was trained."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mindfl.data import UserData
from mindfl.files import remove_file, write_atomic
from mindfl.lite import LiteModel
from mindfl.sim.config import JobConfig
from mindfl.sim.result import TrainingResult


class ResultFiles:
    """The files that training and inference write, and those of an earlier run that they must not leave behind."""

    def __init__(self, config: JobConfig) -> None:
        self._config = config
        self.picture = config.work_dir / "accuracy.png"
        self.summary = config.work_dir / "summary.txt"
        self.predictions = config.work_dir / "predictions.csv"
        self.trained = config.models / f"{config.train_ms_name}_trained.ms"
        self._note = config.models / f"{config.train_ms_name}_trained.json"

    def remove_old(self, clients: int) -> list[Path]:
        """Remove what an earlier run left and this one may not come to overwrite.

        Model files of clients that the earlier run had and this one has not are left alone: returns them.
        """
        before = self.trained_clients() or 0
        logs = [self._config.client_log(index) for index in range(clients)]
        old = [path for path in self._config.work_dir.glob("client_*/client.log") if path not in logs]
        for path in (self.trained, self._note, self.picture, self.summary, self.predictions, *logs, *old):
            remove_file(path)
        for path in old:
            with suppress(OSError):
                path.parent.rmdir()
        stale = range(clients, before)
        return [path for path in map(self._config.client_model, stale) if path.exists()]

    def write(self, model: LiteModel, result: TrainingResult, clients: int) -> None:
        """Write up ``result``, whose weights go into copies of ``model``'s file."""
        write_atomic(self.summary, result.summary() + "\n")
        if not len(result.history):
            return
        trained = model.patched(result.weights)
        write_atomic(self.trained, trained)
        self.write_client_models(trained, clients)
        self.update_second_models({**model.weights, **result.weights}, model, clients)
        note = {"client_num": clients, "iterations": len(result.history), "weights_sha256": result.hash}
        write_atomic(self._note, json.dumps(note, indent=2) + "\n")
        result.plot(self.picture)

    def write_client_models(self, content: bytes, clients: int) -> list[Path]:
        """Write each client's own model file, where clients have one; return the paths."""
        paths = [self._config.client_model(index) for index in range(clients if self._has_client_models else 0)]
        for path in paths:
            write_atomic(path, content)
        return paths

    def write_second_models(self, content: bytes, clients: int) -> None:
        """Write each client's second model file, where clients have one."""
        for path in self._second_models(clients):
            write_atomic(path, content)

    def update_second_models(self, weights: Mapping[str, NDArray[np.float32]], model: LiteModel, clients: int) -> None:
        """Put those of ``weights`` that are chosen for them into the second model files.

        Missing files are made of ``model``.
        """
        names = self._config.infer_weights
        for path in self._second_models(clients):
            second = LiteModel.load(path) if path.exists() else model
            chosen = {name: weights[name] for name in names or second.weights if name in weights}
            write_atomic(path, second.patched(chosen))

    def trained_clients(self) -> int | None:
        """Return how many clients the training had that left the model files; None where there was none here."""
        try:
            number = json.loads(self._note.read_text("utf-8"))["client_num"]
        except (OSError, ValueError, TypeError, KeyError):
            return None
        return number if isinstance(number, int) else None

    def write_predictions(self, predicted: Mapping[str, NDArray[np.int_]], users: Sequence[UserData]) -> None:
        """Write the table of true and predicted labels, one row per sample of the users that were predicted."""
        table = io.StringIO()
        rows = csv.writer(table)
        rows.writerow(["client", "user", "sample", "label", "predicted"])
        for index, user in enumerate(users):
            pairs = zip(user.test.labels[: user.test.size], predicted.get(user.name, ()), strict=False)
            rows.writerows([index, user.name, i, label, guess] for i, (label, guess) in enumerate(pairs))
        write_atomic(self.predictions, table.getvalue())

    @property
    def _has_client_models(self) -> bool:
        return self._config.writes_client_models

    def _second_models(self, clients: int) -> list[Path]:
        paths = [self._config.client_infer_model(index) for index in range(clients if self._has_client_models else 0)]
        return [path for path in paths if path is not None]
