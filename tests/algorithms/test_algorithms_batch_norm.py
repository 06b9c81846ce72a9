"""BatchNorm under federated learning: its running statistics are averaged, stay on the device, or never leave it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import oracle
import pytest
from oracle import B1, B2, W1, W2, Correct, Data, Floats, Model, Plan, Server
from small_job import BATCH, SIZES, cohorts, distance, server

from mindfl.algorithms.algorithm import Client
from mindfl.algorithms.local_optimizer import LocalOptimizer
from mindfl.algorithms.naming import make_algorithm
from mindfl.algorithms.server_algorithm import ServerAlgorithm
from mindfl.client.local_model import LocalModel
from mindfl.data import Dataset
from mindfl.errors import OptionError
from mindfl.lite import LiteModel
from mindfl.sim import FederatedJob
from mindfl.sim.engines import LiteEngine

NETWORK = f"{Path(__file__).parent}/norm_net.py:NormNet"
GAMMA, BETA, MEAN, VARIANCE = (f"norm.{part}" for part in ("gamma", "beta", "moving_mean", "moving_variance"))
NORM = (GAMMA, BETA, MEAN, VARIANCE)
EPSILON, MOMENTUM = 1e-5, 0.1


def gradient_and_statistics(w: Model, x: Floats, y: Any) -> tuple[Model, Model]:
    """Gradients of what is trained, and the running statistics after the step."""
    count, rows = len(y), np.arange(len(y))
    z = x @ w[W1].T + w[B1]
    mean, variance = z.mean(0), z.var(0)
    root = np.sqrt(variance + EPSILON)
    normal = (z - mean) / root
    pre = normal * w[GAMMA] + w[BETA]
    hidden = np.maximum(pre, 0)
    logits = hidden @ w[W2].T + w[B2]
    p = np.exp(logits - logits.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    p[rows, y] -= 1
    p /= count
    back = (p @ w[W2]) * (pre > 0)
    dnormal = back * w[GAMMA]
    dz = (dnormal - dnormal.mean(0) - normal * (dnormal * normal).mean(0)) / root
    gradients = {W1: dz.T @ x, B1: dz.sum(0), W2: p.T @ hidden, B2: p.sum(0)}
    gradients |= {GAMMA: (back * normal).sum(0), BETA: back.sum(0)}
    now = {MEAN: mean, VARIANCE: variance * count / (count - 1)}
    return gradients, {n: (1 - MOMENTUM) * w[n] + MOMENTUM * now[n] for n in now}


def train(start: Model, data: Data, plan: Plan, correct: Correct = lambda g, w: g) -> Model:
    w = {n: v.copy() for n, v in start.items()}
    velocity = {n: np.zeros_like(v) for n, v in w.items()}
    for batch in plan.batches(data):
        g, statistics = gradient_and_statistics(w, data.x[batch], data.y[batch])
        g = correct({**g, MEAN: w[MEAN] * 0, VARIANCE: w[MEAN] * 0}, w)
        for n in set(w) - {MEAN, VARIANCE}:
            velocity[n] = plan.momentum * velocity[n] + g[n]
            w[n] = w[n] - plan.rate * velocity[n]
        w |= statistics
    return w


def fedbn(s: Server, cohort: Sequence[int]) -> None:
    """A client's BatchNorm, with its statistics, is its own; empty: it has none yet."""
    trained = {}
    for i in cohort:
        trained[i] = train({**s.x, **s.own[i]}, s.clients[i], s.plan)
        s.own[i] = {n: trained[i][n] for n in NORM}
    d = s.mean_update(trained)
    s.x = {n: s.x[n] if n in NORM else s.x[n] + d[n] for n in s.x}


def averaged(round: Callable[..., Any]) -> Callable[..., Any]:
    """A round of an algorithm of weights; statistics become their weighted mean."""

    def whole(s: Server, cohort: Sequence[int], **settings: float) -> None:
        d, x = s.mean_update(s.trained(cohort)), s.x
        round(s, cohort, **settings)
        s.x |= {n: x[n] + d[n] for n in (MEAN, VARIANCE)}

    return whole


