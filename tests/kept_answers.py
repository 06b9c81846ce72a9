"""Answers of processes for MindSpore and the converter, kept in a folder by everything that was asked.

Nothing is imported before it is needed: commands in processes of their own use it too (``tests/startup``).
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import io
import os
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

#: what MindSpore is asked for; each is a function of its arguments, of the user's files, and of the installed MindSpore
_KEPT = ("_train_and_export", "_built", "_exported", "mindspore_version")
_FILE = ".py:"


def keep_exports(folder: Path, in_child: Callable[..., Any]) -> Callable[..., Any]:
    """Return an ``in_child`` that answers what was asked before."""

    def ask(function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        def anew() -> Any:
            return in_child(function, *arguments, **options)

        # GLOG_v asks for what MindSpore prints, unless it is what mindfl sets where MindSpore is imported.
        printed = os.environ.get("GLOG_v", "3") != "3"  # noqa: SIM112 - it is spelt so
        if function.__name__ not in _KEPT or printed:
            return anew()
        try:
            told = [_told(argument) for argument in arguments]
        except LookupError:
            return anew()
        mindspore = importlib.util.find_spec("mindspore")
        return _kept(folder, (function, told, options, mindspore and mindspore.origin), anew)

    return ask


def keep_conversions(folder: Path, convert: Callable[..., str]) -> Callable[..., str]:
    """Return a ``LibraryBackend.run`` that answers what was asked before."""

    def run(self: Any, place: Path, train: bool) -> str:
        def make() -> tuple[str, bytes]:
            return convert(self, place, train), (place / "model.ms").read_bytes()

        log, content = _kept(folder, (self.libraries, (place / "model.mindir").read_bytes(), train), make)
        with (place / "model.ms").open("wb") as file:
            file.write(content)
        return log

    return run


def _told(argument: Any) -> Any:
    """Return what tells an argument from others. Raises ``LookupError`` for networks whose code is in no known file."""
    from mindfl.models import ModelSpec

    if isinstance(spec := getattr(argument, "spec", None), ModelSpec):
        (plain, files) = _told(spec)
        return replace(argument, spec=plain), files
    if not isinstance(argument, ModelSpec):
        return argument
    # Its parameters' names are a set, whose order is another one in each process.
    return replace(argument, parameters=frozenset()), _files(argument)


def _files(spec: Any) -> list[bytes]:
    """Return the Python files of the folder that a network is loaded from: it may import those beside it."""
    if spec.own is None:
        return []
    place, named, _ = str(spec.own.target).partition(_FILE)
    file = Path(place + ".py")
    if not named or not file.is_file():
        raise LookupError
    return [each.read_bytes() for each in sorted(file.parent.glob("*.py"))]


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
