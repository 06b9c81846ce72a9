"""What notebooks show, and objects that they keep as pickles."""

from __future__ import annotations

import logging
import math
import pickle
import re
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tqdm

from mindfl.data import Dataset, open_dataset
from mindfl.lite import LiteModel
from mindfl.models import NetworkSizes
from mindfl.sim import FederatedLeNetJob, History, IterationRow, Result
from mindfl.sim.callbacks import Progress, PythonReporter
from mindfl.sim.network_model import NetworkModel
from mindfl.sim.progress_bar import BarReporter, default_reporter, in_notebook


def row(iteration: int, **settings: Any) -> IterationRow:
    names = ("avg", "top5", "low5", "loss", "clients", "samples", "bytes_down", "bytes_up", "steps", "steps_per_s")
    return IterationRow(**{**dict.fromkeys(names, 1), "iteration": iteration, "seconds": 2.0, **settings})


@pytest.fixture
def result(converted: Any) -> Result:
    model = LiteModel.load(converted())
    weights = {name: np.array(values) for name, values in model.weights.items()}
    return Result("<b>run</b>", 2, History([row(1), row(2, avg=math.nan)]), weights, model=model)


def cells(html: str) -> list[list[str]]:
    return [re.findall(r"<td>(.*?)</td>", line) for line in re.findall(r"<tr>(.*?)</tr>", html)]


def test_a_result_is_shown_with_its_figure_and_history(result: Result) -> None:
    html = result._repr_html_()
    assert "&lt;b&gt;run&lt;/b&gt;" in html and "<b>run" not in html
    assert html.count('<img src="data:image/png;base64,iVBOR') == 1
    assert cells(result.history._repr_html_())[-1] == ["2", "", "1", "1", "1", "1", "2"]
    assert Result("empty", 1, History(), {})._repr_html_().count("<img") == 0


def test_a_job_is_shown_with_what_differs_from_the_defaults(tmp_path: Path, result: Result) -> None:
    job = FederatedLeNetJob(work_dir=tmp_path / "a & b", client_num=3, algorithm="fedprox:mu=0.5")
    html = job._repr_html_()
    assert ["client_num", "3"] in cells(html) and ["algorithm", "fedprox:mu=0.5"] in cells(html)
    assert "a &amp; b" in html and "not trained" in html and ["seed", "0"] not in cells(html)
    job.result = result
    assert "weights sha256" in job._repr_html_()


def test_a_data_set_is_shown_with_samples(writers: Path) -> None:
    html = open_dataset(writers)._repr_html_()
    assert html.count("<img") == 1 and [row[0] for row in cells(html)[1:]] == list(open_dataset(writers).users)
    numbers = Dataset.from_arrays({"ann": (np.zeros((3, 2), np.float32), np.zeros((3, 1), np.float32))}, test_share=0)
    assert cells(numbers._repr_html_())[1:] == [["ann", "3", "0"]] and "<img" not in numbers._repr_html_()


def test_a_broken_user_is_named_in_the_table(own_bins: Path) -> None:
    data = open_dataset(own_bins)
    (own_bins / data.users[1] / f"{data.users[1]}_bn_0_train_data.bin").write_bytes(b"x")
    html = data._repr_html_()
    assert data.users[1] in cells(html)[2][1] and "<img" in html


def test_a_model_is_shown_with_parameters_and_nodes(result: Result) -> None:
    html = result.model._repr_html_()
    assert ["conv1.weight", "6x5x5x3", "float32", "450"] in cells(html)
    assert "<summary>49 nodes</summary>" in html


def test_results_histories_data_and_models_can_be_pickled(result: Result, writers: Path) -> None:
    dataset = open_dataset(writers)
    again, data = pickle.loads(pickle.dumps([result, dataset]))
    assert again.hash == result.hash and repr(again.history[0]) == repr(result.history[0])
    assert again.mindspore_weights().keys() == result.mindspore_weights().keys()
    assert again.model.content == result.model.content and again.summary() == result.summary()
    assert np.array_equal(data.user(0).train.images(), dataset.user(0).train.images())
    arrays = Dataset.from_arrays({"ann": (np.zeros((3, 8, 8), np.uint8), np.arange(3))})
    assert pickle.loads(pickle.dumps(arrays)).user("ann").train.size == arrays.user("ann").train.size


def test_results_of_trainings_can_be_pickled(make_job: Any, tmp_path: Path) -> None:
    trained = make_job(iterations=1).run()
    again = pickle.loads(pickle.dumps(trained))
    assert again.hash == trained.hash and again.card == trained.card
    assert np.array_equal(again.confusion.matrix, trained.confusion.matrix) and again.settings == trained.settings
    sizes = NetworkSizes()
    NetworkModel({"w": np.arange(3, dtype=np.float32)}, sizes).save(tmp_path / "net.ckpt")
    network = NetworkModel.load(tmp_path / "net.ckpt", sizes)
    assert pickle.loads(pickle.dumps(network)).content == network.content
    whole = replace(trained, model=network)
    assert pickle.loads(pickle.dumps(whole)).model.content == network.content


class Bar:
    """Stands for tqdm's bar."""

    made: list[Bar] = []  # noqa: RUF012

    def __init__(self, **options: Any) -> None:
        self.n, self.total, self.closed, self.text = options["initial"], options["total"], False, ""
        self.made.append(self)

    def update(self) -> None:
        self.n += 1

    def set_description_str(self, text: str, refresh: bool = True) -> None:
        self.text = text

    def set_postfix_str(self, text: str) -> None:
        self.text += text

    def close(self) -> None:
        self.closed = True


def test_a_notebook_has_a_bar(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert not in_notebook()
    shell = SimpleNamespace(get_ipython=lambda: SimpleNamespace(kernel=1))
    monkeypatch.setitem(sys.modules, "IPython", shell)
    monkeypatch.setattr(tqdm, "tqdm", Bar)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    progress = FederatedLeNetJob(work_dir=tmp_path)._report
    assert isinstance(progress, BarReporter)
    for iteration in (2, 3):  # the first one was done before
        for client in (1, 2):
            progress.progress(Progress(iteration, client, 2, 0.5, 3))
        progress.row(row(iteration))
    (bar,) = Bar.made
    assert (bar.n, bar.total, bar.closed) == (6, 6, True)
    assert bar.text == "iteration 3/3loss 1.000, AVG 1.000"
    monkeypatch.setitem(sys.modules, "IPython", None)
    assert type(FederatedLeNetJob(work_dir=tmp_path)._report) is PythonReporter


def test_a_program_in_a_terminal_shows_stages_and_a_bar(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert type(default_reporter()) is PythonReporter
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    reporter = default_reporter()
    reporter.stage("training 2 clients")
    reporter.progress(Progress(1, 1, 2, 0.5, 1))
    reporter.row(row(1))
    shown = capsys.readouterr().err
    assert shown.startswith("mindfl: training 2 clients\n") and "iteration 1/1" in shown and "AVG 1.000" in shown
    logging.getLogger("mindfl").setLevel(logging.INFO)  # a program that shows the log sees no stage twice
    try:
        reporter.stage("training 3 clients")
    finally:
        logging.getLogger("mindfl").setLevel(logging.NOTSET)
    assert capsys.readouterr().err == ""
