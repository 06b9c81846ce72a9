"""Accuracy, perplexity and loss: how a job is measured, what it writes of it, and what it refuses."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mindfl.data import open_dataset
from mindfl.errors import OptionError
from mindfl.lite import LiteModel, Session
from mindfl.sim import FederatedJob
from mindfl.sim.engines import cross_entropy
from mindfl.sim.evaluation import Accuracy, Evaluated, Measured
from mindfl.sim.history import History, HistoryFiles, IterationRow, accuracy_words
from mindfl.sim.job import Silent
from mindfl.sim.metrics import ACCURACY, METRICS, chosen_metric

PERPLEXITY, LOSS = METRICS["perplexity"], METRICS["loss"]
HERE = Path(__file__).parent
JobFactory = Callable[..., FederatedJob]


def test_of_a_loss_the_lowest_are_the_best() -> None:
    values = [float(value) for value in range(8)]
    assert Accuracy.of(values) == (3.5, 5.0, 2.0)
    assert Accuracy.of(values, LOSS) == (3.5, 2.0, 5.0)
    assert LOSS.better(1.0, 2.0) and not LOSS.better(2.0, 1.0) and ACCURACY.better(2.0, 1.0)
    assert LOSS.better(9.0, math.nan) and not LOSS.better(math.nan, 9.0) and not LOSS.better(math.nan, math.nan)


def test_the_value_over_all_samples_is_weighted() -> None:
    found = [Measured("a", 4.0, None, LOSS, 1), Measured("b", 1.0, None, LOSS, 3), Measured("c", None)]
    evaluated = Evaluated.of_clients("all", found)
    assert (evaluated.samples, evaluated.weighted_avg, evaluated.summary.avg) == (4, 1.75, 2.5)
    surprised = [replace_metric(each) for each in found]
    # The perplexity of all samples is that of their mean cross entropy.
    assert Evaluated.of_central(surprised).weighted_avg == pytest.approx(4.0**0.25)


def replace_metric(measured: Measured) -> Measured:
    return measured._replace(metric=PERPLEXITY) if measured.accuracy is not None else measured


def test_a_metric_of_classes_does_not_fit_a_regression() -> None:
    assert chosen_metric("targets") == LOSS and chosen_metric("tokens") == ACCURACY
    assert chosen_metric("classes", "loss") == LOSS
    for name in ("accuracy", "perplexity"):
        with pytest.raises(OptionError, match=f"--metric {name} does not fit: the model predicts numbers"):
            chosen_metric("targets", name)


def row(number: int, metric: str) -> IterationRow:
    evaluated = Evaluated.of_clients("all", [Measured("a", 3.0 / number, None, METRICS[metric], 2)])
    traffic: Any = type("Traffic", (), {"bytes_down": 1, "bytes_up": 2})()
    return IterationRow.ended(number, evaluated, loss=1.0, clients=1, samples=2, steps=3, traffic=traffic, seconds=1.0)


def test_history_names_another_metric_and_only_that(tmp_path: Path) -> None:
    files = HistoryFiles(tmp_path)
    files.begin()
    for number in (1, 2):
        files.append(row(number, "perplexity"))
    history = History.load(files.jsonl)
    assert history.metric == PERPLEXITY and history.best == history[1]
    with files.csv.open(newline="") as file:
        assert [entry["metric"] for entry in csv.DictReader(file)] == ["perplexity", "perplexity"]
    assert accuracy_words(history[0], 1) == "AVG perplexity 3.0  TOP5 3.0  LOW5 3.0"
    assert accuracy_words(replace(history[0], measured="central"), 1) == "perplexity 3.0"
    files.begin([row(1, "accuracy")])
    assert "metric" not in files.csv.read_text() + files.jsonl.read_text()


def test_perplexity_is_that_of_the_scores(make_job: JobFactory, models: Path, writers: Path, tmp_path: Path) -> None:
    plain = make_job(work_dir=tmp_path / "plain", client_num=2, iterations=1).run()
    result = make_job(client_num=2, iterations=1, metric="perplexity").run()
    assert result.hash == plain.hash
    session = Session(LiteModel.load(models / "lenet_train.ms"))
    session.set_weights(result.weights)
    for name, value in result.history[0].accuracies.items():
        test = open_dataset(writers).user(name).test
        entropy = cross_entropy(session.predict(test.planes()), test.labels[: test.size])
        assert value == pytest.approx(math.exp(entropy), rel=1e-6)
    assert result.card["metric"] == "perplexity" and "perplexity_of" in result.card
    assert plain.card.keys() - result.card.keys() == {"accuracy_of"}
    assert "perplexity of all 2 clients" in result.summary()
    assert result.confusion is None
    with pytest.raises(OptionError, match="--metric is accuracy, but the run was measured by its perplexity so far"):
        make_job(work_dir=tmp_path / "run", overwrite=False, resume=True, metric="accuracy", client_num=2).run()


def test_java_clients_tell_their_accuracy_alone() -> None:
    jars = {"clients": "java", "jar_path": "a.jar", "case_jar_path": "b.jar"}
    with pytest.raises(OptionError, match="metric loss does not work with Java clients"):
        FederatedJob(metric="loss", reporter=Silent(), **jars)


REGRESSION: dict[str, Any] = {
    **{"model": f"{HERE}/line_net.py:LineNet", "train_dataset": f"{HERE}/line_net.py:people", "client_num": 3},
    **{"iterations": 3, "epochs": 2, "reporter": Silent()},
}


@pytest.mark.slow
def test_a_regression_is_measured_by_its_loss_with_both_engines(converter_library: Path, tmp_path: Path) -> None:
    jobs = {
        engine: FederatedJob(work_dir=tmp_path / engine, engine=engine, loss="mse", save_best=True, **REGRESSION)
        for engine in ("lite", "mindspore")
    }
    lite, mindspore = (job.run() for job in jobs.values())
    for ours, theirs in zip(lite.history, mindspore.history, strict=True):
        assert (ours.metric, theirs.metric, ours.test_samples) == ("loss", "loss", 30)
        assert ours.avg == pytest.approx(theirs.avg, rel=1e-4)
        assert ours.loss == pytest.approx(theirs.loss, rel=1e-4)
    assert lite.history[-1].avg < lite.history[0].avg
    best = json.loads((tmp_path / "lite" / "ms" / "LineNet_train_best.json").read_text())
    assert best == {"iteration": 3, "avg": lite.history[-1].avg}
    own = {**REGRESSION, "origin_train_model_path": tmp_path / "lite" / "ms" / "LineNet_train.ms"}
    again = FederatedJob(work_dir=tmp_path / "own", engine="mindspore", loss="mse", **own).run()
    assert [row.avg for row in again.history] == pytest.approx([row.avg for row in lite.history], rel=1e-4)
    with pytest.raises(OptionError, match="a regression, does not tell which"):
        FederatedJob(work_dir=tmp_path / "none", engine="mindspore", **own)
    predicted = jobs["lite"].infer()
    user = jobs["lite"].prepare_data().user("cleo")
    mean = np.mean((predicted["cleo"] - user.test.labels) ** 2)
    assert lite.history[-1].accuracies["cleo"] == pytest.approx(float(mean), rel=1e-5)


def test_losses_that_do_not_fit_the_labels_are_refused(writers: Path, tmp_path: Path) -> None:
    pytest.importorskip("mindspore")
    with pytest.raises(OptionError, match=r"--loss sparse does not fit: the labels .* are numbers to predict"):
        FederatedJob(work_dir=tmp_path, **REGRESSION).run()
    with pytest.raises(OptionError, match=r"--loss mse does not fit: the labels .* are one class for each sample"):
        FederatedJob(work_dir=tmp_path, loss="mse", train_dataset=writers, reporter=Silent()).run()
