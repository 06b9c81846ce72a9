"""``pytest --skipped``."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

_CONFTEST = (
    "import sys\nsys.path.insert(0, {folder!r})\nfrom skipped_before import pytest_addoption, pytest_configure\n"
)
_TESTS = {
    "test_file": "import pytest\npytest.importorskip('the_extra')\ndef test_a(): pass\ndef test_b(): pass",
    "test_some": "import pytest\ndef test_c(): pytest.importorskip('the_extra')\ndef test_d(): pass\n"
    "@pytest.mark.parametrize('x', ['e f', '::'])\ndef test_g(x): pytest.importorskip('the_extra')",
    "test_gone": "import pytest\ndef test_h(): pytest.skip('never')",
}


@pytest.fixture
def suite(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    pytester.makepyprojecttoml('[tool.pytest.ini_options]\ntestpaths = ["tests"]\n')
    folder = pytester.mkdir("tests")
    folder.joinpath("conftest.py").write_text(_CONFTEST.format(folder=str(Path(__file__).parent)))
    for name, text in _TESTS.items():
        folder.joinpath(f"{name}.py").write_text(text)
    monkeypatch.setenv("PYTHONPATH", str(pytester.path / "extras"))
    return pytester


@pytest.mark.parametrize("spread", [[], ["-n", "2"]], ids=["one process", "two processes"])
def test_it_runs_what_an_extra_was_missing_for(suite: pytest.Pytester, spread: list[str]) -> None:
    first = suite.runpytest_subprocess(*spread)
    first.assert_outcomes(passed=1, skipped=5)
    suite.mkdir("extras").joinpath("the_extra.py").touch()
    suite.path.joinpath("tests", "test_gone.py").unlink()
    # A run of one file records nothing.
    suite.runpytest_subprocess("tests/test_some.py", "-k", "test_d").assert_outcomes(passed=1, deselected=3)
    suite.runpytest_subprocess("--skipped", *spread).assert_outcomes(passed=5)


def test_without_a_run_before_it_says_so(suite: pytest.Pytester) -> None:
    result = suite.runpytest_subprocess("--skipped")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*no run recorded what it skipped: run pytest without arguments first"])
