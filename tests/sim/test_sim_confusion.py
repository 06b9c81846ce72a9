"""Accuracy per class, confusion matrix and result card, against predictions counted one by one."""

from __future__ import annotations

import csv
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from mindfl._version import __version__
from mindfl.algorithms import Algorithm
from mindfl.client import Traffic
from mindfl.data import fingerprint, open_dataset
from mindfl.errors import OptionError
from mindfl.lite import LiteModel, Session
from mindfl.sim import FederatedJob, History, IterationRow, Result
from mindfl.sim.confusion import MOST_CLASSES, Confusion, Confusions, count_cells
from mindfl.sim.evaluation import Evaluated, Measured, cells_of
from mindfl.sim.metrics import METRICS
from mindfl.sim.run_state import RunState

SAMPLED = {"client_num": 5, "clients_per_iteration": 2, "iterations": 3, "evaluate_every": 1}


def predictions(job: FederatedJob, users: Any) -> list[tuple[int, int]]:
    """Return class and predicted class of each test sample, with the model that training left."""
    session = Session(LiteModel.load(job.trained_model_path))
    pairs: list[tuple[int, int]] = []
    for user in users:
        scores = session.predict(user.test.images()).tolist()
        best = [max(range(len(row)), key=row.__getitem__) for row in scores]
        pairs += zip(user.test.labels[: user.test.size].tolist(), best, strict=True)
    return pairs


def check(confusion: Confusion, pairs: list[tuple[int, int]]) -> None:
    for label, name in enumerate(confusion.class_names):
        of_class = [predicted for true, predicted in pairs if true == label]
        for column in range(len(confusion.class_names)):
            assert confusion.matrix[label, column] == of_class.count(column)
        expected = of_class.count(label) / len(of_class) if of_class else math.nan
        assert confusion.per_class[name] == pytest.approx(expected, nan_ok=True)
    assert confusion.matrix.sum() == len(pairs)


def matrices(result: Result) -> list[Any]:
    return [(each.iteration, each.matrix.tolist()) for each in (result.confusion, result.best_confusion)]


