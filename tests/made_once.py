"""What MindSpore exports, and what the converter makes of it, made once for a whole run of tests.

A process for MindSpore takes three seconds, one for the converter a third of one, and most jobs of the tests begin with
the same few models. Kept are the answers of such a process, by everything that it was asked: nothing is simulated. What
was not asked before is asked of a fork of one process that has imported MindSpore (``mindspore_forks``). Commands that
tests start as processes take part in both, through ``startup/sitecustomize.py``.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from kept_answers import keep_conversions, keep_exports
from mindspore_forks import forked, start

import mindfl
from mindfl.convert.programs import LibraryBackend
from mindfl.export import graph_mode
from mindfl.export.process import in_child

_STARTUP = Path(__file__).parent / "startup"
#: names the folder of the answers to commands
_FOLDER = "TESTS_KEPT_ANSWERS"
#: names the folder that holds the package mindfl
_PLACE = "TESTS_PLACE_OF_MINDFL"
_convert = LibraryBackend.run


@contextmanager
def kept_in(folder: Path) -> Iterator[None]:
    """Let a process that was asked the same before, by any process that uses ``folder``, be answered from there."""
    folder.mkdir(exist_ok=True)
    started: list[subprocess.Popen[bytes]] = []

    def ask(function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        if not started:
            started.append(start(folder))
        return forked(folder, in_child)(function, *arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(graph_mode, "in_child", keep_exports(folder, ask))
        patch.setattr(LibraryBackend, "run", keep_conversions(folder, _convert))
        patch.setenv(_FOLDER, str(folder))
        patch.setenv(_PLACE, str(Path(mindfl.__file__).parents[1]))
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(_STARTUP), os.environ.get("PYTHONPATH")])))
        yield
    for process in started:
        process.communicate()


@contextmanager
def all_converted() -> Iterator[None]:
    """Let each be converted anew, for tests of how that is done."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LibraryBackend, "run", _convert)
        patch.delenv(_FOLDER, raising=False)
        yield


@contextmanager
def all_made() -> Iterator[None]:
    """Let each be exported and converted anew, by a process of its own, for tests of how that is done."""
    with all_converted(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(graph_mode, "in_child", in_child)
        yield
