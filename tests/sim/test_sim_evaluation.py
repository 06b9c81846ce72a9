"""Whose accuracies a row holds, and which iterations have any."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mindfl.client.flow import evaluation_due
from mindfl.data import open_dataset
from mindfl.errors import ClientError, NotAggregatedError
from mindfl.lite import LiteModel, Session
from mindfl.sim import History, Result
from mindfl.sim.evaluation import ClientAccuracies, affordable_every
from mindfl.sim.history import IterationRow, measured_clients, measured_iterations

SAMPLED = {"client_num": 5, "clients_per_iteration": 2, "iterations": 3}


def accuracies(result: Result) -> list[dict[str, float]]:
    return [dict(row.accuracies) for row in result.history]


def evaluated_by_hand(job: Any, result: Result) -> dict[str, float]:
    """Return each user's accuracy with the trained model."""
    session = Session(LiteModel.load(job.trained_model_path))
    return {
        user.name: float(np.mean(session.predict(user.test.images()).argmax(1) == user.test.labels[: user.test.size]))
        for user in job.prepare_data()
    }


class TestDrawnClients:
    def test_all_clients_are_evaluated(self, make_job) -> None:
        job = make_job(**SAMPLED)
        result = job.run()
        assert [(row.clients, row.evaluated, row.measured) for row in result.history] == [(2, 5, "all")] * 3
        last = result.history[-1]
        assert dict(last.accuracies) == pytest.approx(evaluated_by_hand(job, result))
        assert last.avg == pytest.approx(np.mean(list(last.accuracies.values())))
        assert "accuracy of all 5 clients, after every iteration" in result.summary()

    @pytest.mark.parametrize(
        "settings",
        [{"workers": 1}, {"workers": 5}, {"transport": "http"}, {"per_client_models": False}],
        ids=lambda settings: "-".join(settings),
    )
    def test_however_it_runs(self, make_job, settings: dict[str, Any]) -> None:
        one, other = make_job(**SAMPLED).run(), make_job(**SAMPLED, **settings).run()
        assert accuracies(one) == accuracies(other)
        assert one.hash == other.hash

    def test_evaluation_changes_neither_weights_nor_traffic_nor_logs(self, make_job, tmp_path: Path) -> None:
        runs = {}
        for whose in ("all", "drawn"):
            job = make_job(**SAMPLED, evaluate=whose, work_dir=tmp_path / whose)
            result = job.run()
            lines = [
                [line for line in job.config.client_log(index).read_text().splitlines() if "evaluate acc:" in line]
                for index in range(5)
                if job.config.client_log(index).exists()
            ]
            runs[whose] = (result.hash, [(row.bytes_up, row.bytes_down) for row in result.history], lines)
        assert runs["all"] == runs["drawn"]

    def test_only_the_drawn_ones_where_that_is_asked_for(self, make_job) -> None:
        result = make_job(**SAMPLED, evaluate="drawn").run()
        assert [(row.evaluated, row.measured) for row in result.history] == [(2, "drawn")] * 3
        assert "accuracy of the 2 drawn clients, after every iteration" in result.summary()
        drawn = make_job(**SAMPLED).run()
        for row, whole in zip(result.history, drawn.history, strict=True):
            assert row.accuracies.items() <= whole.accuracies.items()

    def test_quantised_models_are_evaluated_as_they_are_given(self, make_job) -> None:
        quantised = {"download_compress_type": "QUANT"}
        some, everybody = make_job(**SAMPLED, **quantised).run(), make_job(client_num=5, **quantised).run()
        assert [row.evaluated for row in some.history] == [5] * 3
        assert {row.measured for row in everybody.history} == {"all"}

    def test_chosen_weights(self, make_job) -> None:
        result = make_job(**SAMPLED, train_weight_name="fc3.weight,fc3.bias").run()
        assert [row.evaluated for row in result.history] == [5] * 3

    def test_a_client_whose_test_data_vanish_is_named(self, make_job, own_bins: Path) -> None:
        class Cutting:
            """Cuts the test images of a client that is not drawn in the first iteration."""

            def stage(self, text: str) -> None: ...
            def warning(self, text: str) -> None: ...
            def row(self, row: Any) -> None: ...
            def progress(self, progress: Any) -> None:
                for path in own_bins.glob("*/*_test_data.bin"):
                    path.write_bytes(path.read_bytes()[:-12288])

        with pytest.raises(ClientError, match=r"client synthetic_000\d failed in iteration 1: .*_test_data"):
            make_job(**SAMPLED, train_dataset=own_bins, reporter=Cutting()).run()


