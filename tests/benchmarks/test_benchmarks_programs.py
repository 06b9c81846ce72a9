"""The benchmark programs, run as a user would, as small as they go. Contenders that need other packages are left to
the programs themselves, which install them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from mindfl.data import make_synthetic

pytestmark = pytest.mark.usefixtures("converter_library")


@pytest.fixture(scope="session")
def writers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("writers") / "data"
    make_synthetic(folder, users=4, progress=False)
    return folder


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder for the results of both programs, so that the model is converted once."""
    return tmp_path_factory.mktemp("out")


def run(program: Path, *options: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(program), *map(str, options)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_compare_runs_every_repetition_on_the_same_work(benchmarks: Path, writers: Path, out: Path) -> None:
    options = ["--clients", "2", "--epochs", "1", "--iterations", "2", "--repetitions", "2", "--workers", "2"]

    done = run(
        benchmarks / "compare.py",
        *("--data", writers, "--out", out, *options, "--systems", "mindfl,mindfl-1,sgemm"),
    )

    assert done.returncode == 0, done.stderr
    content = json.loads((out / "results.json").read_text())
    runs = content["runs"]
    assert {name: len(repeated) for name, repeated in runs.items()} == dict.fromkeys(runs, 2)
    launches = [runs[name][repetition]["launched"] for repetition in (0, 1) for name in ("mindfl", "mindfl-1")]
    assert launches == sorted(launches), "the systems take turns"
    assert all(len(run["ends"]) == 2 for name in ("mindfl", "mindfl-1") for run in runs[name])
    outcomes = {(*run["losses"], *run["accuracies"]) for name in ("mindfl", "mindfl-1") for run in runs[name]}
    assert len(outcomes) == 1
    assert content["summary"]["mindfl-1"]["share_of_roof"] > 0
    assert (out / "table.md").read_text().strip() == done.stdout.strip()


def test_compare_refuses_what_it_cannot_do(benchmarks: Path, writers: Path, tmp_path: Path) -> None:
    unknown = run(benchmarks / "compare.py", "--data", writers, "--out", tmp_path, "--systems", "mindfl,abacus")
    assert unknown.returncode == 2
    assert "no such system: abacus" in unknown.stderr
    short = run(benchmarks / "compare.py", "--data", writers, "--out", tmp_path, "--iterations", "1")
    assert short.returncode == 2
    many = run(benchmarks / "compare.py", "--data", writers, "--out", tmp_path, "--clients", "9", "--systems", "mindfl")
    assert many.returncode == 1
    assert "has 4 clients, 9 were asked for" in many.stderr


@pytest.mark.slow
def test_growth_measures_each_size(benchmarks: Path, writers: Path, out: Path) -> None:
    options = ["--clients", "2,4", "--overhead_clients", "2", "--memory_clients", "1", "--memory_iterations", "12"]

    done = run(benchmarks / "growth.py", "--data", writers, "--out", out, "--iterations", "2", *options)

    assert done.returncode == 0, done.stderr
    content = json.loads((out / "results.json").read_text())
    assert [size["clients"] for size in content["summary"]["sizes"]] == [2, 4]
    assert content["summary"]["sizes"][0]["steps"] < content["summary"]["sizes"][1]["steps"]
    memory = content["runs"]["memory"]
    assert len(memory["anonymous_bytes"]) == 12
    assert 0 < memory["peak_anonymous_bytes"] < memory["peak_bytes"]
    assert memory["kernel_seconds"] == sorted(set(memory["kernel_seconds"]))
    assert (out / "growth.png").read_bytes().startswith(b"\x89PNG")
