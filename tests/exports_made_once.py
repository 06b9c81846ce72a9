"""What MindSpore exports of mindfl's own networks, kept for all tests and processes of a run.

A process for MindSpore takes two seconds, and most jobs of the tests begin with the same few models. What is kept is
what such a process answered, by all that it was asked: nothing is stood in for.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from mindfl.export import graph_mode
from mindfl.export.exporter import _train_and_export
from mindfl.export.process import in_child


@contextmanager
def exports_kept_in(folder: Path) -> Iterator[None]:
    """Let an export that was asked for before, by any process that uses ``folder``, take its answer from there."""
    folder.mkdir(exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(graph_mode, "in_child", lambda *call, **options: _answer(folder, *call, **options))
        yield


@contextmanager
def every_export_made() -> Iterator[None]:
    """Let each export be made anew, for tests of how that is done."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(graph_mode, "in_child", in_child)
        yield


def _answer(folder: Path, function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    # A network that a text names may be another one each time; GLOG_v asks for what MindSpore prints.
    if function is not _train_and_export or arguments[0].spec.own is not None or "GLOG_v" in os.environ:
        return in_child(function, *arguments, **options)
    asked = hashlib.sha256(pickle.dumps((arguments, options))).hexdigest()
    kept = folder / asked
    with (folder / f"{asked}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not kept.exists():
            answer = in_child(function, *arguments, **options)
            with (new := folder / f"{asked}.new").open("wb") as file:
                pickle.dump(answer, file)
            new.replace(kept)
    return pickle.loads(kept.read_bytes())
