"""A run in MLflow: settings as parameters, a metric for each number of each round, files as artifacts."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from mindfl.errors import DataError, OptionError, TransportError
from mindfl.files import PathLike, local_path
from mindfl.imports import lacks, require
from mindfl.sim.history import History
from mindfl.sim.result import Result
from mindfl.sim.run_record import RunRecord
from mindfl.spelling import checked_arguments
from mindfl.tracking.measurements import hyperparameters, scalars
from mindfl.work_files import CARD, HISTORY, RECORD

#: tags of a run in MLflow: which run it is, and the content that was exported; the second is set when all is there
RUN, CONTENT = "mindfl.run", "mindfl.content"
#: files of a work folder that are artifacts, where they are there
_ARTIFACTS = (
    *(RECORD, CARD, "history.csv", HISTORY, "accuracy.png", "summary.txt"),
    *("confusion.csv", "confusion.png"),
)
#: metrics that MLflow takes in one request
_BATCH = 1000
#: MLflow refuses a folder as its store since 3.7, unless it is told that one is wanted
_FOLDER_STORES = "MLFLOW_ALLOW_FILE_STORE"


@dataclass(frozen=True)
class ExportedRun:
    """A run in MLflow.

    Args:
        folder: work folder that it was exported from.
        run_id: its number there.
        experiment: name of its experiment.
        outcome: "exported"; "unchanged": it had been exported before; "replaced": it had been exported before it went
            on, and MLflow's run of that time was deleted.
    """

    folder: Path
    run_id: str
    experiment: str
    outcome: Literal["exported", "unchanged", "replaced"]


@checked_arguments
def export_to_mlflow(
    folder: PathLike, *, uri: str | None = None, experiment: str = "mindfl", name: str | None = None
) -> ExportedRun:
    """Export the run in a work folder to MLflow.

    Args:
        folder: the ``work_dir`` of the run.
        uri: MLflow's tracking URI, such as ``http://HOST:5000`` or ``file:FOLDER``; None: that of the variable
            ``MLFLOW_TRACKING_URI``.
        experiment: name of the experiment, which is created if there is none.
        name: name of the run; None: that of the folder.

    Returns:
        The run in MLflow. One that had been exported before is not exported again.

    Raises:
        OptionError: the folder holds no run, the package mlflow-skinny is missing, or the URI is unusable.
        DataError: a file of the run is damaged.
        TransportError: MLflow cannot be reached, or it refuses the run.

    Example:
        >>> export_to_mlflow("nowhere", uri="file:mlruns")
        Traceback (most recent call last):
        ...
        mindfl.errors.OptionError: nowhere holds no run: it has no config.json
    """
    for option, text in {"uri": uri, "experiment": experiment, "name": name}.items():
        if not isinstance(text, str | None):
            raise OptionError(f"{option} must be a text, got {text!r}")
    place = local_path(folder)
    if not (place / RECORD).exists():
        raise OptionError(f"{place} holds no run: it has no {RECORD}", hint="give the --work_dir of a run")
    target = uri or os.environ.get("MLFLOW_TRACKING_URI")
    if not target:
        raise OptionError("export to MLflow needs --uri", hint="such as http://HOST:5000 or file:mlruns")
    require("export to MLflow", "mlflow-skinny")
    if urlsplit(target).scheme in ("", "file"):
        os.environ.setdefault(_FOLDER_STORES, "true")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    run = _Run(place)
    with _failures_named(target):
        return run.export(target, experiment, name or place.absolute().name)


class _Run:
    """The run in the work folder ``folder``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.record = RunRecord.load(folder / RECORD)
        history = folder / HISTORY
        self.rows = History.load(history) if history.exists() else History()
        self.id = _digest([self.record.began, self.record.settings.get("work_dir"), self.record.model["sha256"]])
        self.content = _digest([self.record.ended, self.record.iterations, *(scalars(row) for row in self.rows)])

    def export(self, uri: str, experiment: str, name: str) -> ExportedRun:
        """Export it, unless it is there."""
        from mlflow.entities import RunStatus
        from mlflow.tracking import MlflowClient

        client = MlflowClient(tracking_uri=uri)
        found = client.get_experiment_by_name(experiment)
        number = client.create_experiment(experiment) if found is None else found.experiment_id
        earlier = client.search_runs([number], f"tags.`{RUN}` = '{self.id}'")
        for run in earlier:
            if run.data.tags.get(CONTENT) == self.content:
                return ExportedRun(self.folder, run.info.run_id, experiment, "unchanged")
        began = _milliseconds(self.record.began)
        created = client.create_run(number, start_time=began, run_name=name, tags=self._tags())
        self._write(client, created.info.run_id, began)
        for run in earlier:
            client.delete_run(run.info.run_id)
        client.set_tag(created.info.run_id, CONTENT, self.content)
        if self.record.ended is not None:
            status = RunStatus.KILLED if self._was_interrupted() else RunStatus.FINISHED
            ended = _milliseconds(self.record.ended)
            client.set_terminated(created.info.run_id, RunStatus.to_string(status), ended)
        return ExportedRun(self.folder, created.info.run_id, experiment, "replaced" if earlier else "exported")

    def _was_interrupted(self) -> bool:
        return (self.folder / CARD).exists() and not Result.load(self.folder).complete

    def _tags(self) -> dict[str, str]:
        versions = {f"version.{name}": version for name, version in self.record.versions.items()}
        known = {"mindfl.weights_sha256": self.record.weights_sha256, "mindfl.work_dir": str(self.folder.absolute())}
        return {RUN: self.id, **versions, **{name: text for name, text in known.items() if text is not None}}

    def _write(self, client: Any, run_id: str, began: int) -> None:
        from mlflow.entities import Metric, Param

        settings = hyperparameters(self.record.settings)
        client.log_batch(run_id, params=[Param(name, str(value)) for name, value in settings.items()])
        metrics, moment = [], float(began)
        for row in self.rows:
            moment += 1000 * row.seconds if row.seconds == row.seconds else 0
            metrics += [Metric(_key(tag), value, int(moment), row.iteration) for tag, value in scalars(row).items()]
        for start in range(0, len(metrics), _BATCH):
            client.log_batch(run_id, metrics=metrics[start : start + _BATCH])
        for path in self._artifacts():
            client.log_artifact(run_id, str(path), "model" if path.parent != self.folder else None)

    def _artifacts(self) -> Iterator[Path]:
        yield from filter(Path.exists, map(self.folder.joinpath, _ARTIFACTS))
        given = self.record.settings.get("train_model_path")
        models = self.folder / "ms" if given is None else Path(given)
        name = f"{self.record.model_name}_trained"
        if _note_of(models / f"{name}.json") == self.record.weights_sha256:
            yield from (path for path in sorted(models.glob("*_trained.*")) if path.stem == name)