class TestOfARun:
    def test_all_clients(self, make_job, tmp_path: Path) -> None:
        job = make_job(**SAMPLED, per_class=True)
        result = job.run()
        users = list(job.prepare_data())
        pairs = predictions(job, users)
        last = result.history[-1]
        check(result.confusion, pairs)
        assert last.weighted_avg == sum(true == found for true, found in pairs) / len(pairs)
        assert last.test_samples == len(pairs) == sum(user.test.size for user in users)
        assert dict(last.per_class) == pytest.approx(dict(result.per_class), nan_ok=True)
        assert any(map(math.isnan, result.per_class.values())), "62 classes, some without a test sample"
        self.check_files(job, result)

    def check_files(self, job: FederatedJob, result: Result) -> None:
        folder = job.config.work_dir
        with (folder / "confusion.csv").open(newline="") as file:
            head, *lines = csv.reader(file)
        assert head == ["class", *result.confusion.class_names] == ["class", *(line[0] for line in lines)]
        assert [[int(count) for count in line[1:]] for line in lines] == result.confusion.matrix.tolist()
        with Image.open(folder / "confusion.png") as picture:
            assert picture.format == "PNG"
        again = History.load(folder / "history.jsonl")
        for row, read in zip(result.history, again, strict=True):
            assert dict(read.per_class) == pytest.approx(dict(row.per_class), nan_ok=True)
        assert "null" in (folder / "history.jsonl").read_text(), "a class without samples has no accuracy"

    def test_drawn_and_central(self, make_job, tmp_path: Path) -> None:
        users = {user.name: user for user in make_job().prepare_data()}
        for whose in ("drawn", "central"):
            job = make_job(**SAMPLED, evaluate=whose, work_dir=tmp_path / whose)
            result = job.run()
            names = result.history[-1].accuracies if whose == "drawn" else users
            check(result.confusion, predictions(job, [users[name] for name in names]))
            assert not result.history[-1].per_class, "it was not asked for"
            assert not (job.config.work_dir / "confusion.png").exists()

    def test_the_best_one_and_a_resumed_run(self, make_job) -> None:
        settings = {"client_num": 3, "iterations": 3, "learning_rate": 0.03}
        whole = make_job(**settings).run()
        best = whole.history.best
        assert best.avg == max(row.avg for row in whole.history)
        assert whole.best_confusion.iteration == best.iteration
        assert np.diagonal(whole.best_confusion.matrix).sum() / best.test_samples == best.weighted_avg
        begun = make_job(**{**settings, "iterations": 2})
        begun.run()
        history = begun.config.work_dir / "history.jsonl"
        lines = [json.loads(line) for line in history.read_text().splitlines()]
        for name in ("test_samples", "weighted_avg"):  # as an earlier mindfl wrote it
            del lines[0][name]
        history.write_text("".join(json.dumps(line) + "\n" for line in lines))
        resumed = make_job(**settings, resume=True, overwrite=False, workers=1).run()
        assert matrices(resumed) == matrices(whole)
        assert [row.test_samples for row in resumed.history] == [0, *(row.test_samples for row in whole.history[1:])]
        again = make_job(**settings, resume=True, overwrite=False)
        assert matrices(again.run()) == matrices(whole), "nothing was left to do"
        assert json.loads((again.config.work_dir / "result.json").read_text())["best"]["per_class"]

    def test_models_of_the_clients_own(self, make_job) -> None:
        class Silent(Algorithm):
            """Every client predicts with zeros, so always the first class."""

            def personal(self, client: Any) -> Any:
                return {name: np.zeros_like(values) for name, values in client.received.items()}

        result = make_job(**SAMPLED, algorithm=Silent()).run()
        assert result.confusion.matrix[:, 1:].sum() == 0
        assert result.confusion.matrix[:, 0].sum() == result.history[-1].test_samples


class TestCard:
    def test_what_it_says(self, make_job, writers: Path) -> None:
        job = make_job(**SAMPLED, algorithm="fedprox:mu=0.5")
        result = job.run()
        card = result.card
        assert json.loads((job.config.work_dir / "result.json").read_text()) == card
        json.dumps(card, allow_nan=False)
        assert card["algorithm"] == {"name": "FedProx", "settings": {"mu": 0.5}}
        assert card["data"] == fingerprint(open_dataset(writers)).as_dict()
        assert (card["mindfl"], card["weights_sha256"], card["clients"]) == (__version__, result.hash, 5)
        assert (card["settings"]["clients_per_iteration"], card["settings"]["learning_rate"]) == (2, 0.01)
        assert (card["settings"]["momentum"], card["settings"]["weight_decay"]) == (0.9, 0.0)
        assert card["accuracy_of"] == "all 5 clients" and card["evaluated_after"] == "every iteration"
        last, best = result.history[-1], result.history.best
        for part, row in ((card["last"], last), (card["best"], best)):
            for name in ("iteration", "avg", "top5", "low5", "weighted_avg", "test_samples", "evaluated", "measured"):
                assert part[name] == getattr(row, name)
        assert card["last"]["per_class"] == {
            name: None if math.isnan(share) else share for name, share in result.per_class.items()
        }
        assert card["seconds"] == pytest.approx(sum(row.seconds for row in result.history), abs=1e-3)

    def test_without_evaluation(self) -> None:
        result = Result("a job", 3, History(), {"w": np.zeros(1, np.float32)})
        assert result.card["last"] is None and result.card["best"] is None
        assert not result.per_class


