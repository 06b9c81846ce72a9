"""Folders that jobs share: held while one works in them, and cleared of what killed ones left."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mindfl.errors import SimulationError
from mindfl.sim.config import JobConfig
from mindfl.sim.run_folder import locked, model_folders


@pytest.mark.parametrize("method", ["run", "infer", "get_model"])
def test_a_model_folder_of_another_run_is_refused(make_job, models: Path, tmp_path: Path, method: str) -> None:
    before = (models / "lenet_train.ms").read_bytes()
    with (
        model_folders(JobConfig(work_dir=tmp_path / "other", train_model_path=models)),
        pytest.raises(
            SimulationError, match=f"another run is working in .*models: the process {os.getpid()}"
        ) as caught,
    ):
        getattr(make_job(), method)()
    assert "another --train_model_path" in caught.value.hint
    assert [path.name for path in models.iterdir() if not path.name.startswith(".")] == ["lenet_train.ms"]
    assert (models / "lenet_train.ms").read_bytes() == before


def test_a_folder_of_second_models_of_another_run_is_refused(make_job, tmp_path: Path) -> None:
    with locked(tmp_path / "infer"), pytest.raises(SimulationError, match=r"working in .*infer") as caught:
        make_job(infer_model_path=tmp_path / "infer").run()
    assert "another --infer_model_path" in caught.value.hint


def test_the_models_in_a_work_folder_are_held_with_it(make_job, tmp_path: Path) -> None:
    other = JobConfig(work_dir=tmp_path / "other")
    with model_folders(other), pytest.raises(SimulationError, match=r"working in .*other/ms"):
        make_job(train_model_path=tmp_path / "other" / "ms").run()


def test_one_folder_for_everything_is_held_once(make_job, models: Path, tmp_path: Path) -> None:
    (tmp_path / "same").symlink_to(models)
    job = make_job(work_dir=models, train_model_path=tmp_path / "same", infer_model_path=models / ".." / "models")
    assert len(job.run().history) == 2


def test_two_jobs_with_each_others_folders_do_not_wait_for_each_other(tmp_path: Path) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    first = JobConfig(work_dir=tmp_path / "1", train_model_path=a, infer_model_path=b, infer_ms_name="x")
    second = JobConfig(work_dir=tmp_path / "2", train_model_path=b, infer_model_path=a, infer_ms_name="x")
    with model_folders(first), pytest.raises(SimulationError), model_folders(second):
        pass
    with model_folders(second):
        pass


def test_what_killed_runs_left_is_removed(make_job, models: Path, tmp_path: Path) -> None:
    left = [
        tmp_path / "run" / ".history.csv.a1b2c3d4.tmp",
        tmp_path / "run" / "processes" / ".1_2.json.a1b2c3d4.tmp",
        models / ".lenet_train.mindir.a1b2c3d4.tmp",
    ]
    for path in left:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    make_job(iterations=1).run()
    assert [path for path in left if path.exists()] == []
