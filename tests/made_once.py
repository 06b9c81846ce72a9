"""What MindSpore exports of mindfl's own networks, and what the converter makes of it, kept for a whole run of tests.

A process for MindSpore takes two seconds, one for the converter a third of one, and most jobs of the tests begin with
the same few models. Kept are the answers of such a process, by everything that it was asked: nothing is simulated.
"""

from __future__ import annotations

import fcntl
import hashlib
import io
import os
import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mindfl.convert.programs import LibraryBackend
from mindfl.export import graph_mode
from mindfl.export.exporter import _train_and_export
from mindfl.export.process import in_child

_convert = LibraryBackend.run


@contextmanager
def kept_in(folder: Path) -> Iterator[None]:
    """Let a process that was asked the same before, by any process that uses ``folder``, be answered from there."""
    folder.mkdir(exist_ok=True)

    def export(function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        # A network that a text names may be another one each time; GLOG_v asks for what MindSpore prints, unless it is
        # what mindfl sets where MindSpore is imported.
        printed = os.environ.get("GLOG_v", "3") != "3"  # noqa: SIM112 - it is spelt so
        if function is not _train_and_export or arguments[0].spec.own is not None or printed:
            return in_child(function, *arguments, **options)
        network, *rest = arguments
        # Its parameters' names are a set, whose order is another one in each process.
        asked = replace(network, spec=replace(network.spec, parameters=frozenset()))
        return _kept(folder, (asked, rest, options), lambda: in_child(function, *arguments, **options))

    def convert(self: LibraryBackend, place: Path, train: bool) -> str:
        def make() -> tuple[str, bytes]:
            return _convert(self, place, train), (place / "model.ms").read_bytes()

        log, content = _kept(folder, (self.libraries, (place / "model.mindir").read_bytes(), train), make)
        with (place / "model.ms").open("wb") as file:
            file.write(content)
        return log

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(graph_mode, "in_child", export)
        patch.setattr(LibraryBackend, "run", convert)
        yield


@contextmanager
def all_made() -> Iterator[None]:
    """Let each be made anew, for tests of how that is done."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(graph_mode, "in_child", in_child)
        patch.setattr(LibraryBackend, "run", _convert)
        yield


def _kept(folder: Path, question: object, ask: Callable[[], Any]) -> Any:
    name = _digest(question)
    kept = folder / name
    with (folder / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not kept.exists():
            answer = ask()
            with (new := folder / f"{name}.new").open("wb") as file:
                pickle.dump(answer, file)
            new.replace(kept)
    return pickle.loads(kept.read_bytes())


def _digest(question: object) -> str:
    pickler = pickle.Pickler(written := io.BytesIO())
    pickler.fast = True  # without it equal texts are written in another way where they are one object
    pickler.dump(question)
    return hashlib.sha256(written.getvalue()).hexdigest()
