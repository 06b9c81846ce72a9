"""An error in a user's code names the user's file and line, also where a file of the user's imported another."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mindfl.algorithms.naming import make_algorithm
from mindfl.algorithms.server_algorithm import ServerAlgorithm
from mindfl.data import Dataset
from mindfl.errors import AlgorithmError, DataError, MindflError, OptionError
from mindfl.models import NetworkSizes, model_spec
from mindfl.sim import FederatedJob
from mindfl.user_code import raised

FAILS = "def fail(*arguments):\n    raise ValueError('of mine')\n"
OWN = """
from parts_of_mine import fail
from mindspore import nn
from mindfl.algorithms import Algorithm


class Fails:
    def __init__(self, size=1):
        fail()


class Steps(Algorithm):
    def step(self, round):
        fail()


class Net(nn.Cell):
    def __init__(self, num_class):
        super().__init__()
        self.flatten, self.dense = nn.Flatten(), nn.Dense(16, num_class)

    def construct(self, x):
        return self.dense(self.other(x))
"""
LINE = r"ValueError: of mine, in .*parts_of_mine\.py, line 2"


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    tmp_path.joinpath("parts_of_mine.py").write_text(FAILS, "utf-8")
    tmp_path.joinpath("own.py").write_text(OWN, "utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    yield str(tmp_path / "own.py")


def test_a_constructor(own: str) -> None:
    with pytest.raises(OptionError, match=LINE):
        make_algorithm(f"{own}:Fails:size=2")
    sizes = NetworkSizes(num_class=2, num_channel=1, image_size=(4, 4))
    with pytest.raises(OptionError, match=LINE):
        model_spec(f"{own}:Fails").make(sizes, init=None, seed=0)


def test_a_method(own: str) -> None:
    model = {"w": np.ones(2, np.float32)}
    with pytest.raises(AlgorithmError, match=LINE):
        ServerAlgorithm(make_algorithm(f"{own}:Steps")).next(1, model, model, {}, 1)


@pytest.mark.parametrize("form", ["broken_of_mine.py:Net", "broken_of_mine:Net"])
def test_a_module(form: str, own: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tmp_path.joinpath("broken_of_mine.py").write_text("from parts_of_mine import fail\nfail()\n", "utf-8")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(OptionError, match=rf"cannot be loaded: {LINE}"):
        make_algorithm(form)


def test_a_function_that_makes_data(own: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=rf"own\.py:fail failed: {LINE}"):
        FederatedJob(work_dir=tmp_path / "job", train_dataset=f"{own}:fail", client_num=1).run()


@pytest.mark.parametrize("engine", ["lite", "mindspore"])
def test_a_network_that_mindspore_cannot_compile(engine: Any, own: str, tmp_path: Path) -> None:
    people = Dataset.from_arrays({"ann": (np.zeros((4, 4, 4), np.uint8), np.arange(4) % 2)})
    job = FederatedJob(
        work_dir=tmp_path / "job", model=f"{own}:Net", train_dataset=people, client_num=1, engine=engine, batch_size=2
    )
    with pytest.raises(MindflError, match=r"MindSpore failed: .*no attribute 'other', in .*own\.py, line 23"):
        job.run()


def test_what_no_code_of_a_user_raised() -> None:
    with pytest.raises(SyntaxError) as wrong:
        compile("x = (", "some.py", "exec")
    assert raised(wrong.value) == "SyntaxError: '(' was never closed (some.py, line 1)"
    assert raised(KeyError()) == "KeyError"
