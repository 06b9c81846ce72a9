"""Files that a job writes: results, models, and a note of the clients that were trained."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mindfl.data import UserData
from mindfl.data.samples import ALPHABET
from mindfl.errors import StorageError
from mindfl.files import file_digest, make_dir, remove_file, write_atomic
from mindfl.models import NetworkSizes
from mindfl.sim import card
from mindfl.sim.config import JobConfig
from mindfl.sim.job_data import ClientSamples
from mindfl.sim.network_model import JobModel, load_model
from mindfl.sim.result import Result
from mindfl.sim.tables import csv_text, json_text
from mindfl.work_files import CLIENTS, TIMELINE

#: the confusion matrices of the last and of the best evaluation
CONFUSION, CONFUSION_BEST = "confusion.csv", "confusion_best.csv"


class ResultFiles:
    """The files that training and inference write, and those of an earlier run that they must not leave behind.

    A note beside the trained model says which clients' files the latest training wrote; other files of clients are of
    an earlier run, or the user's.
    """

    def __init__(self, config: JobConfig) -> None:
        self._config = config
        self.picture = config.work_dir / "accuracy.png"
        self.summary = config.work_dir / "summary.txt"
        self.predictions = config.work_dir / "predictions.csv"
        self.clients = config.work_dir / CLIENTS
        self.card = config.work_dir / card.NAME
        self.confusion = config.work_dir / CONFUSION
        self.best_confusion = config.work_dir / CONFUSION_BEST
        self.confusion_picture = config.work_dir / "confusion.png"
        self.trained = self._model("trained")
        self.best = self._model("best")

    def checkpoint(self, iteration: int) -> Path:
        """Return the file that ``--save_every`` writes after ``iteration``."""
        return self._model(f"iteration{iteration}")

    def _model(self, kind: str) -> Path:
        return self._config.models / f"{self._config.model_name}_{kind}{self._config.model_suffix}"

    def remove_old(self, clients: int) -> list[Path]:
        """Remove what an earlier run left and this one may not come to overwrite.

        Model files of clients that the earlier run had and this one has not are left alone: returns them.
        """
        before = self.trained_clients() or 0
        logs = [self._config.client_log(index) for index in range(clients)]
        old = [path for path in self._config.work_dir.glob("client_*/client.log") if path not in logs]
        files = (self.picture, self.summary, self.predictions, self._config.work_dir / TIMELINE)
        for path in (*self._models(), *files, *logs, *old):
            remove_file(path)
        self._note().remove()
        for path in old:
            with suppress(OSError):
                path.parent.rmdir()
        stale = range(clients, before)
        return [path for path in map(self._config.client_model, stale) if path.exists()]

    def set_aside(self) -> Path | None:
        """Move the models that an earlier run left into a folder of their own; return it, None if there are none.

        The folder of the models may serve several work folders, so they may be another run's result.
        """
        models = [path for path in self._models() if path.exists()]
        if not models:
            return None
        number = file_digest(models[0])[:12]
        folder = make_dir(self._config.models / f"{self._config.model_name}_earlier_{number}")
        try:
            for path in models:
                path.replace(folder / path.name)
        except OSError as error:
            raise StorageError.from_os_error(error, "move", error.filename or folder) from None
        return folder

    def keep(self, model: JobModel, result: Result, clients: int) -> bytes:
        """Write the model as it is after the latest iteration, and the note of it; return the file's content.

        Done after every iteration, so that a killed run leaves its model too.
        """
        trained = model.patched(result.weights)
        write_atomic(self.trained, trained, durable=False)
        self._remember(result, clients, (), durable=False)
        return trained

    def write(self, model: JobModel, result: Result, clients: int) -> None:
        """Write up ``result``, whose weights go into copies of ``model``'s file if they are trained."""
        write_atomic(self.summary, result.summary() + "\n")
        if not result.history.aggregated:
            return
        trained = model.patched(result.weights)
        write_atomic(self.trained, trained)
        written = self.write_client_models(trained, clients)
        written += self.update_second_models({**model.weights, **result.weights}, model, clients)
        self._remember(result, clients, written)

    def write_clients(self, clients: Iterable[ClientSamples]) -> None:
        """Write which client has which number, as in ``client_{i}``, with its numbers of samples."""
        rows = ((number, *client) for number, client in enumerate(clients))
        write_atomic(self.clients, csv_text([("client", "name", "train_samples", "test_samples"), *rows]))

    def remove_cards(self) -> None:
        """Remove result card and confusion matrices."""
        for path in (self.card, self.confusion, self.best_confusion, self.confusion_picture):
            remove_file(path)

    def write_card(self, result: Result, *, picture: bool) -> None:
        """Write the result card and what is known of the confusion matrices; ``picture``: a figure of the last too."""
        write_atomic(self.card, json_text(result.card))
        if result.confusion is None:
            return
        result.confusion.save(self.confusion)
        if result.best_confusion is not None and result.best_confusion is not result.confusion:
            result.best_confusion.save(self.best_confusion)
        if picture:
            result.confusion.plot(self.confusion_picture, title=result.title)

    def write_checkpoint(self, content: bytes, iteration: int) -> None:
        """Keep ``content`` as the model after ``iteration``."""
        write_atomic(self.checkpoint(iteration), content)

    def write_best(self, content: bytes, iteration: int, avg: float) -> None:
        """Keep ``content`` as the best model so far, with a note of its iteration and AVG."""
        write_atomic(self.best, content)
        write_atomic(self.best.with_suffix(".json"), json.dumps({"iteration": iteration, "avg": avg}, indent=2) + "\n")

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

    def update_second_models(
        self, weights: Mapping[str, NDArray[np.float32]], model: JobModel, clients: int
    ) -> list[Path]:
        """Put those of ``weights`` that are chosen for them into the second model files; return the paths.

        Missing files are made of ``model``.
        """
        names = self._config.infer_weights
        paths = self._second_models(clients)
        for path in paths:
            second = load_model(path, NetworkSizes()) if path.exists() else model
            chosen = {name: weights[name] for name in names or second.weights if name in weights}
            write_atomic(path, second.patched(chosen))
        return paths

    def fetched(self, paths: Iterable[Path]) -> None:
        """Note that ``paths`` hold a model that the clients fetched."""
        self._note().add(paths)

    def client_file(self, index: int) -> Path | None:
        """Return the model file for inference of client ``index``; None if it has none.

        After a training, only files that it wrote count, even if the user has changed them since.
        """
        note = self._note()
        for path in (self._config.client_infer_model(index), self._config.client_model(index)):
            if path is not None and path.exists() and (not note or note.lists(path)):
                return path
        return None

    def doubtful(self, clients: int) -> Iterator[str]:
        """Yield a line for clients' model files that the latest training did not write, or that changed since."""
        note = self._note()
        paths = [self._config.client_model(index) for index in range(clients)]
        paths += [path for path in map(self._config.client_infer_model, range(clients)) if path is not None]
        there = [path for path in paths if note and path.exists()]
        if stale := [path for path in there if not note.lists(path)]:
            yield f"{_named(stale)}: not written by the latest training, so inference uses the model that it left"
        if changed := [path for path in there if note.lists(path) and not note.matches(path)]:
            yield f"{_named(changed)}: changed since the training that wrote it, and used as it is"

    def trained_clients(self) -> int | None:
        """Return the number of clients of the training that wrote the model files; None if there was none."""
        return self._note().clients

    def write_predictions(
        self, predicted: Mapping[str, NDArray[np.int_]], users: Sequence[UserData], class_names: Sequence[str]
    ) -> None:
        """Write the table of true and predicted labels, one row per sample of the users that were predicted.

        Classes of the data set's own are named too; those of FEMNIST follow from the label.
        """
        of_classes = all(np.ndim(labels) == 1 for labels in predicted.values())
        named = of_classes and tuple(class_names) != tuple(ALPHABET)
        rows: list[list[object]] = [["client", "user", "sample", "label", "predicted"]]
        rows[0] += ["label_name", "predicted_name"] if named else []
        for index, user in enumerate(users):
            pairs = zip(user.test.labels[: user.test.size], predicted.get(user.name, ()), strict=False)
            for i, pair in enumerate(pairs):
                rows.append([index, user.name, i, *map(_cell, pair), *(class_names[label] for label in pair if named)])
        write_atomic(self.predictions, csv_text(rows))

    @property
    def _has_client_models(self) -> bool:
        return self._config.writes_client_models

    def _second_models(self, clients: int) -> list[Path]:
        paths = [self._config.client_infer_model(index) for index in range(clients if self._has_client_models else 0)]
        return [path for path in paths if path is not None]

    def _models(self) -> list[Path]:
        """Return the files of models that trainings leave beside the clients', whether they are there or not."""
        saved = self._config.models.glob(f"*_iteration*{self._config.model_suffix}")
        return [self.trained, self.best, self.best.with_suffix(".json"), *filter(self._is_checkpoint, saved)]

    def _note(self) -> TrainingNote:
        return TrainingNote(self._config.models, self._config.model_name)

    def _remember(self, result: Result, clients: int, files: Iterable[Path], *, durable: bool = True) -> None:
        values = {"client_num": clients, "iterations": len(result.history), "weights_sha256": result.hash}
        values["exchanged"] = list(result.weights)
        self._note().write(values, files, durable=durable)

    def _is_checkpoint(self, path: Path) -> bool:
        number = path.stem.removeprefix(f"{self._config.model_name}_iteration")
        return number.isdecimal() and path == self.checkpoint(int(number))


