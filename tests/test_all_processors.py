"""Which runs of pytest are spread over processes."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from all_processors import DEFAULT, MOST, SUITES, distribute

pytest_plugins = ["pytester"]


@pytest.fixture
def suite(pytester: pytest.Pytester) -> pytest.Pytester:
    pytester.makepyprojecttoml(f"""[tool.pytest.ini_options]\ntestpaths = ["tests"]\naddopts = "-m '{DEFAULT}'"\n""")
    pytester.mkdir("tests").joinpath("test_one.py").touch()
    return pytester


@pytest.mark.parametrize("expression", SUITES)
def test_a_whole_run_uses_all_processors(suite: pytest.Pytester, expression: str) -> None:
    config = suite.parseconfig("-q", "-m", expression)
    distribute(config)
    assert config.option.numprocesses == min(MOST, len(os.sched_getaffinity(0)) + 1)
    assert config.option.dist == "loadfile"
    assert not config.option.loadscopereorder


@pytest.mark.parametrize(
    "arguments",
    [
        *(["tests/test_one.py"], ["tests"], ["-k", "one"], ["-m", "hours"], ["-m", "smoke"], ["--lf"]),
        *(["-n", "0"], ["-s"], ["--pdb"], ["--collect-only"], ["-p", "no:xdist"]),
    ],
    ids=" ".join,
)
def test_everything_else_runs_in_one_process(suite: pytest.Pytester, arguments: list[str]) -> None:
    config = suite.parseconfig(*arguments)
    distribute(config)
    assert not getattr(config.option, "numprocesses", None)
    assert getattr(config.option, "dist", "no") == "no"


def test_n_is_what_was_given(suite: pytest.Pytester) -> None:
    config = suite.parseconfig("-n", "3")
    distribute(config)
    assert (config.option.numprocesses, config.option.dist) == (3, "no")


def test_the_expression_is_that_of_the_settings(pytestconfig: pytest.Config) -> None:
    assert f"-m '{DEFAULT}'" in " ".join(pytestconfig.getini("addopts")) or DEFAULT in pytestconfig.getini("addopts")


def test_what_ci_runs_is_spread() -> None:
    found = re.findall(r'^pytest -m "(.*?)"', (Path(__file__).parents[1] / ".ci" / "run").read_text(), re.MULTILINE)
    assert len(found) == 2 and set(found) <= set(SUITES)
