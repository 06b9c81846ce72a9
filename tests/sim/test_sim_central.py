"""Evaluation on a central test set: the data set's own, or the clients' test samples together."""

from __future__ import annotations

import copy
import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mindfl.data import Dataset, open_dataset
from mindfl.errors import DataError, OptionError
from mindfl.lite import LiteModel, Session
from mindfl.sim import FederatedJob, History, Result, job_data
from mindfl.sim.job_data import PairedDataset, central_parts

SAMPLED = {"client_num": 5, "clients_per_iteration": 2, "iterations": 2, "evaluate_every": 1}


def hits(job: FederatedJob, images: NDArray[Any], labels: NDArray[Any]) -> int:
    """Return how many samples the trained model predicts correctly, by scores alone."""
    scores = Session(LiteModel.load(job.trained_model_path)).predict(images)
    best = [max(range(len(row)), key=row.__getitem__) for row in scores.tolist()]
    return sum(int(one == label) for one, label in zip(best, labels.tolist(), strict=True))


def rows(result: Result) -> list[tuple[Any, ...]]:
    return [(row.measured, row.evaluated, row.test_samples, row.avg, row.weighted_avg) for row in result.history]


@pytest.fixture
def with_own_set(writers: Path) -> Dataset:
    """Two writers, and 40 samples of three others that no user has."""
    users = list(open_dataset(writers))
    own = {user.name: (user.train.images(), user.train.labels[: user.train.size]) for user in users[:2]}
    images = np.concatenate([user.test.images() for user in users[2:]])[:40]
    labels = np.concatenate([user.test.labels[: user.test.size] for user in users[2:]])[:40]
    return Dataset.from_arrays(own, classes=62, central_test=(images, labels), name="two and a test set")


class TestOfAllClientsTogether:
    def test_the_accuracy_is_the_share_of_all_their_test_samples(self, make_job) -> None:
        job = make_job(**SAMPLED, evaluate="central")
        result = job.run()
        tests = [user.test for user in job.prepare_data()]
        found = sum(hits(job, test.images(), test.labels[: test.size]) for test in tests)
        samples = sum(test.size for test in tests)
        last = result.history[-1]
        assert last.avg == last.weighted_avg == found / samples
        assert [(row.measured, row.evaluated, row.test_samples) for row in result.history] == [
            ("central", 0, samples)
        ] * 2
        assert math.isnan(last.top5) and math.isnan(last.low5) and not last.accuracies
        assert f"accuracy {last.avg:.4f}  loss" in result.summary()
        assert f"accuracy of the model on the central test set of {samples} samples, after every" in result.summary()
        assert "evaluate acc:" not in job.config.client_log(0).read_text()

    def test_it_is_the_mean_over_all_clients_weighted_by_samples_however_it_runs(self, make_job) -> None:
        central, served = (
            make_job(**SAMPLED, evaluate="central", **settings).run()
            for settings in ({"workers": 1}, {"workers": 5, "transport": "http"})
        )
        everybody = make_job(**SAMPLED, evaluate="all").run()
        assert rows(central) == rows(served)
        assert central.hash == served.hash == everybody.hash
        for one, other in zip(central.history, everybody.history, strict=True):
            assert (one.avg, one.test_samples) == (other.weighted_avg, other.test_samples)
            assert other.avg == pytest.approx(np.mean(list(other.accuracies.values())))

    def test_a_resumed_run_has_the_same_rows(self, make_job) -> None:
        whole = make_job(**SAMPLED, evaluate="central").run()
        make_job(**{**SAMPLED, "iterations": 1}, evaluate="central").run()
        resumed = make_job(**SAMPLED, evaluate="central", resume=True, overwrite=False)
        assert rows(resumed.run()) == rows(whole)
        assert rows(resumed.result)[0] == rows(whole)[0]
        lines = (resumed.config.work_dir / "history.jsonl").read_text().splitlines()
        assert [json.loads(line)["measured"] for line in lines] == ["central"] * 2

    def test_a_test_data_set_that_all_clients_share_counts_once(self, writers: Path) -> None:
        train = open_dataset(writers)
        (part,) = central_parts(PairedDataset(train, only(train, "synthetic_0004")), train.users)
        assert part.test.size == train.user(4).test.size

    def test_users_of_a_test_data_set_that_have_no_client_do_not_count(self, writers: Path) -> None:
        train = open_dataset(writers)
        parts = central_parts(PairedDataset(train, train), train.users[1:3])
        assert [part.name for part in parts] == list(train.users[1:3])