def _cell(label: Any) -> Any:
    """Return a label for a table; several of one sample, such as those of its tokens, with spaces between."""
    return " ".join(map(str, np.asarray(label).tolist())) if np.ndim(label) else label


def _named(paths: Sequence[Path]) -> str:
    return str(paths[0]) if len(paths) == 1 else f"{paths[0]} and {len(paths) - 1} more"


class TrainingNote:
    """``<name>_trained.json`` in the folder ``models``, as it was read; empty where no training left one.

    Files are noted by their path relative to the folder, so that it may be moved.
    """

    def __init__(self, models: Path, name: str) -> None:
        self._models = models
        self._path = models / f"{name}_trained.json"
        self._trained = models / f"{name}_trained.ms"
        self._values = self._read()

    def __bool__(self) -> bool:
        return bool(self._values)

    @property
    def clients(self) -> int | None:
        """Number of clients of the training; None if it is unknown."""
        number = self._values.get("client_num")
        return number if isinstance(number, int) else None

    @property
    def exchanged(self) -> list[str]:
        """Names of the weights that clients exchanged; empty if they are unknown."""
        names = self._values.get("exchanged")
        return names if isinstance(names, list) else []

    def write(self, values: Mapping[str, Any], files: Iterable[Path] = (), *, durable: bool = True) -> None:
        """Replace the note: further ``values`` of the training, and the ``files`` that it wrote, as they are now."""
        self._values = {**values, "files": {self._key(path): file_digest(path) for path in files}}
        write_atomic(self._path, json.dumps(self._values, indent=2) + "\n", durable=durable)

    def add(self, files: Iterable[Path]) -> None:
        """Note that ``files`` hold a model that was fetched after the training; nothing where there was none."""
        if self:
            found = {self._key(path): file_digest(path) for path in files}
            self._values["files"] = {**self._files, **found}
            write_atomic(self._path, json.dumps(self._values, indent=2) + "\n")

    def remove(self) -> None:
        """Remove the note."""
        remove_file(self._path)
        self._values = {}

    def lists(self, path: Path) -> bool:
        """Say whether the training wrote ``path``, which may have changed since."""
        if "files" in self._values:
            return self._key(path) in self._files
        # A note of the first release, whose training left the same content in every client's file.
        return bool(self) and self._trained.exists() and file_digest(path) == file_digest(self._trained)

    def matches(self, path: Path) -> bool:
        """Say whether ``path`` is as the training left it."""
        return self.lists(path) and self._files.get(self._key(path), file_digest(path)) == file_digest(path)

    @property
    def _files(self) -> dict[str, str]:
        files = self._values.get("files")
        return files if isinstance(files, dict) else {}

    def _key(self, path: Path) -> str:
        return os.path.relpath(path.absolute(), self._models.absolute())

    def _read(self) -> dict[str, Any]:
        try:
            values = json.loads(self._path.read_text("utf-8"))
        except (OSError, ValueError):
            return {}
        return values if isinstance(values, dict) else {}
