"""The tutorial's experiment: its settings, the comparison with the published curve, and its files."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mindfl.cli import main
from mindfl.errors import OptionError
from mindfl.experiments.femnist50 import FEMNIST50, FILES, Experiment, run_experiment
from mindfl.sim import JobConfig
from mindfl.sim.history import History, IterationRow
from mindfl.sim.plot import plot_history

#: a small run on the writers of the fixture
SMALL = {"client_num": 3, "iterations": 2, "epochs": 1}


def history_of(accuracies: Sequence[float]) -> History:
    zeros = dict.fromkeys(("loss", "samples", "bytes_down", "bytes_up", "steps_per_s"), 0)
    return History(
        IterationRow(
            iteration=number,
            avg=avg,
            top5=avg / 2,
            low5=avg / 4,
            clients=50,
            steps=7,
            seconds=1.0,
            accuracies={},
            **zeros,
        )
        for number, avg in enumerate(accuracies, 1)
    )


def experiment_of(accuracies: Sequence[float], **changes: object) -> Experiment:
    fields = {
        "name": "femnist50",
        "published": FEMNIST50,
        "config": JobConfig(client_num=50, iterations=100, epochs=20),
        "history": history_of(accuracies),
        "data": "femnist (leaf), 50 of its 93 writers",
        "changes": (),
    }
    return Experiment(**{**fields, **changes})


@pytest.fixture
def run(models: Path, writers: Path, tmp_path: Path) -> Callable[..., Experiment]:
    def run(**changes: object) -> Experiment:
        paths = {"train_dataset": writers, "train_model_path": models, "work_dir": tmp_path / "run"}
        return run_experiment(**{**SMALL, **paths, **changes})

    return run


def test_published_values_are_the_tutorials() -> None:
    assert tuple(FEMNIST50.last) == (0.726, 0.927, 0.485)
    assert dict(FEMNIST50.avg_at) == {20: 0.551, 50: 0.672, 80: 0.701}
    assert FEMNIST50.last_iterations == range(91, 101)


def test_setting_is_the_tutorials(models: Path, writers: Path, tmp_path: Path, recorder) -> None:
    from mindfl.cli.experiment import femnist50_command

    defaults = {option.name: option.default for option in femnist50_command.params}
    published = {"client_num": 50, "iterations": 100, "epochs": 20, "batch_size": 32, "learning_rate": 0.01}
    assert FEMNIST50.setting == published == {name: defaults[name] for name in published}

    def stop(row: object) -> None:
        raise KeyboardInterrupt

    recorder.row = stop
    with pytest.raises(KeyboardInterrupt):
        run_experiment(train_dataset=writers, train_model_path=models, work_dir=tmp_path, reporter=recorder)
    report = (tmp_path / "experiment.md").read_text()
    assert "20 epochs, batch 32, initial weights of the model file" in report
    assert "not as in the tutorial: clients 5 (there 50);" in report, "the data set has five"


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=130))
def test_every_number_comes_from_the_run(accuracies: list[float]) -> None:
    done = experiment_of(accuracies)
    measured = {each.quantity: each.measured for each in done.comparisons}
    expected = {f"AVG at iteration {at}": accuracies[at - 1] for at in (20, 50, 80) if at <= len(accuracies)}
    if len(accuracies) >= 100:
        mean = fmean(accuracies[90:100])
        parts = {"AVG": mean, "TOP5": mean / 2, "LOW5": mean / 4}
        expected |= {f"{name}, mean of 91 to 100": value for name, value in parts.items()}
    assert list(measured) == list(expected)
    for quantity, value in expected.items():
        assert math.isclose(measured[quantity], value, abs_tol=1e-12)
        assert f"{value:.3f}" in done.markdown() and f"{value:.3f}" in done.summary()


def test_whole_run_has_the_published_title(tmp_path: Path) -> None:
    done = experiment_of([0.5] * 100)
    assert done.title.splitlines() == [
        "femnist50: 50 clients, 100 iterations, 20 epochs, batch 32, init lecun",
        "data: femnist (leaf), 50 of its 93 writers",
    ]
    done.write(tmp_path)
    assert (tmp_path / "experiment.png").read_bytes().startswith(b"\x89PNG")
    rows = list(csv.DictReader((tmp_path / "experiment.csv").open(newline="")))
    assert len(rows) == 6
    assert rows[0] == {
        "quantity": "AVG at iteration 20",
        "published": "0.551",
        "measured": "0.500000",
        "difference": "-0.051000",
    }


def test_other_number_of_iterations_is_said_and_compared() -> None:
    done = experiment_of([0.5] * 60)
    assert done.title.endswith("not as in the tutorial: iterations 60 (there 100)")
    assert [each.quantity for each in done.comparisons] == ["AVG at iteration 20", "AVG at iteration 50"]


def test_other_setting_is_not_compared(tmp_path: Path) -> None:
    done = experiment_of([0.5] * 100, changes=("epochs 5 (there 20)",))
    assert done.title.endswith("not as in the tutorial: epochs 5 (there 20)")
    assert done.comparisons == [] and "| published |" not in done.markdown()
    assert "0.726" not in done.summary() + done.markdown()
    done.write(tmp_path)
    assert (tmp_path / "experiment.csv").read_text() == "quantity,published,measured,difference\n"


def test_figure_shows_the_published_curve_only_where_it_compares(tmp_path: Path) -> None:
    for changes in ((), ("epochs 5 (there 20)",)):
        done = experiment_of([0.5] * 100, changes=changes)
        done.write(tmp_path)
        plot_history(done.history, tmp_path / "bare.png", title=done.title)
        bare = (tmp_path / "experiment.png").read_bytes() == (tmp_path / "bare.png").read_bytes()
        assert bare == bool(changes)


@pytest.mark.parametrize("iterations", [1, 5, 20, 99, 130])
def test_figure_of_any_length(tmp_path: Path, iterations: int) -> None:
    experiment_of([math.nan] * iterations).write(tmp_path)
    assert (tmp_path / "experiment.png").read_bytes().startswith(b"\x89PNG")


def test_small_run_writes_everything(run: Callable[..., Experiment], tmp_path: Path) -> None:
    done = run()
    assert done.changes == ("clients 3 (there 50)", "epochs 1 (there 20)")
    assert "SYNTHETIC handwriting, no measure of FEMNIST (3 synthetic writers)" in done.title
    assert done.result is not None and done.result.hash in done.markdown()
    written = {path.name for path in (tmp_path / "run").iterdir()}
    assert written >= {*FILES, "history.csv", "accuracy.png", "summary.txt"}


@pytest.mark.parametrize(
    ("setting", "change"),
    [
        ({"clients_per_iteration": 2}, "clients an iteration 2 (there all)"),
        ({"learning_rate": 0.5}, "learning rate 0.5 (there 0.01)"),
    ],
)
def test_change_of_the_curve_is_named(run: Callable[..., Experiment], setting: dict[str, float], change: str) -> None:
    assert change in run(**setting).changes


def test_weights_are_those_of_the_same_job(run: Callable[..., Experiment], make_job: Callable[..., object]) -> None:
    done = run()
    assert done.result is not None
    assert done.result.hash == make_job(**SMALL, batch_size=32, learning_rate=0.01).run().hash


def test_interrupted_run_shows_what_ended(run: Callable[..., Experiment], tmp_path: Path, recorder) -> None:
    def stop(row: object) -> None:
        raise KeyboardInterrupt

    recorder.row = stop
    with pytest.raises(KeyboardInterrupt):
        run(iterations=5, reporter=recorder)
    report = (tmp_path / "run" / "experiment.md").read_text()
    assert "3 clients, 1 iteration, 1 epoch" in report and "sha256" not in report


def test_run_that_fails_leaves_no_older_result(run: Callable[..., Experiment], tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    for name in FILES:
        (tmp_path / "run" / name).write_text("of an older run")
    (tmp_path / "empty").mkdir()
    with pytest.raises(Exception, match="no data set"):
        run(train_dataset=tmp_path / "empty")
    assert not {path.name for path in (tmp_path / "run").iterdir()} & {*FILES}


def test_unknown_experiment(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="unknown experiment 'mnist'"):
        run_experiment("mnist", work_dir=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_unusable_setting_writes_nothing(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="epochs"):
        run_experiment(epochs=0, work_dir=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_command(models: Path, writers: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = ["--train_dataset", writers, "--train_model_path", models, "--work_dir", tmp_path / "run"]
    small = [f"--{name}={value}" for name, value in SMALL.items()]
    command = ["experiment", "femnist50", *map(str, paths), *small]
    main(command)
    text = capsys.readouterr()
    assert text.out.startswith(
        "femnist50: 3 clients, 2 iterations, 1 epoch, batch 32, initial weights of the model file\ndata: SYNTHETIC"
    )
    assert text.out.endswith(f"written to {tmp_path / 'run'}: {', '.join(FILES)}\n")
    assert "warning" not in text.err
    main([*command, "--json", "--quiet", "--overwrite"])
    described = json.loads(capsys.readouterr().out)
    assert described["comparisons"] == [] and described["iterations"] == 2
    assert described["weights_sha256"] in text.out, "the same again"