class TestEveryFewIterations:
    def test_the_others_hold_no_accuracy(self, make_job) -> None:
        job = make_job(client_num=3, iterations=5, evaluate_every=2)
        result = job.run()
        assert [row.evaluated for row in result.history] == [0, 3, 0, 3, 3]
        assert [row.measured for row in result.history] == ["", "all", "", "all", "all"]
        assert [math.isnan(row.avg) for row in result.history] == [True, False, True, False, False]
        assert "accuracy of all 3 clients, after every 2 iterations and the last" in result.summary()
        assert "(after iteration 2: AVG" in result.summary()
        lines = [json.loads(line) for line in (job.config.work_dir / "history.jsonl").read_text().splitlines()]
        assert [line["avg"] is None for line in lines] == [True, False, True, False, False]
        assert lines[0]["accuracies"] == {} and lines[0]["evaluated"] == 0
        assert [row.measured for row in History.load(job.config.work_dir / "history.jsonl")][:2] == ["", "all"]

    def test_the_values_are_those_of_a_run_that_evaluates_always(self, make_job) -> None:
        seldom = make_job(iterations=3, evaluate_every=2).run()
        always = make_job(iterations=3).run()
        assert accuracies(seldom)[1:] == accuracies(always)[1:]
        assert seldom.hash == always.hash

    def test_devices_evaluate_only_then(self, make_job) -> None:
        job = make_job(client_num=1, iterations=5, evaluate_every=2)
        job.run()
        assert job.config.client_log(0).read_text().count("evaluate acc:") == 3

    def test_the_last_one_at_least(self, make_job) -> None:
        result = make_job(iterations=2, evaluate_every=100).run()
        assert [row.evaluated for row in result.history] == [0, 3]
        assert "accuracy of all 3 clients, after iteration 2" in result.summary()

    @given(every=st.integers(1, 40), last=st.integers(1, 40), more=st.integers(0, 40))
    def test_a_longer_run_evaluates_the_same_iterations(self, every: int, last: int, more: int) -> None:
        shorter = [evaluation_due(number, every, last) for number in range(1, last + 1)]
        longer = [evaluation_due(number, every, last + more) for number in range(1, last + 1)]
        assert shorter[:-1] == longer[:-1]
        assert shorter[-1]


class TestWhatItCosts:
    def test_evaluation_costs_no_more_than_training(self) -> None:
        sizes = [(320, 32)] * 1000
        # 10 x 10 steps x 3 an iteration against 1000 forwards
        assert affordable_every(sizes, batch_size=32, epochs=1, cohort=10) == 4
        assert affordable_every(sizes, batch_size=32, epochs=4, cohort=10) == 1
        assert affordable_every(sizes, batch_size=32, epochs=1, cohort=1) == 34

    def test_batches_are_whole(self) -> None:
        assert affordable_every([(33, 1)] * 10, batch_size=32, epochs=1, cohort=1) == 2
        assert affordable_every([(32, 1)] * 10, batch_size=32, epochs=1, cohort=1) == 4

    def test_free_where_all_take_part(self) -> None:
        assert affordable_every([(1, 10_000)] * 5, batch_size=32, epochs=1, cohort=5) == 1

    def test_clients_without_test_data_cost_nothing(self) -> None:
        assert affordable_every([(1, 0)] * 50, batch_size=32, epochs=1, cohort=1) == 1

    def test_a_run_keeps_to_it(self, make_job) -> None:
        """Five clients of up to 12 test samples against one that trains some 10 batches."""
        job = make_job(client_num=5, clients_per_iteration=1, iterations=3, batch_size=32)
        samples = [(user.train.size, user.test.size) for user in open_dataset(job.config.train_dataset)]
        every = affordable_every(samples, batch_size=32, epochs=1, cohort=1)
        expected = [5 if evaluation_due(number, every, 3) else 0 for number in (1, 2, 3)]
        assert [row.evaluated for row in job.run().history] == expected


