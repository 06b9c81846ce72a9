"""Export to MLflow, into a folder as its store: read back through MLflow, and as the text files that it writes."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from mindfl.cli import root
from mindfl.errors import OptionError, TransportError
from mindfl.sim import IterationRow, JobConfig
from mindfl.sim.history import HistoryFiles
from mindfl.sim.run_record import RunRecord
from mindfl.tracking import export_to_mlflow

pytest.importorskip("mlflow", reason="mlflow-skinny is not installed (pip install mlflow-skinny)")

MakeRow = Callable[..., IterationRow]


@pytest.fixture
def run(tmp_path: Path, make_row: MakeRow, unevaluated: Any) -> Path:
    """A work folder, with the model of another run in its folder of models."""
    folder = tmp_path / "run ö"
    (folder / "ms").mkdir(parents=True)
    config = JobConfig(work_dir=folder, algorithm="fedprox:mu=0.5", iterations=3)
    model = {"path": "x.ms", "sha256": "00", "own": False}
    record = RunRecord.begin(config, {"users": 3}, model)
    replace(record, began="2026-01-01T00:00:00+00:00", weights_sha256="ab").write(folder)
    rows = [make_row(1, metrics={"a,b": 2.0}), make_row(2, **unevaluated), make_row(3, loss=math.nan)]
    HistoryFiles(folder).begin(rows)
    (folder / "ms" / "lenet_train_trained.ms").write_bytes(b"model")
    (folder / "ms" / "lenet_train_trained.json").write_text('{"weights_sha256": "cd"}')
    return folder


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "mlruns"


def client(store: Path) -> Any:
    from mlflow.tracking import MlflowClient

    return MlflowClient(tracking_uri=store.as_uri())


def test_mlflow_has_settings_numbers_and_files(run: Path, store: Path) -> None:
    done = export_to_mlflow(run, uri=store.as_uri(), experiment="try")
    found = client(store).get_run(done.run_id)
    assert (done.outcome, found.info.run_name, found.info.status) == ("exported", "run ö", "RUNNING")
    assert found.data.params["algorithm"] == "fedprox:mu=0.5" and found.data.params["iterations"] == "3"
    assert found.data.params["learning_rate"] == "0.01"
    folder = next(store.glob(f"*/{done.run_id}"))
    # lines of time, value and step
    told = [line.split() for line in (folder / "metrics" / "accuracy" / "avg").read_text().splitlines()]
    assert [(value, step) for _, value, step in told] == [("0.1", "1"), ("0.3", "3")]
    assert [line.split()[1] for line in (folder / "metrics" / "loss").read_text().splitlines()] == ["1.0", "0.5", "nan"]
    assert (folder / "metrics" / "metrics" / "a_b").exists()
    assert sorted(path.name for path in (folder / "artifacts").rglob("*")) == [
        *("config.json", "history.csv", "history.jsonl")
    ]


def test_the_model_is_exported_if_it_is_the_runs_own(run: Path, store: Path) -> None:
    (run / "ms" / "lenet_train_trained.json").write_text('{"weights_sha256": "ab"}')
    done = export_to_mlflow(run, uri=store.as_uri())
    assert next(store.glob(f"*/{done.run_id}/artifacts/model/lenet_train_trained.ms")).read_bytes() == b"model"


def test_a_run_is_there_once_and_as_it_is_now(run: Path, store: Path, make_row: MakeRow) -> None:
    first = export_to_mlflow(run, uri=store.as_uri())
    again = export_to_mlflow(run, uri=store.as_uri())
    assert (again.outcome, again.run_id) == ("unchanged", first.run_id)
    HistoryFiles(run).append(make_row(4))
    config = RunRecord.load(run / "config.json")
    config.finished(4, "ef").write(run)
    on = export_to_mlflow(run, uri=store.as_uri())
    assert on.outcome == "replaced" and on.run_id != first.run_id
    experiment = client(store).get_experiment_by_name("mindfl").experiment_id
    (left,) = client(store).search_runs([experiment])
    assert (left.info.run_id, left.info.status) == (on.run_id, "FINISHED")


def test_an_export_that_was_killed_is_replaced(run: Path, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow.tracking import MlflowClient

    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "log_artifact", lambda *given: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            export_to_mlflow(run, uri=store.as_uri())
    assert export_to_mlflow(run, uri=store.as_uri()).outcome == "replaced"
    experiment = client(store).get_experiment_by_name("mindfl").experiment_id
    assert len(client(store).search_runs([experiment])) == 1


@pytest.mark.parametrize(
    ("uri", "error", "message"),
    [
        ("nonsense://x", OptionError, "MLflow cannot use --uri nonsense://x"),
        ("http://127.0.0.1:1", TransportError, "the run cannot be written to MLflow at http://127.0.0.1:1: "),
        (None, OptionError, "export to MLflow needs --uri"),
    ],
)
def test_a_store_that_cannot_be_used_is_named(
    run: Path, uri: str | None, error: type[Exception], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(error, match=message):
        export_to_mlflow(run, uri=uri)


@pytest.mark.parametrize(
    ("asked", "stopped", "status"), [(3, None, "FINISHED"), (9, None, "KILLED"), (9, "x", "FINISHED")]
)
def test_the_status_says_whether_a_run_was_interrupted(
    run: Path, store: Path, asked: int, stopped: str | None, status: str
) -> None:
    record = RunRecord.load(run / "config.json")
    record.finished(3, "ab").write(run)
    card = {"form": 1, "title": "run", "iterations": 3, "iterations_asked": asked, "stopped": stopped, "untested": 0}
    nothing = dict.fromkeys(("last", "best", "privacy"))
    (run / "result.json").write_text(json.dumps({**card, **nothing, "weights_sha256": "ab"}))
    done = export_to_mlflow(run, uri=store.as_uri())
    assert client(store).get_run(done.run_id).info.status == status


def test_the_command_exports_several_runs(run: Path, store: Path, tmp_path: Path) -> None:
    asked = ["export-run", str(run), str(run), "--to", "mlflow", "--uri", store.as_uri()]
    assert CliRunner().invoke(root, asked).output.startswith(f"{run}: exported as run ")
    assert "was exported before as run" in CliRunner().invoke(root, asked).output
    refused = CliRunner().invoke(root, ["export-run", str(tmp_path), "--uri", store.as_uri()])
    assert isinstance(refused.exception, OptionError) and "holds no run" in str(refused.exception)


@pytest.mark.parametrize("given", [{"uri": 3}, {"experiment": 3}, {"name": 3}])
def test_what_is_no_text_is_refused(tmp_path: Path, given: dict[str, Any]) -> None:
    with pytest.raises(OptionError, match=f"{next(iter(given))} must be a text, got 3"):
        export_to_mlflow(tmp_path, **given)
