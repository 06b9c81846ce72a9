"""``pytest --skipped`` runs what the last whole run skipped: after an extra was installed, all tests that need it."""

from __future__ import annotations

import pytest

OPTION = "--skipped"
_KEPT = "mindfl/skipped"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--skipped``."""
    parser.addoption(OPTION, action="store_true", help="run only what the last run without arguments skipped")


def pytest_configure(config: pytest.Config) -> None:
    """Let a run with ``--skipped`` take the recorded tests, and record those of a run of the default suite."""
    if getattr(config, "cache", None) is None:
        return
    if config.getoption(OPTION):
        recorded = config.cache.get(_KEPT, None)
        if recorded is None:
            raise pytest.UsageError(f"{OPTION}: no run recorded what it skipped: run pytest without arguments first")
        config.args = [name for name in recorded if config.rootpath.joinpath(name.split("::")[0]).exists()]
        config.args_source = pytest.Config.ArgsSource.ARGS
    elif config.args_source is pytest.Config.ArgsSource.TESTPATHS and not hasattr(config, "workerinput"):
        config.pluginmanager.register(_Recorder(config.cache))


class _Recorder:
    """The names of the tests, and of the files, that a run skips."""

    def __init__(self, cache: pytest.Cache) -> None:
        self._cache = cache
        self._names: dict[str, None] = {}

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        self._see(report)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._see(report)

    def _see(self, report: pytest.CollectReport | pytest.TestReport) -> None:
        if report.skipped and not hasattr(report, "wasxfail"):
            self._names[report.nodeid] = None

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        option = session.config.option
        if not (option.keyword or option.collectonly or session.config.getoption("lf", False)):
            self._cache.set(_KEPT, sorted(self._names))
