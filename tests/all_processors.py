"""A whole run of a suite uses all processors, where pytest-xdist is installed."""

from __future__ import annotations

import os

import pytest

DEFAULT = "not real_server and not slow and not hours"
#: expressions of the suites that CI runs whole
SUITES = (DEFAULT, "slow", "slow and not real_server", "real_server", "real_server and not slow")
#: with more the longest file decides how long it takes, and each process has MindSpore's memory
MOST = 8


def processes() -> int:
    """Return one more than there are processors: a quarter of their time, tests wait for a process or a connection."""
    return min(MOST, len(os.sched_getaffinity(0)) + 1)


def distribute(config: pytest.Config) -> None:
    """Spread a run over processes, file by file, unless files, other markers or ``-n`` were given."""
    option = config.option
    if hasattr(config, "workerinput") or not config.pluginmanager.hasplugin("xdist"):
        return
    part = option.keyword or option.markexpr not in SUITES or config.getoption("lf", False)
    watched = option.usepdb or option.collectonly or option.capture == "no"
    chosen = option.numprocesses is not None or option.dist != "no"
    if config.args_source is pytest.Config.ArgsSource.TESTPATHS and not (part or watched or chosen):
        option.numprocesses = processes()
        option.dist = "loadfile"
        # xdist would begin with the files that have the most tests, and end with the longest ones.
        option.loadscopereorder = False