class TestConfusions:
    names = ("a", "b", "c")

    def evaluated(self, *pairs: tuple[int, int]) -> Evaluated:
        labels, predicted = np.array(pairs, np.int32).reshape(-1, 2).T
        right = float(np.mean(labels == predicted))
        return Evaluated.of_clients("all", [Measured("x", right, cells_of(labels, predicted))])

    def test_the_first_of_equally_good_ones_is_the_best(self) -> None:
        kept = Confusions(self.names)
        for iteration, pairs in enumerate([[(0, 1)], [(0, 0)], [(1, 1)], [(2, 1)]], 1):
            assert not kept.note(iteration, self.evaluated(*pairs))
        assert (kept.best.iteration, kept.last.iteration) == (2, 4)

    def test_of_a_perplexity_the_lowest_is_the_best_after_a_resume_too(self) -> None:
        def perplexity(value: float) -> Evaluated:
            return replace(self.evaluated((0, 0)), accuracies={"x": value}, metric=METRICS["perplexity"])

        kept = Confusions(self.names)
        for iteration, value in enumerate((9.0, 4.0, 6.0), 1):
            kept.note(iteration, perplexity(value))
        assert kept.best is not None and kept.best.iteration == 2
        again = Confusions(self.names)
        rows = [replace(_row(value), metric="perplexity") for value in (9.0, 4.0, 6.0)]
        again.restore(RunState(3, {}, kept.values, kept.arrays), rows)
        for iteration, value in ((4, 5.0), (5, 3.0)):
            again.note(iteration, perplexity(value))
            assert again.best is not None and again.best.iteration == (2 if iteration == 4 else 5)

    def test_iterations_that_were_not_evaluated_change_nothing(self) -> None:
        kept = Confusions(self.names)
        kept.note(1, self.evaluated((0, 0)))
        kept.note(2, Evaluated())
        kept.note(3, Evaluated(measured="all", accuracies={"x": 1.0}, samples=4, correct=4))
        assert kept.last.iteration == kept.best.iteration == 1

    def test_a_state_without_matrices(self) -> None:
        """As an earlier mindfl left it; a worse model than the best before is not taken for the best."""
        kept = Confusions(self.names)
        rows = [_row(0.75)]
        kept.restore(RunState(1, {}), rows)
        kept.note(2, self.evaluated((0, 0), (1, 0)))
        assert kept.best is None and kept.last.iteration == 2

    def test_a_network_with_more_classes_than_the_data(self) -> None:
        kept = Confusions(self.names)
        kept.note(1, self.evaluated((0, 4)))
        assert kept.last.class_names == ("a", "b", "c", "3", "4")
        assert kept.last.matrix[0, 4] == kept.last.matrix.sum() == 1

    def test_no_matrix_of_very_many_classes(self) -> None:
        kept = Confusions([str(number) for number in range(MOST_CLASSES + 1)])
        assert not kept.note(1, self.evaluated((0, 0))) and kept.last is None

    @given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3))))
    def test_counts(self, pairs: list[tuple[int, int]]) -> None:
        labels, predicted = np.array(pairs, np.int32).reshape(-1, 2).T
        matrix = count_cells(cells_of(labels, predicted), 4)
        assert all(matrix[pair] == pairs.count(pair) for pair in np.ndindex(4, 4))

    @pytest.mark.parametrize("classes", [2, 20])
    def test_pictures(self, tmp_path: Path, classes: int) -> None:
        names = tuple(["猫", "a class with a $long$ name"][number % 2] + f"{number}" for number in range(classes))
        Confusion(1, np.eye(classes, dtype=np.int64), names).plot(tmp_path / "c.svg", title="many words " * 20)
        with pytest.raises(OptionError, match=r"the suffix \.txt of"):
            Confusion(1, np.eye(classes, dtype=np.int64), names).plot(tmp_path / "c.txt")


def _row(avg: float) -> Any:
    shared = {"loss": 0.5, "clients": 1, "samples": 1, "steps": 1, "traffic": Traffic(), "seconds": 1.0}
    return replace(IterationRow.ended(1, Evaluated(measured="all"), **shared), avg=avg)
