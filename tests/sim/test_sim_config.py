"""Settings are refused by name, before anything is made."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mindfl.errors import OptionError
from mindfl.sim import FederatedLeNetJob, JobConfig
from mindfl.sim.trainers import threads_of_a_client

WHOLE = ("client_num", "iterations", "epochs", "batch_size", "server_num", "clients_per_iteration", "workers")


@pytest.mark.parametrize("name", [*WHOLE, "seed"])
@pytest.mark.parametrize("value", [-1, 1.5, "3", True, math.inf])
def test_whole_numbers(name: str, value: Any) -> None:
    with pytest.raises(OptionError, match=f"^{name} must be a whole number"):
        JobConfig(**{name: value})


@pytest.mark.parametrize("name", WHOLE)
def test_zero_of_anything(name: str) -> None:
    with pytest.raises(OptionError, match=f"^{name} must be"):
        JobConfig(**{name: 0})


@pytest.mark.parametrize("rate", [0, -0.1, math.nan, math.inf])
def test_learning_rate(rate: Any) -> None:
    with pytest.raises(OptionError, match=r"^learning_rate must be a finite number above 0"):
        JobConfig(learning_rate=rate)


@pytest.mark.parametrize("rate", [1e39, 1e-320, pytest.param(10**400, id="huge")])
def test_learning_rate_that_devices_cannot_hold(rate: float) -> None:
    with pytest.raises(OptionError, match=r"^learning_rate 1.* is beyond 32-bit"):
        JobConfig(learning_rate=rate)


@pytest.mark.parametrize("name", ["device_target", "engine", "data_format"])
@pytest.mark.parametrize("value", ["foo", None])
def test_choices(name: str, value: str | None) -> None:
    with pytest.raises(OptionError, match=f"^{name} must be (one of .*|a text), got {value!r}"):
        JobConfig(**{name: value})


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("a path", {"work_dir": None}),
        ("a path", {"work_dir": b"run"}),
        ("a path or a data set", {"train_dataset": 5}),
        ("a text", {"train_ms_name": 5}),
        ("a text", {"fl_name": None}),
        ("a text", {"input_shape": 32}),
        ("a text", {"train_weight_name": ["fc1.weight"]}),
        ("a finite number above 0", {"learning_rate": "0.1"}),
        ("a finite number above 0", {"learning_rate": True}),
        ("a finite number above 0", {"dp_eps": None}),
        ("a number of at least 0 and at most 0.9", {"exact_corrupt_ratio": "x"}),
        ("a finite number above 0", {"dp_budget": "3"}),
        ("True or False", {"per_client_models": "no"}),
    ],
)
def test_types(kind: str, settings: dict[str, Any]) -> None:
    ((name, value),) = settings.items()
    with pytest.raises(OptionError, match=f"^{name} must be {kind}, got {re.escape(repr(value))}"):
        JobConfig(**settings)


def test_numbers_of_numpy() -> None:
    config = JobConfig(client_num=np.int64(8), seed=np.uint8(3), learning_rate=np.float32(0.5))
    assert (config.client_num, config.seed, config.rate) == (8, 3, 0.5)
    assert [type(value) for value in (config.client_num, config.seed, config.rate)] == [int, int, float]


@pytest.mark.parametrize("name", ["", "a/b", "..", ".hidden", "line\nbreak", "nul\0", "\udcff"])
def test_model_name(name: str) -> None:
    with pytest.raises(OptionError, match=r"^train_ms_name must be a plain file name"):
        JobConfig(train_ms_name=name)


def test_longest_model_name() -> None:
    assert JobConfig(train_ms_name="é" * 100).train_ms_name == "é" * 100
    with pytest.raises(OptionError, match=r"^train_ms_name is longer than 200 bytes: ééé"):
        JobConfig(train_ms_name="é" * 101)


def test_names_that_make_two_models_one_file() -> None:
    with pytest.raises(OptionError, match=r"a10\.ms would be .* client 10 and the second one of client 0"):
        JobConfig(train_ms_name="a", infer_ms_name="a1", client_num=11)
    assert JobConfig(train_ms_name="a", infer_ms_name="a1", client_num=10).writes_client_models
    assert JobConfig(train_ms_name="a", infer_ms_name="a1", infer_model_path=Path("second"), client_num=11)
    assert JobConfig(train_ms_name="a", infer_ms_name="a1", client_num=11, per_client_models=False)


def test_more_clients_per_iteration_than_clients() -> None:
    with pytest.raises(OptionError, match=r"clients_per_iteration is 5, above client_num"):
        JobConfig(client_num=4, clients_per_iteration=5)


def test_home_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/a home")
    assert JobConfig(work_dir="~/run").work_dir == Path("/a home/run")
    with pytest.raises(OptionError, match=r"~no-such-user/x"):
        JobConfig(work_dir="~no-such-user/x")


def test_rate_depends_on_the_optimizer() -> None:
    assert JobConfig().rate == 0.01
    assert JobConfig(optimizer="adam").rate == 0.001
    assert JobConfig(optimizer="adam", learning_rate=0.5).rate == 0.5


def test_huge_numbers_cost_nothing(tmp_path: Path) -> None:
    job = FederatedLeNetJob(work_dir=tmp_path / "none", client_num=10**9, iterations=10**9, seed=10**30)
    assert job.config.cohort == 10**9 and not job.config.writes_client_models
    assert not (tmp_path / "none").exists(), "making a job writes nothing"


@pytest.mark.parametrize(("workers", "clients", "threads"), [(2, 50, 1), (2, 2, 1), (2, 1, 2), (7, 3, 2), (8, 1, 8)])
def test_several_threads_train_a_client_where_workers_are_more_than_clients(
    workers: int, clients: int, threads: int
) -> None:
    config = JobConfig(workers=workers, client_num=clients)
    assert threads_of_a_client(config, clients) == threads
    assert threads_of_a_client(replace(config, client_num=50, clients_per_iteration=clients), 50) == threads
