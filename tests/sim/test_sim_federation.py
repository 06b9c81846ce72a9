"""The federated run: what it computes, and that nothing but the seed decides it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mindfl import History
from mindfl.data import open_dataset
from mindfl.lite import LiteModel, Session


@pytest.fixture(scope="module")
def hashes() -> dict[str, str]:
    return {}


@pytest.mark.parametrize("workers", [1, 2, 3, 7])
def test_workers_do_not_change_the_weights(make_job, hashes: dict[str, str], workers: int) -> None:
    result = make_job(workers=workers, client_num=5).run()
    assert result.hash == hashes.setdefault("compact", result.hash)


def test_bins_and_compact_train_the_same_weights(make_job, hashes: dict[str, str], bin_writers: Path) -> None:
    result = make_job(client_num=5, train_dataset=bin_writers).run()
    assert result.hash == hashes.setdefault("compact", result.hash)


class TestSampledClients:
    def test_same_seed_same_clients(self, make_job) -> None:
        def run(**settings: Any) -> tuple[str, list[list[str]]]:
            job = make_job(client_num=5, clients_per_iteration=2, iterations=4, evaluate="drawn", **settings)
            result, work_dir = job.run(), job.config.work_dir
            drawn = [sorted(row.accuracies) for row in result.history]
            names = [line.split(",")[1] for line in (work_dir / "clients.csv").read_text().splitlines()[1:]]
            written = History.load(work_dir / "history.jsonl")
            assert [sorted(names[number] for number in row.participants) for row in written] == drawn
            return result.hash, drawn

        first = run(seed=1)
        assert run(seed=1, workers=1) == first
        assert run(seed=2) != first
        assert all(len(chosen) == 2 for chosen in first[1])
        assert len({tuple(chosen) for chosen in first[1]}) > 1, "each iteration draws anew"

    def test_fewer_users_than_a_cohort(self, make_job) -> None:
        result = make_job(client_num=50, clients_per_iteration=20, iterations=1).run()
        assert result.history[0].clients == 5


def test_clients_in_the_servers_process_need_no_network() -> None:
    code = "import sys, mindfl.sim; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = done.stdout.split()
    assert "mindfl.sim.executors" in loaded
    assert not {"urllib3", "ssl", "http.client", "mindfl.client.http_transport"} & set(loaded)


def test_first_clients_in_natural_order(make_job, writers: Path) -> None:
    result = make_job(client_num=2, iterations=1).run()
    assert list(result.history[0].accuracies) == ["synthetic_0000", "synthetic_0001"]


def test_one_iteration_is_the_mean_weighted_by_true_samples(make_job, models: Path, writers: Path) -> None:
    result = make_job(iterations=1, epochs=2, learning_rate=0.02).run()

    session = Session(LiteModel.load(models / "lenet_train.ms"))
    start = session.get_weights()
    total = dict.fromkeys(start, 0.0)
    samples, losses = 0, 0.0
    for user in list(open_dataset(writers))[:3]:
        session.reset()
        session.set_weights(start)
        session.set_learning_rate(0.02)
        for _ in range(2):
            loss = float(np.mean(session.train(user.train.images(), user.train.labels[: user.train.size])))
        for name, values in session.get_weights().items():
            total[name] = total[name] + values.reshape(-1).astype(np.float64) * user.train.size
        samples += user.train.size
        losses += loss * user.train.size

    for name, summed in total.items():
        np.testing.assert_allclose(result.weights[name], summed / samples, rtol=1e-6, atol=1e-8)
    assert result.history[0].loss == pytest.approx(losses / samples, rel=1e-6)


def test_learning_rate_is_the_jobs_not_the_files(make_job) -> None:
    assert make_job(iterations=1, learning_rate=0.02).run().hash != make_job(iterations=1).run().hash


def test_optimizer_state_begins_anew_in_each_iteration(make_job, models: Path, writers: Path) -> None:
    """Two iterations of one client are two trainings, each from fresh momentum."""
    result = make_job(client_num=1, iterations=2).run()
    user = open_dataset(writers).user(0)
    session = Session(LiteModel.load(models / "lenet_train.ms"))
    for _ in range(2):
        session.reset_optimizer()
        session.train(user.train.images(), user.train.labels[: user.train.size])
    for name, values in session.get_weights().items():
        np.testing.assert_allclose(result.weights[name], values.reshape(-1), rtol=1e-5, atol=1e-7)


def test_mindspore_computes_the_same(make_job) -> None:
    lite, reference = (make_job(engine=engine, client_num=2, iterations=2).run() for engine in ("lite", "mindspore"))
    for name, values in reference.weights.items():
        np.testing.assert_allclose(lite.weights[name], values, atol=2e-5)
    for ours, theirs in zip(lite.history, reference.history, strict=True):
        assert ours.loss == pytest.approx(theirs.loss, abs=1e-4)
        assert ours.avg == pytest.approx(theirs.avg, abs=0.02)
        assert (ours.steps, ours.bytes_up, ours.samples) == (theirs.steps, theirs.bytes_up, theirs.samples)