def only(dataset: Dataset, user: str) -> Dataset:
    """Return a data set of one user."""
    one = copy.copy(dataset)
    one._set_users([user])
    return one


class TestOwnSet:
    def test_only_its_samples_count_in_parts_of_any_size(
        self, make_job, with_own_set: Dataset, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(job_data, "_PART", 7)
        assert [part.test.size for part in central_parts(with_own_set, ())] == [7] * 5 + [5]
        monkeypatch.setattr(job_data, "_PART_VALUES", 3 * 32 * 32 * 3 + 5)
        assert [part.test.size for part in central_parts(with_own_set, ())] == [3] * 13 + [1], "large images: fewer"
        job = make_job(train_dataset=with_own_set, client_num=2, evaluate="central")
        result = job.run()
        test = with_own_set.central_test
        assert result.history[-1].avg == hits(job, test.images(), test.labels) / 40
        assert result.history[-1].test_samples == 40

    def test_stored_and_opened(self, with_own_set: Dataset, tmp_path: Path) -> None:
        with_own_set.save(tmp_path / "stored")
        stored = open_dataset(tmp_path / "stored")
        assert np.array_equal(stored.central_test.images(), with_own_set.central_test.images())
        assert np.array_equal(stored.central_test.labels, with_own_set.central_test.labels)
        assert np.array_equal(stored.user(1).train.labels, with_own_set.user(1).train.labels)


class TestOwnWeights:
    def test_the_servers_model_is_evaluated_where_clients_have_their_own_too(self, make_job) -> None:
        job = make_job(client_num=3, evaluate="central", algorithm="ditto")
        last = job.run().history[-1]
        tests = [job.prepare_data().user(index).test for index in range(3)]
        assert last.avg == sum(hits(job, test.images(), test.labels[: test.size]) for test in tests) / last.test_samples

    def test_refused_where_the_server_has_no_whole_model(self, make_job) -> None:
        with pytest.raises(OptionError, match="does not work here: parts of the model stay on"):
            make_job(evaluate="central", algorithm="fedper")


class TestRefused:
    def test_a_misspelt_choice(self, make_job) -> None:
        with pytest.raises(OptionError) as caught:
            make_job(evaluate="centrl")
        assert "evaluate" in str(caught.value) and "central" in f"{caught.value} {caught.value.hint}"

    def test_java_clients(self) -> None:
        with pytest.raises(OptionError, match="evaluate central does not work with Java clients"):
            FederatedJob(clients="java", jar_path="fl.jar", case_jar_path="case.jar", evaluate="central")

    def test_without_test_data(self, make_job, with_own_set: Dataset) -> None:
        untested = {user.name: (user.train.images(), user.train.labels) for user in with_own_set}
        data = Dataset.from_arrays(untested, classes=62, test_share=0)
        job = make_job(train_dataset=data, client_num=2, evaluate="central")
        with pytest.raises(DataError, match="has no central test set, and no client has test data") as caught:
            job.run()
        assert "--test_dataset" in caught.value.hint
        assert not (job.config.work_dir / "history.jsonl").exists()


@pytest.mark.parametrize(
    ("central", "message"),
    [
        (np.zeros((2, 8, 8), np.uint8), "central_test is not (images, labels)"),
        ((np.zeros((2, 8, 8), np.uint8),), "central_test is not (images, labels)"),
        ((np.zeros((0, 8, 8), np.uint8), np.zeros(0, int)), "central_test has no samples"),
        ((np.zeros((2, 8, 8), np.uint8), np.zeros(3, int)), "central_test part has 2 images, but 3 labels"),
        ((np.zeros((2, 8, 8), np.uint8), np.zeros(2)), "central_test labels are float64"),
        ((np.zeros((2, 8, 8), np.float64), np.zeros(2, int)), "central_test images are float64"),
        ((np.zeros((2, 8, 9), np.uint8), np.zeros(2, int)), "central_test images are 8x9 with 1 channel, but those of"),
        (
            (np.zeros((2, 8, 8), np.uint8), np.array([0, 7])),
            "the central test set: label 7 of sample 1 in central_test",
        ),
    ],
)
def test_central_samples_that_cannot_be_used(central: Any, message: str) -> None:
    user = (np.zeros((2, 8, 8), np.uint8), np.array([0, 1]))
    with pytest.raises(DataError, match=re.escape(message)):
        Dataset.from_arrays({"ann": user}, classes=2, central_test=central)


def test_classes_that_only_the_central_set_has_count() -> None:
    images = np.zeros((2, 8, 8), np.uint8)
    data = Dataset.from_arrays({"ann": (images, np.array([0, 1]))}, central_test=(images, np.array([0, 4])))
    assert data.classes == 5


def test_the_fingerprint_covers_it() -> None:
    from mindfl.data import fingerprint

    images, labels = np.zeros((2, 8, 8), np.uint8), np.array([0, 1])
    prints = [
        fingerprint(Dataset.from_arrays({"ann": (images, labels)}, central_test=central))
        for central in (None, (images, labels), (images, labels[::-1]))
    ]
    assert [each.samples for each in prints] == [2, 4, 4]
    assert len({each.sha256 for each in prints}) == 3


@pytest.mark.parametrize("count", [-1, "many", 3])
def test_a_stored_number_that_is_wrong(tmp_path: Path, count: Any) -> None:
    images, labels = np.zeros((2, 8, 8), np.uint8), np.array([0, 1])
    Dataset.from_arrays({"ann": (images, labels)}, central_test=(images, labels)).save(tmp_path / "set")
    index = tmp_path / "set" / "arrays.json"
    index.write_text(index.read_text().replace('"central_test": 2', f'"central_test": {json.dumps(count)}'))
    with pytest.raises(DataError):
        open_dataset(tmp_path / "set")


def test_history_and_figure(make_job, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from matplotlib.figure import Figure

    job = make_job(evaluate="central", iterations=1)
    result = job.run()
    (row,) = History.load(job.config.work_dir / "history.jsonl")
    assert row.measured == "central" and row.avg == row.weighted_avg and math.isnan(row.top5)
    drawn: list[Any] = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *_args, **_keywords: drawn.append(figure))
    result.plot(tmp_path / "curve.png")
    (axes,) = drawn[0].axes
    assert [line.get_label().split()[0] for line in axes.lines] == ["accuracy"]
    assert axes.get_ylabel() == "accuracy on the central test set"


@pytest.mark.parametrize(
    ("central", "epochs", "every"), [(1000, 1, 2), (10_000, 1, 14), (10_000, 20, 1), (0, 1, 1), (33, 1, 1)]
)
def test_it_costs_no_more_than_training(central: int, epochs: int, every: int) -> None:
    from mindfl.sim.evaluation import affordable_every

    # five clients of 80 steps train in a fifth of the 3 x 80 steps' worth
    sizes = [(256, 0)] * 10
    cost: Callable[[int], int] = lambda cohort: affordable_every(  # noqa: E731
        sizes, batch_size=32, epochs=epochs, cohort=cohort, central=central
    )
    assert cost(1) == every
    assert cost(10) <= cost(1)
