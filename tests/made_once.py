"""What MindSpore exports, and what the converter makes of it, made once for a whole run of tests.

A process for MindSpore takes two seconds, one for the converter a third of one, and most jobs of the tests begin with
the same few models. Kept are the answers of such a process, by everything that it was asked: nothing is simulated.
Commands that tests start as processes share the answers, through ``startup/sitecustomize.py``.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from kept_answers import keep_conversions, keep_exports

from mindfl.convert.programs import LibraryBackend
from mindfl.export import graph_mode
from mindfl.export.process import in_child

_STARTUP = Path(__file__).parent / "startup"
#: names the folder of the answers to commands
_FOLDER = "TESTS_KEPT_ANSWERS"
_convert = LibraryBackend.run


@contextmanager
def kept_in(folder: Path) -> Iterator[None]:
    """Let a process that was asked the same before, by any process that uses ``folder``, be answered from there."""
    folder.mkdir(exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(graph_mode, "in_child", keep_exports(folder, in_child))
        patch.setattr(LibraryBackend, "run", keep_conversions(folder, _convert))
        patch.setenv(_FOLDER, str(folder))
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(_STARTUP), os.environ.get("PYTHONPATH")])))
        yield


@contextmanager
def all_made() -> Iterator[None]:
    """Let each be made anew, for tests of how that is done."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(graph_mode, "in_child", in_child)
        patch.setattr(LibraryBackend, "run", _convert)
        patch.delenv(_FOLDER, raising=False)
        yield