def _note_of(path: Path) -> Any:
    """Return the hash in the note beside a trained model, which may be that of another run; None where it has none."""
    try:
        return json.loads(path.read_bytes())["weights_sha256"]
    except (OSError, ValueError, TypeError, KeyError):
        return None


@contextmanager
def _failures_named(uri: str) -> Iterator[None]:
    try:
        from mlflow.exceptions import MlflowException
    except ImportError:
        raise lacks("export to MLflow", "mlflow-skinny") from None
    try:
        yield
    except (MlflowException, OSError) as error:
        reason = str(error).strip().split("\n")[0]
        if "unsupported URI" in reason:
            raise OptionError(
                f"MLflow cannot use --uri {uri}: {reason}",
                hint="a data base needs the whole package mlflow; http://, https:// and file: need mlflow-skinny",
            ) from None
        raise TransportError(f"the run cannot be written to MLflow at {uri}: {reason}", hint="check --uri") from None


def _digest(values: Sequence[object]) -> str:
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()[:32]


def _key(tag: str) -> str:
    """Return ``tag`` with underscores for characters that MLflow does not take."""
    return "".join(each if each.isalnum() or each in "_-./ :" else "_" for each in tag)


def _milliseconds(moment: str) -> int:
    try:
        return int(datetime.fromisoformat(moment).timestamp() * 1000)
    except ValueError:
        raise DataError(f"config.json holds {moment!r}, which is no time") from None
