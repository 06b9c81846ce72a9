"""Algorithms, upload modes and samplers of a user's own on the nodes of a Ray cluster, which these tests share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from fedexp import FedExP
from geometric_median import GeometricMedian
from test_extending_algorithms import ALGORITHMS
from test_sampler_and_callback import SAMPLED, told

from mindfl.algorithms import APFL, Algorithm
from mindfl.algorithms.naming import describe
from mindfl.sim import FederatedLeNetJob

HERE = Path(__file__).parent
JobFactory = Callable[..., FederatedLeNetJob]


@pytest.mark.parametrize("algorithm", [APFL(), ALGORITHMS["Everything"]], ids=describe)
def test_an_algorithm_gives_the_results_of_a_local_run(
    algorithm: Algorithm, make_job: JobFactory, ray_cluster: str
) -> None:
    spread = make_job("ray", algorithm=algorithm, executor="ray", ray_address=ray_cluster).run()
    local = make_job("local", algorithm=algorithm).run()
    assert spread.hash == local.hash
    assert [row.accuracies for row in spread.history] == [row.accuracies for row in local.history]


def test_a_schedule_of_learning_rates_gives_the_weights_of_a_local_run(make_job: JobFactory, ray_cluster: str) -> None:
    rates = {"algorithm": "scaffold", "lr_schedule": lambda iteration: 0.02 / iteration}
    spread = make_job("ray", **rates, executor="ray", ray_address=ray_cluster).run()
    assert spread.hash == make_job("local", **rates).run().hash
    assert spread.history.column("learning_rate") == [0.02, 0.01]


def test_fedexp_by_the_name_of_its_file(make_job: JobFactory, ray_cluster: str) -> None:
    named = f"{HERE / 'fedexp.py'}:FedExP"
    spread = make_job("ray", algorithm=named, executor="ray", ray_address=ray_cluster).run()
    assert spread.hash == make_job("local", algorithm=FedExP()).run().hash


@pytest.mark.slow
def test_single_uploads_are_those_of_a_local_run(make_job: JobFactory, ray_cluster: str) -> None:
    spread = make_job("ray", algorithm=GeometricMedian(), executor="ray", ray_address=ray_cluster).run()
    assert spread.hash == make_job("local", algorithm=GeometricMedian(), workers=1).run().hash


@pytest.mark.slow
@pytest.mark.parametrize("rule", ["median", "multikrum"])
def test_a_robust_rule_gives_the_weights_of_a_local_run(rule: str, make_job: JobFactory, ray_cluster: str) -> None:
    settings = {"algorithm": rule, "client_num": 5}
    spread = make_job("ray", **settings, executor="ray", ray_address=ray_cluster).run()
    assert spread.hash == make_job("local", **settings).run().hash


def test_an_upload_mode_gives_the_weights_of_a_local_run(make_job: JobFactory, ray_cluster: str) -> None:
    named = {"encrypt_type": f"{HERE}/levels.py:Levels:levels=7"}
    ray = {"executor": "ray", "ray_address": ray_cluster, "per_client_models": False}
    assert make_job("ray", **named, **ray).run().hash == make_job("expected", **named, workers=1).run().hash


def test_a_sampler_draws_as_in_a_local_run(make_job: JobFactory, ray_cluster: str) -> None:
    spread = make_job("ray", executor="ray", ray_address=ray_cluster, **SAMPLED).run()
    assert told(spread) == told(make_job("here", **SAMPLED).run())
