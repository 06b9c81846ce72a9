"""Sweeps: which runs run, what is kept and refused; with real runs, that each has its own bits whatever happens."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mindfl import FederatedJob, make_synthetic, run_sweep
from mindfl.cli import root
from mindfl.data import fingerprint, open_dataset
from mindfl.errors import MindflWarning, OptionError, SimulationError
from mindfl.files import file_digest, write_atomic
from mindfl.locks import acquire
from mindfl.sim.config import JobConfig
from mindfl.sim.history import IterationRow, _json_line
from mindfl.sim.run_folder import locked
from mindfl.sim.run_record import RunRecord
from mindfl.sweeps import read_experiment, shared
from mindfl.sweeps.children import Children
from mindfl.sweeps.followed_runs import FollowedRuns, SweptRow
from mindfl.sweeps.sweep import planned_runs
from mindfl.sweeps.sweep_folder import run_folders
from mindfl.tracking.mlflow_export import ExportedRun

GRID = {"algorithm": ["fedavg", "fedprox:mu=0.1"], "seed": [0, 1]}
NAMES = [f"algorithm={algorithm},seed={seed}" for algorithm in ("fedavg", "fedprox_mu=0.1") for seed in (0, 1)]


class Runs:
    """Stands in for the child processes: notes which runs began, and lets those fail whose name is in ``fails``."""

    def __init__(self) -> None:
        self.began: list[str] = []
        self.fails: dict[str, str] = {}

    def simulate(self, children: Children, arguments: list[str], folder: Path) -> list[str]:
        self.began.append(folder.name)
        (folder / "config.json").write_text("{}")
        if (reason := self.fails.get(folder.name)) == "Ctrl-C":
            raise KeyboardInterrupt
        if reason:
            raise SimulationError(reason)
        (folder / "result.json").write_text(json.dumps({"last": {"avg": 0.5}, "weights_sha256": "0"}))
        return ["every run warns of this"]


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> Runs:
    made = Runs()
    monkeypatch.setattr(Children, "simulate", lambda *arguments: made.simulate(*arguments))
    monkeypatch.setattr(Children, "make", lambda *arguments: [])
    monkeypatch.setattr(shared.Shared, "give", lambda *arguments: None)
    return made


def experiment(**settings: Any) -> dict[str, Any]:
    return {"client_num": 2, "iterations": 2, "epochs": 1, "sweep": GRID, **settings}


def statuses(folder: Path) -> dict[str, str]:
    listed = json.loads((folder / "sweep.json").read_text())
    assert listed["format"] == 1
    return {run["name"]: run["status"] for run in listed["runs"]}


def test_a_failed_run_is_named_the_rest_ends_and_the_same_call_goes_on(tmp_path: Path, runs: Runs) -> None:
    runs.fails = {NAMES[1]: "out of luck"}
    said: list[str] = []
    with pytest.raises(SimulationError, match=rf"1 of 4 runs failed: {NAMES[1]}: out of luck") as caught:
        run_sweep(experiment(), work_dir=tmp_path / "ä b", say=said.append)
    assert sorted(runs.began) == sorted(NAMES) and "run.log says more" in str(caught.value.hint)
    assert said.count("warning: every run warns of this") == 1
    assert statuses(tmp_path / "ä b") == {name: "failed" if name == NAMES[1] else "done" for name in NAMES}
    runs.began.clear()
    runs.fails.clear()
    result = run_sweep(experiment(), work_dir=tmp_path / "ä b", say=said.append)
    assert runs.began == [NAMES[1]] and result.runs[NAMES[1]].error is None
    assert [*result.runs] == NAMES


def test_where_what_runs_share_cannot_be_made_no_log_is_named(
    tmp_path: Path, runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object) -> None:
        raise SimulationError("no model (mend it)")

    monkeypatch.setattr(Children, "make", refuse)
    with pytest.raises(SimulationError, match=r"4 of 4 runs failed: .*: no model \(mend it\)") as caught:
        run_sweep(experiment(), work_dir=tmp_path, say=lambda text: None)
    assert not runs.began and caught.value.hint == "the same command tries these again"


def test_other_grids_and_other_settings(tmp_path: Path, runs: Runs) -> None:
    said: list[str] = []
    run_sweep(experiment(), work_dir=tmp_path, say=said.append)
    runs.began.clear()
    fewer = experiment(sweep={"algorithm": ["fedavg"], "seed": [0, 1, 2]})
    run_sweep(fewer, work_dir=tmp_path, say=said.append)
    assert runs.began == ["algorithm=fedavg,seed=2"]
    assert any(
        "2 runs of" in text
        and f"not in the experiment any more, kept but not compared with the others: {NAMES[2]}" in text
        for text in said
    )
    assert (tmp_path / "runs" / NAMES[2] / "result.json").exists() and statuses(tmp_path)[NAMES[2]] == "done"
    with pytest.warns(
        MindflWarning, match=rf"2 runs of the sweep left out: {NAMES[2]} \(not in the experiment any more"
    ):
        assert len(run_folders(tmp_path)) == 3
    runs.began.clear()
    back = run_sweep(experiment(), work_dir=tmp_path, say=said.append)
    assert not runs.began and [*back.runs] == NAMES, "they come back"
    shutil.rmtree(tmp_path / "runs" / NAMES[3])
    with pytest.warns(MindflWarning, match=rf"left out: {NAMES[3]} \(its folder is gone"):
        run_folders(tmp_path)
    run_sweep(experiment(), work_dir=tmp_path, say=said.append)
    assert runs.began == [NAMES[3]]
    with pytest.raises(OptionError, match=r"run algorithm=fedavg,seed=0 .* made with epochs 1, .* now epochs 2"):
        run_sweep(experiment(epochs=2), work_dir=tmp_path, say=said.append)
    runs.began.clear()
    run_sweep(experiment(epochs=2), work_dir=tmp_path, overwrite=True, say=said.append)
    assert sorted(runs.began) == sorted(NAMES)


def test_data_and_models_that_changed_under_ended_runs_are_named(
    tmp_path: Path, runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, model = tmp_path / "writers", tmp_path / "net.ms"
    swept = {"client_num": 2, "train_dataset": data, "origin_train_model_path": model, "sweep": {"seed": [0, 1]}}

    def simulate(children: Children, arguments: list[str], folder: Path) -> list[str]:
        told = runs.simulate(children, arguments, folder)
        known = fingerprint(open_dataset(data)).as_dict()
        RunRecord.begin(JobConfig(), known, {"path": str(model), "sha256": file_digest(model), "own": True}).write(
            folder
        )
        return told

    def again() -> list[str]:
        runs.began.clear()
        run_sweep(swept, work_dir=tmp_path / "sweep", say=lambda text: None)
        return runs.began

    monkeypatch.setattr(Children, "simulate", simulate)
    make_synthetic(data, users=2, progress=False)
    model.write_bytes(b"one")
    assert len(again()) == 2 and not again()
    model.write_bytes(b"another")
    with pytest.raises(OptionError, match=r"net\.ms has changed since the run seed=0 in .* was made with it"):
        again()
    model.write_bytes(b"one")
    shutil.rmtree(data)
    assert not again(), "what ended can be compared without its data"
    make_synthetic(data, users=2, seed=1, progress=False)
    with pytest.raises(OptionError, match=r"writers has changed since the run seed=0 in .* was made with it"):
        again()


def test_code_that_changed_under_ended_runs_is_named(
    tmp_path: Path, runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "own.py"
    text = "from mindfl.algorithms import Algorithm\n\n\nclass Own(Algorithm):\n    pass\n"
    own.write_text(text)
    folder, said = tmp_path / "sweep", list[str]()
    weights = tmp_path / "begin.ckpt"
    weights.write_bytes(b"one")
    swept = {"init_from": weights, "sweep": {"algorithm": ["fedavg", f"{own}:Own"], "seed": [0, 1]}}

    def simulate(children: Children, arguments: list[str], folder: Path) -> list[str]:
        told = runs.simulate(children, arguments, folder)
        config = JobConfig(init_from=weights, algorithm=f"{own}:Own" if "Own" in folder.name else "fedavg")
        RunRecord.begin(config, {}, {"path": "", "sha256": "", "own": False}).write(folder)
        return told

    monkeypatch.setattr(Children, "simulate", simulate)

    def again() -> list[str]:
        said.clear()
        run_sweep(swept, work_dir=folder, say=said.append)
        return [line for line in said if "has changed since" in line]

    assert not again() and not again()
    own.write_text(f"{text}    mu = 1\n")
    (warning,) = again()
    assert f"{own} has changed since 2 runs ended" in warning and "fedavg" not in warning
    with pytest.warns(MindflWarning, match="has changed since 2 runs ended"):
        planned_runs(swept, folder)
    weights.write_bytes(b"another")
    assert f"{weights} has changed since 4 runs ended" in " ".join(again())
    weights.write_bytes(b"one")
    one = next(name for name in statuses(folder) if "Own" in name)
    shutil.rmtree(folder / "runs" / one)
    assert "has changed since 1 run ended" in again()[0], "that run is new, the other is not"
    own.unlink()
    own.write_text(text)
    assert len(again()) == 1
    run_sweep(swept, work_dir=folder, overwrite=True, say=said.append)
    assert not again()


def test_versions_that_changed_since_runs_ended_are_named_where_others_run(
    tmp_path: Path, runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = "0.1"

    def simulate(children: Children, arguments: list[str], folder: Path) -> list[str]:
        told = runs.simulate(children, arguments, folder)
        model = {"path": "", "sha256": "", "own": False}
        record = RunRecord.begin(JobConfig(), {}, model)
        replace(record, versions={**record.versions, "numpy": version}).write(folder)
        return told

    def again(**changed: Any) -> list[str]:
        said = list[str]()
        run_sweep(experiment(**changed), work_dir=tmp_path, say=said.append)
        return [line for line in said if "versions" in line or "ended with" in line]

    monkeypatch.setattr(Children, "simulate", simulate)
    assert not again() and not again(), "nothing is mixed"
    (warning,) = again(sweep={**GRID, "seed": [0, 1, 2]})
    assert f"some runs ended with numpy 0.1, and the others have numpy {np.__version__}: the last bits" in warning


def test_planned_runs_need_no_folder() -> None:
    assert [(run.name, run.status) for run in planned_runs(experiment())] == [(name, "waiting") for name in NAMES]
    with pytest.raises(OptionError, match="a sweep needs a folder"):
        run_sweep(experiment())


def test_planned_runs_say_which_failed_and_which_run_now(tmp_path: Path, runs: Runs) -> None:
    runs.fails = {NAMES[1]: "no memory"}
    with pytest.raises(SimulationError):
        run_sweep(experiment(), work_dir=tmp_path, say=lambda text: None)
    found = {run.name: (run.status, run.error) for run in planned_runs(experiment(), tmp_path)}
    assert found == {**dict.fromkeys(NAMES, ("done", None)), NAMES[1]: ("failed", "no memory")}
    assert {run.status for run in planned_runs(experiment(), tmp_path, overwrite=True)} == {"waiting"}
    text = (tmp_path / "sweep.json").read_text()
    (tmp_path / "sweep.json").write_text(text.replace('"failed"', '"running"'))
    assert planned_runs(experiment(), tmp_path)[1].status == "waiting", "the sweep was killed"
    with locked(tmp_path):
        assert planned_runs(experiment(), tmp_path)[1].status == "running"


def test_all_runs_that_cannot_be_made_are_named() -> None:
    with pytest.raises(OptionError, match=r"algorithm=nope: .*; sweep.algorithm: run algorithm=fedprox_nu=1: "):
        planned_runs({"sweep": {"algorithm": ["nope", "fedavg", "fedprox:nu=1"]}})


def test_an_interrupted_sweep_leaves_waiting_runs(tmp_path: Path, runs: Runs) -> None:
    runs.fails = {NAMES[1]: "Ctrl-C"}
    with pytest.raises(KeyboardInterrupt):
        run_sweep(experiment(), work_dir=tmp_path, jobs=1, say=lambda text: None)
    found = statuses(tmp_path)
    assert found[NAMES[0]] == "done" and found[NAMES[1]] == "waiting" and set(found.values()) == {"done", "waiting"}
    assert [run.status for run in planned_runs(experiment(), tmp_path)] == list(found.values())


def test_two_sweeps_in_one_folder_and_folders_that_are_none(tmp_path: Path, runs: Runs) -> None:
    lock = acquire(tmp_path / ".lock")
    assert lock is not None
    with lock, pytest.raises(SimulationError, match=f"another run is working in {tmp_path}: the process {os.getpid()}"):
        run_sweep(experiment(), work_dir=tmp_path)
    (tmp_path / "sweep.json").write_text("[]")
    with pytest.raises(OptionError, match=r"sweep.json is not the list of a sweep"):
        run_sweep(experiment(), work_dir=tmp_path)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text("{}")
    with pytest.raises(OptionError, match=r"run is the work folder of a run"):
        run_sweep(experiment(), work_dir=tmp_path / "run")
    assert not runs.began


def test_export_run_takes_the_folder_of_a_sweep(tmp_path: Path, runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    run_sweep(experiment(), work_dir=tmp_path, say=lambda text: None)
    exported: list[str] = []

    def export(folder: Path, **options: Any) -> ExportedRun:
        exported.append(folder.name)
        return ExportedRun(folder, "1", "mindfl", "exported")

    monkeypatch.setattr("mindfl.tracking.mlflow_export.export_to_mlflow", export)
    root.main(["export-run", str(tmp_path)], standalone_mode=False)
    assert exported == NAMES


def test_nothing_else_runs_in_a_sweeps_folder(tmp_path: Path, runs: Runs) -> None:
    (tmp_path / "sweep.json").write_text('{"method": "grid"}')  # another program's
    folder = tmp_path / "ä b"
    run_sweep(experiment(), work_dir=folder, say=lambda text: None)
    for place, where in ((folder, "is the folder of a sweep"), (folder / "runs" / "x", "is in the folder of a sweep")):
        with pytest.raises(OptionError, match=f"{place} {where}") as caught:
            FederatedJob(work_dir=place, client_num=2, overwrite=True).check_work_dir()
        assert "choose another --work_dir" in str(caught.value.hint)
    with pytest.raises(OptionError, match="x is in the folder of a sweep"):
        run_sweep(experiment(), work_dir=folder / "x")
    assert not (folder / "x").exists()


@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        ({"clients_per_iteration": 3}, "clients_per_iteration: run algorithm=fedavg,seed=0: .* above client_num"),
        ({"sweep": {"algorithm": ["fedavg", "fedavgg"]}}, "sweep.algorithm: run algorithm=fedavgg: .*unknown name"),
        ({"sweep": {"seed": [1]}, "model": "lennet"}, "model: run seed=1: .*lennet"),
    ],
)
def test_a_run_that_no_job_would_take_is_named_before_any_begins(
    tmp_path: Path, runs: Runs, settings: dict[str, Any], fault: str
) -> None:
    with pytest.raises(OptionError, match=fault):
        run_sweep(experiment(**settings), work_dir=tmp_path / "new")
    assert not (tmp_path / "new").exists() and not runs.began


def test_an_experiment_of_one_run_is_no_sweep(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"has no table \[sweep\]"):
        run_sweep({"seed": 1}, work_dir=tmp_path)
    with pytest.raises(OptionError, match="a sweep needs a folder"):
        run_sweep(experiment())


def test_runs_share_what_is_the_same(tmp_path: Path) -> None:
    keys = [
        shared.Shared({"client_num": 2, "seed": 0, **more}, tmp_path).key
        for more in ({}, {"algorithm": "fedadam"}, {"seed": 1}, {"optimizer": "adam"}, {"client_num": 3})
    ]
    assert keys[0] == keys[1] and len(set(keys)) == 4
    assert keys[0][0] == keys[4][0]  # a model for any number of clients


MANY = """
client_num = 3
iterations = 4
epochs = 1
train_dataset = "writers"

