"""Clients without test data train, and are not evaluated: as the tutorial's script leaves most of its writers."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mindfl.data import convert_dataset, open_dataset
from mindfl.real.java_files import client_files
from mindfl.sim import History


def empty_tests(root: Path, users: range) -> Path:
    """Leave the users at these positions test bins of 0 batches, and no user a manifest."""
    for position, name in enumerate(open_dataset(root).users):
        folder = root / name
        (folder / "manifest.json").unlink(missing_ok=True)
        if position in users:
            for path in folder.glob("*_test_*.bin"):
                path.unlink()
            for what in ("data", "label"):
                (folder / f"{name}_bn_0_test_{what}.bin").touch()
    return root


@pytest.fixture
def some(own_bins: Path) -> Path:
    """Five writers; the second and the third have no test data."""
    return empty_tests(own_bins, range(1, 3))


@pytest.fixture
def none(own_bins: Path) -> Path:
    """Five writers without any test data."""
    return empty_tests(own_bins, range(5))


class TestSome:
    def test_they_train_and_are_left_out_of_the_accuracy(self, make_job, some: Path, recorder: Any) -> None:
        job = make_job(client_num=5, train_dataset=some, reporter=recorder)
        result = job.run()
        assert [(row.clients, row.evaluated, row.measured) for row in result.history] == [(5, 3, "all")] * 2
        assert "no test data for 2 of 5 clients: trained, but left out of the accuracy" in recorder.warnings
        assert "5 clients (2 without test data)" in result.title
        assert "accuracy of all 3 clients that have test data, after every iteration" in result.summary()
        assert "average loss:" in job.config.client_log(1).read_text(), "it trained"
        assert "don't evaluate the model" in job.config.client_log(1).read_text()

    def test_they_count_in_the_model(self, make_job, some: Path, tmp_path: Path) -> None:
        """The same training as with test data: the weights do not know of these."""
        everybody = make_job(client_num=5, train_dataset=some).run()
        convert_dataset(some, tmp_path / "compact", format="compact", progress=False)
        assert make_job(client_num=5, train_dataset=tmp_path / "compact").run().hash == everybody.hash

    def test_drawn_or_not(self, make_job, some: Path) -> None:
        result = make_job(client_num=5, clients_per_iteration=2, iterations=3, train_dataset=some).run()
        assert [row.evaluated for row in result.history] == [3, 3, 3]

    def test_test_parts_of_another_data_set(self, make_job, some: Path, writers: Path) -> None:
        paired = make_job(client_num=5, train_dataset=some, test_dataset=writers).run()
        assert [row.evaluated for row in paired.history] == [5, 5]
        other = make_job(client_num=5, train_dataset=writers, test_dataset=some).run()
        assert [row.evaluated for row in other.history] == [3, 3]

    def test_inference(self, make_job, some: Path, recorder: Any) -> None:
        job = make_job(client_num=5, train_dataset=some, reporter=recorder)
        job.run()
        predicted = job.infer()
        assert [len(labels) > 0 for labels in predicted.values()] == [True, False, False, True, True]
        assert [len(labels) for labels in job.infer(samples=1).values()] == [1, 0, 0, 1, 1]
        assert "no test data for 2 of 5 clients: nothing to predict" in recorder.warnings

    def test_java_clients_are_given_no_empty_files(self, some: Path) -> None:
        dataset = open_dataset(some)
        models = [some / f"{name}.ms" for name in dataset.users]
        files = client_files(dataset, dataset.users, models)
        assert [bool(each.eval_data) for each in files] == [True, False, False, True, True]
        assert [bool(each.infer_data) for each in files] == [True, False, False, True, True]
        assert all(each.train_data for each in files)


class TestNobody:
    def test_training_without_any_accuracy(self, make_job, none: Path, tmp_path: Path) -> None:
        result = make_job(client_num=3, train_dataset=none).run()
        assert [(row.evaluated, row.measured) for row in result.history] == [(0, "all")] * 2
        assert all(math.isnan(value) for row in result.history for value in (row.avg, row.top5, row.low5))
        assert "accuracy of no client: none has test data" in result.summary()
        assert "nan" not in result.summary()
        assert (tmp_path / "run" / "accuracy.png").exists()
        assert len(History.load(tmp_path / "run" / "history.jsonl")) == 2

    def test_inference(self, make_job, none: Path) -> None:
        job = make_job(client_num=3, train_dataset=none)
        job.run()
        assert all(labels.size == 0 and labels.dtype == np.int_ for labels in job.infer().values())

    def test_drawn(self, make_job, none: Path) -> None:
        result = make_job(client_num=5, clients_per_iteration=2, train_dataset=none).run()
        assert [row.evaluated for row in result.history] == [0, 0]


def test_a_test_part_smaller_than_a_batch_is_evaluated(make_job, writers: Path) -> None:
    result = make_job(client_num=2, iterations=1).run()
    for user in list(open_dataset(writers))[:2]:
        share = result.history[0].accuracies[user.name] * user.test.size
        assert share == pytest.approx(round(share)), "a share of the true samples"