def row(iteration: int, measured: str = "", count: int = 0) -> IterationRow:
    found = ClientAccuracies.of((f"f{index}", 0.5) for index in range(count))
    return IterationRow(
        **dict.fromkeys(("loss", "clients", "samples", "bytes_down", "bytes_up", "steps", "steps_per_s", "seconds"), 1),
        **dict.fromkeys(("avg", "top5", "low5"), 0.5 if count else math.nan),
        iteration=iteration,
        evaluated=count,
        measured=measured,
        accuracies=found,
    )


@pytest.mark.parametrize(
    ("rows", "whom", "when"),
    [
        ([], "no client", "every iteration"),
        ([row(1, "all", 50), row(2, "all", 50)], "all 50 clients", "every iteration"),
        ([row(1, "drawn", 5)], "the 5 drawn clients", "every iteration"),
        ([row(1, "drawn", 4), row(2, "drawn", 5)], "the 4 to 5 drawn clients", "every iteration"),
        ([row(1, "drawn", 5), row(2, "all", 9)], "5 to 9 clients, all or the drawn ones", "every iteration"),
        ([row(1), row(2, "all", 1), row(3)], "all 1 client", "iteration 2"),
        ([row(1), row(2, "all", 3), row(3), row(4, "all", 3)], "all 3 clients", "every 2 iterations"),
        ([row(1), row(2, "all", 3), row(3, "all", 3)], "all 3 clients", "every 2 iterations and the last"),
        ([row(1, "all", 3), row(2), row(3, "all", 3)], "all 3 clients", "2 of 3 iterations"),
        ([row(1, "all"), row(2, "all")], "no client: none has test data", "no iteration"),
    ],
)
def test_words(rows: list[IterationRow], whom: str, when: str) -> None:
    history = History(rows)
    assert (measured_clients(history), measured_iterations(history)) == (whom, when)


def test_words_where_some_have_no_test_data() -> None:
    assert measured_clients(History([row(1, "all", 46)]), untested=4) == "all 46 clients that have test data"


def test_curves_are_connected_and_skip_what_was_not_evaluated(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from matplotlib.figure import Figure

    from mindfl.sim.plot import plot_history

    drawn: list[Any] = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *_args, **_keywords: drawn.append(figure))
    rows = [row(1), row(2, "all", 5), row(3), row(4, "all", 5), row(5)]
    plot_history(History(rows), tmp_path / "curve.png", title="a job")
    (axes,) = drawn[0].axes
    assert [line.get_xdata().tolist() for line in axes.lines] == [[2, 4]] * 3
    low, high = axes.get_xlim()
    assert low < 1 and high > 5
    assert "accuracy of all 5 clients, after every 2 iterations" in axes.get_title()


class TestFailedIterations:
    def result(self, *aggregated: bool) -> Result:
        rows = [replace(row(number, "all", 3), aggregated=each) for number, each in enumerate(aggregated, 1)]
        return Result("a job", len(rows), History(rows), {"w": np.zeros(1, np.float32)})

    def test_some(self) -> None:
        result = self.result(True, False, True)
        result.check()
        assert "2 of 3 iterations were aggregated; the others failed at the server" in result.summary()

    def test_all(self) -> None:
        result = self.result(False, False)
        with pytest.raises(NotAggregatedError, match="none of 2 iterations was aggregated"):
            result.check()
        assert "the model is the one that training began with" in result.summary()

    def test_none(self) -> None:
        result = self.result(True, True)
        result.check()
        assert "aggregated" not in result.summary()

    def test_the_figure_says_so(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        from matplotlib.figure import Figure

        drawn: list[Any] = []
        monkeypatch.setattr(Figure, "savefig", lambda figure, *_args, **_keywords: drawn.append(figure))
        self.result(True, False).plot(tmp_path / "curve.png")
        assert "1 of 2 iterations were aggregated" in drawn[0].axes[0].get_title()