[sweep]
algorithm = ["fedavg", "fedprox:mu=0.1", "scaffold", "fedper"]
seed = [0, 1, 2]
"""


def command(folder: Path, *arguments: str, **options: Any) -> subprocess.Popen[str]:
    words = [sys.executable, "-m", "mindfl", *arguments]
    return subprocess.Popen(words, cwd=folder, stderr=subprocess.PIPE, text=True, start_new_session=True, **options)


def awaited(process: subprocess.Popen[str], reached: Callable[[], bool]) -> None:
    while not reached():
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.usefixtures("converter_library")
def test_killed_in_the_middle_and_finished_each_run_has_the_bits_that_it_has_alone(tmp_path: Path) -> None:
    make_synthetic(tmp_path / "writers", users=3, progress=False)
    (tmp_path / "exp.toml").write_text(MANY)
    assert len(MANY.strip().splitlines()) <= 20
    folder = tmp_path / "sweep"
    arguments = ("sweep", "exp.toml", "--work_dir", "sweep", "--jobs", "2")

    def states() -> dict[str, str]:
        return statuses(folder) if (folder / "sweep.json").exists() else {}

    def rows(name: str) -> int:
        path = folder / "runs" / name / "history.jsonl"
        return path.read_bytes().count(b"\n") if path.exists() else 0

    with command(tmp_path, *arguments) as first:
        half = lambda: any(status == "running" and rows(name) for name, status in states().items())  # noqa: E731
        awaited(first, lambda: list(states().values()).count("done") >= 3 and half())
        with command(tmp_path, *arguments) as second:  # two at once
            assert "another run is working" in second.communicate()[1] and second.returncode == 60
        os.killpg(first.pid, signal.SIGKILL)
    assert "running" in states().values()
    with command(tmp_path, *arguments) as again:
        awaited(again, lambda: list(states().values()).count("done") >= 6 and half())
        again.send_signal(signal.SIGTERM)  # to the parent alone: it ends its children
        words = again.communicate()[1]
    assert again.returncode == 130 and "the same command goes on" in words
    assert set(states().values()) == {"done", "waiting"}
    result = run_sweep(tmp_path / "exp.toml", work_dir=folder)
    assert len(result.runs) == 12 and set(states().values()) == {"done"}
    for name, run in result.runs.items():
        alone = FederatedJob(work_dir=tmp_path / "alone" / name, **run.settings).run()
        assert result.results[name].hash == alone.hash, name
    assert len({one.hash for one in result.results.values()}) == 12


@pytest.mark.slow
@pytest.mark.usefixtures("converter_library")
def test_a_run_whose_process_dies_is_named_and_tried_again(tmp_path: Path) -> None:
    (tmp_path / "dies.py").write_text(
        "import os, signal\nfrom pathlib import Path\n\n\n"
        "class Dies:\n    def begin(self, config, model):\n"
        "        if config.seed == 1 and not Path('lives').exists():\n"
        "            os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    text = MANY.replace('"fedprox:mu=0.1", "scaffold", "fedper"', "").replace('train_dataset = "writers"\n', "")
    (tmp_path / "exp.toml").write_text('callbacks = "dies.py:Dies"\n' + text)
    arguments = ("sweep", "exp.toml", "--work_dir", "sweep", "--quiet")
    with command(tmp_path, *arguments) as first:
        words = first.communicate()[1]
    assert first.returncode == 60
    assert "1 of 3 runs failed: algorithm=fedavg,seed=1: its process was ended by SIGKILL" in words
    assert list(statuses(tmp_path / "sweep").values()).count("done") == 2
    drawn = sorted(path.name for path in (tmp_path / "sweep" / "common" / "data").glob("synthetic_*_compact"))
    assert drawn == [f"synthetic_3_seed{seed}_compact" for seed in range(3)]
    assert (tmp_path / "sweep" / "runs" / "algorithm=fedavg,seed=0" / "data").resolve().name == "data"
    (tmp_path / "lives").touch()
    with command(tmp_path, *arguments) as second:
        assert second.communicate()[1] == ""
    assert second.returncode == 0


def row_of(iteration: int) -> IterationRow:
    numbers = dict.fromkeys(("loss", "samples", "bytes_down", "bytes_up", "steps_per_s", "steps", "clients"), 1)
    numbers |= dict.fromkeys(("avg", "top5", "low5", "seconds"), 0.5)
    return IterationRow(iteration=iteration, accuracies={}, **numbers)


def test_rows_are_told_once_and_those_of_before_count(tmp_path: Path) -> None:
    told: list[SweptRow] = []
    runs = read_experiment({"iterations": 3, "sweep": {"seed": [0, 1, 2]}}).runs
    followed = FollowedRuns(runs, tmp_path.joinpath, told.append)
    lines = [_json_line(row_of(number)) for number in (1, 2, 3)]
    for name in ("seed=0", "seed=1"):
        (tmp_path / name).mkdir()
        write_atomic(tmp_path / name / "history.jsonl", lines[0] + lines[1])
    followed.ended("seed=2")
    followed.begin("seed=0", resume=True)
    followed.begin("seed=1", resume=False)
    followed.look(["seed=0", "seed=1", "seed=2"])
    assert not told
    for name, text in (("seed=0", "".join(lines) + lines[0][:9]), ("seed=1", lines[0])):
        write_atomic(tmp_path / name / "history.jsonl", text)
    for _ in range(2):
        followed.look(["seed=0", "seed=1"])
    found = [(each.name, each.row.iteration, each.rounds_done, each.rounds) for each in told]
    assert found == [("seed=0", 3, 6, 9), ("seed=1", 1, 7, 9)]
