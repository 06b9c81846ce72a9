"""Settings are refused by name, before anything is made."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from mindfl.errors import OptionError
from mindfl.sim import FederatedLeNetJob, JobConfig

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


@pytest.mark.parametrize("rate", [0, -0.1, math.nan, math.inf, "0.1"])
def test_learning_rate(rate: Any) -> None:
    with pytest.raises(OptionError, match=r"^learning_rate must be a finite number above 0"):
        JobConfig(learning_rate=rate)


@pytest.mark.parametrize("name", ["optimizer", "engine", "data_format"])
def test_choices(name: str) -> None:
    with pytest.raises(OptionError, match=f"^{name} must be one of .*, got 'foo'"):
        JobConfig(**{name: "foo"})


@pytest.mark.parametrize("name", ["", "a/b", "..", ".hidden", "line\nbreak", "nul\0", "\udcff"])
def test_model_name(name: str) -> None:
    with pytest.raises(OptionError, match=r"^train_ms_name must be a plain file name"):
        JobConfig(train_ms_name=name)


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