def accuracy(w: Model, data: Data) -> float:
    normal = (data.x @ w[W1].T + w[B1] - w[MEAN]) / np.sqrt(w[VARIANCE] + EPSILON)
    logits = np.maximum(normal * w[GAMMA] + w[BETA], 0) @ w[W2].T + w[B2]
    return float((logits.argmax(1) == data.y).mean())


@pytest.fixture(scope="module")
def norm_model(tmp_path_factory: pytest.TempPathFactory, converter_library: Path, people: Dataset) -> Path:
    folder = tmp_path_factory.mktemp("norm")
    plan = {"train_dataset": people, "client_num": len(SIZES), "iterations": 1, "epochs": 1}
    FederatedJob(work_dir=folder, model=NETWORK, batch_size=BATCH, **plan).run()
    return next((folder / "ms").glob("*_train.ms"))


#: algorithm -> its round
ROUNDS: dict[str, Callable[..., Any]] = {
    "fedavg": oracle.fedavg,
    "fedbn": fedbn,
    "fedadam:eta=0.02": averaged(lambda s, cohort: oracle.fedadam(s, cohort, eta=0.02)),
    "fedprox:mu=0.5": lambda s, cohort: oracle.fedprox(s, cohort, mu=0.5),
}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if ":" in name else name for name in ROUNDS]
)
def test_a_network_with_batchnorm_is_that_of_numpy(
    name: str, norm_model: Path, run_small: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(oracle, "train", train)
    first = LiteModel.load(norm_model)
    _, result = run_small(origin_train_model_path=norm_model, algorithm=name, learning_rate=0.05)
    expected = server(first, 0.9, 0.05)
    began = expected.x
    expected.own = {i: {} for i in expected.clients}
    for cohort in cohorts(5):
        ROUNDS[name](expected, cohort)
    assert distance(result.weights, expected.x) < 1e-5
    assert distance(began, expected.x) > 1e-2
    own = {i: expected.own[i] if name == "fedbn" else {} for i in expected.clients}
    found = np.mean([accuracy({**expected.x, **own[i]}, data) for i, data in expected.clients.items()])
    assert result.history[-1].avg == pytest.approx(found, abs=1e-6)
    stays = all(np.array_equal(result.weights[n], first.weights[n].reshape(-1)) for n in NORM)
    assert stays == (name == "fedbn")
    assert set(NORM) <= result.mindspore_weights().keys()


def test_any_number_of_workers_gives_the_same_bits(norm_model: Path, run_small: Callable[..., Any]) -> None:
    one, two = (
        run_small(str(n), origin_train_model_path=norm_model, algorithm="fedbn", iterations=3, workers=n)[1]
        for n in (1, 2)
    )
    assert one.history[-1].avg == two.history[-1].avg
    assert all(np.array_equal(one.weights[n], two.weights[n]) for n in one.weights)


def test_statistics_that_the_servers_model_lacks_stay_with_each_client(norm_model: Path, people: Dataset) -> None:
    """As with MindSpore Federated's own server, whose clients upload what they train."""
    model = LiteModel.load(norm_model)
    engine = LiteEngine(model)
    first, second = (engine.trainer(people.user(i), threading.Event()) for i in range(2))
    sent = {name: model.weights[name] for name in model.parameters}

    def round(trainer: Any) -> dict[str, Any]:
        trainer.load(sent)
        before = {name: engine.session().get_weights()[name] for name in model.statistics}
        trainer.train(1, 0.1, lambda epoch, losses: None)
        assert trainer.weights().keys() == sent.keys()
        return before

    assert [set(round(first)), set(round(second))] == [{MEAN, VARIANCE}] * 2
    again, other = round(first), round(second)
    assert all((again[name] != model.weights[name]).all() for name in again)
    assert all((again[name] != other[name]).all() for name in again)


def test_statistics_that_stay_are_in_evaluations_and_no_run_without_them_is_resumed(
    norm_model: Path, people: Dataset, run_small: Callable[..., Any]
) -> None:
    trained = ",".join(sorted(set(LiteModel.load(norm_model).parameters)))
    settings = {"origin_train_model_path": norm_model, "train_weight_name": trained, "learning_rate": 1e-6}
    every = {"iterations": 3, "clients_per_iteration": 2, "evaluate": "all", "metric": "loss", "sampler": None}
    _, result = run_small(**settings, **every)
    model, fresh = LiteModel.load(norm_model), []
    engine = LiteEngine(model, metric="loss")
    for user in people:
        trainer = engine.trainer(user, threading.Event())
        trainer.load({name: model.weights[name] for name in model.parameters})
        fresh.append(trainer.evaluate())
    last = result.history[-1]
    losses = dict(zip([user.name for user in people], fresh, strict=True))
    moved = {name for name, value in last.accuracies.items() if abs(value - losses[name]) > 1e-4}
    assert len(moved) > 2, "also clients that rest in the last iteration have the statistics of their trainings"
    with pytest.raises(OptionError, match=r"cannot be resumed: .*norm.moving_mean"):
        run_small(**settings, **every | {"iterations": 4}, resume=True)


class _Files:
    """Model files of a stand-in: keeps what is saved."""

    def __init__(self) -> None:
        self.saved: dict[str, Any] = {}

    def save(self, weights: dict[str, Any]) -> None:
        self.saved = weights


def test_a_devices_file_has_the_statistics_that_stay_with_it(norm_model: Path, people: Dataset) -> None:
    model = LiteModel.load(norm_model)
    trainer = LiteEngine(model).trainer(people.user(0), threading.Event())
    trainer.load({name: model.weights[name] for name in model.parameters})
    trainer.train(1, 0.1, lambda epoch, losses: None)
    files = _Files()
    local = LocalModel.__new__(LocalModel)
    local._files, local._trainer, local.guarded = files, trainer, lambda function: function()
    local.save()
    assert files.saved.keys() == model.weights.keys()
    assert (files.saved[MEAN] != model.weights[MEAN]).all()


@pytest.mark.parametrize("name", ["fedavg", "fedadam", "median"])
def test_a_running_variance_below_0_becomes_0(name: str) -> None:
    """As noise and quantised updates can make it; MindSpore takes its root."""
    model = {"w": np.ones(2, np.float32), VARIANCE: np.float32([1, 0.25])}
    average = {"w": np.float32([-1, 2]), VARIANCE: np.float32([-0.5, 2])}
    algorithm = ServerAlgorithm(make_algorithm(name))
    uploads = [(client, 3, average) for client in ("ann", "ben", "cleo")]
    made, _ = algorithm.next(1, model, average, algorithm.first_state(model), 3, uploads)
    assert made[VARIANCE].tolist() == [0, 2]
    assert made["w"][0] < 1


def test_both_engines_evaluate_alike_where_noise_makes_variances_negative(
    norm_model: Path, run_small: Callable[..., Any]
) -> None:
    noisy = {"encrypt_type": "DP_ENCRYPT", "dp_eps": 1.0, "dp_norm_clip": 3.0, "iterations": 3}
    network = {"origin_train_model_path": None, "model": NETWORK, "batch_size": BATCH}
    lite, other = (run_small(engine, engine=engine, **network, **noisy)[1] for engine in ("lite", "mindspore"))
    assert lite.weights[VARIANCE].min() == 0
    assert distance(other.weights, lite.weights) < 1e-5
    assert [row.accuracies for row in other.history] == [row.accuracies for row in lite.history]


@pytest.mark.parametrize("name", ["qfedavg", "fedexp"])
def test_norms_of_updates_do_not_count_statistics(name: str) -> None:
    """What a client uploads is the same however far its statistics moved."""
    received = {"w": np.ones(3, np.float32), "norm.moving_mean": np.zeros(2, np.float32)}

    def extras(mean: float) -> dict[str, Any]:
        trained = {"w": np.full(3, 0.5, np.float32), "norm.moving_mean": np.full(2, mean, np.float32)}
        plan = {"learning_rate": 0.1, "batch_size": 2, "epochs": 1, "samples": 4, "population": 1, "memory": {}}
        client = Client(
            name="u", iteration=1, received=received, extras={}, optimizer=LocalOptimizer(name="sgd"), **plan
        )
        client = replace(client, initial_loss=2.0)
        uploaded = make_algorithm(name).end(replace(client, trained=trained))
        return {key: value for key, value in uploaded.extras.items() if "moving" not in key}

    near, far = extras(0.0), extras(100.0)
    assert all(np.array_equal(near[key], far[key]) for key in near)
