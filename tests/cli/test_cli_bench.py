"""``mindfl bench``: what it reports is consistent, and it leaves nothing but its cache behind."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import pytest
from click.testing import CliRunner

from mindfl.cli.bench import bench_command
from mindfl.errors import OptionError, SimulationError
from mindfl.sim import benchmark
from mindfl.sim.benchmark import BenchResult, Speed, bench
from mindfl.sim.run_folder import locked


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, converter_library: Path) -> Path:
    """Return a work folder that the tests share, so that the model is converted once."""
    return tmp_path_factory.mktemp("bench")


@pytest.fixture(autouse=True)
def few_clients(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measure with four clients; it has 16 at least."""
    monkeypatch.setattr(benchmark, "_FEWEST_CLIENTS", 4)
    monkeypatch.setattr(benchmark, "_CLIENTS_PER_WORKER", 2)


def test_it_measures_one_worker_and_all(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    stages: list[str] = []

    result = bench(seconds=0.01, workers=2, work_dir=folder, say=stages.append)

    assert [speed.workers for speed in result.speeds] == [1, 2]
    one, two = result.speeds
    assert result.ratio == pytest.approx(two.steps_per_s / one.steps_per_s)
    for speed in result.speeds:
        assert speed.iterations == 2
        assert speed.ms_per_step == pytest.approx(1000 * speed.workers / speed.steps_per_s, rel=0.01)
    assert result.processor
    assert stages[-1] == "training with 2 workers"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_more_time_is_more_iterations_of_the_same_model(folder: Path) -> None:
    short = bench(seconds=0.01, workers=1, work_dir=folder)
    made = (folder / "ms" / "lenet_train.ms").stat().st_mtime_ns
    longer = bench(seconds=3, workers=1, work_dir=folder)
    assert longer.speeds[0].iterations > short.speeds[0].iterations
    assert longer.ratio is None
    assert (folder / "ms" / "lenet_train.ms").stat().st_mtime_ns == made


def test_json_and_text(folder: Path) -> None:
    options = ["--seconds", "0.01", "--workers", "1", "--work-dir", str(folder)]
    printed = CliRunner().invoke(bench_command, [*options, "--json", "--quiet"], catch_exceptions=False)
    content = json.loads(printed.stdout)
    assert BenchResult(**{**content, "speeds": tuple(Speed(**speed) for speed in content["speeds"])}).clients == 4
    told = CliRunner().invoke(bench_command, options, catch_exceptions=False)
    assert told.stdout.startswith(content["processor"])
    assert "1 worker " in told.stdout
    assert "training with 1 worker" in told.stderr


@pytest.mark.parametrize("values", [{"seconds": 0}, {"seconds": float("nan")}, {"seconds": -1.0}, {"workers": 0}])
def test_values_out_of_range_are_refused(values: dict[str, float], tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=next(iter(values))):
        bench(work_dir=tmp_path, **values)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_two_at_a_time_are_refused(tmp_path: Path) -> None:
    with locked(tmp_path), pytest.raises(SimulationError, match="another run"):
        bench(seconds=0.01, work_dir=tmp_path)
