"""Stand-ins for a converter program, and MINDIR messages to change."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from made_once import all_converted

from mindfl.convert import child
from mindfl.convert.mindir import Proto, read_mindir
from mindfl.export.graph_mode import graph_mode

#: a program that drives the real converter library as the MindSpore Lite 2.0.0 tarball's program does
STAND_IN = f"""#!{sys.executable}
import os, sys
options = dict(argument.lstrip("-").split("=", 1) for argument in sys.argv[1:])
assert options["fmk"] == "MINDIR"
print("library path", os.environ.get("LD_LIBRARY_PATH"), flush=True)
train = str(int(options["trainModel"] == "true"))
command = [sys.executable, "-I", "-S", {child.__file__!r}, LIBRARY, options["modelFile"], options["outputFile"], train]
os.execv(sys.executable, command)
"""

WriteProgram = Callable[..., Path]


@pytest.fixture(scope="module", autouse=True)
def _all_converted() -> Iterator[None]:
    """These tests are about how a model is converted, so each is."""
    with all_converted():
        yield


@pytest.fixture
def in_graph_mode() -> Iterator[None]:
    """MindSpore compiles graphs in this test, as it must for an export."""
    with graph_mode("CPU"):
        yield


@pytest.fixture
def write_program(tmp_path: Path) -> WriteProgram:
    """Return a function that writes an executable ``converter_lite`` into a folder below ``tmp_path``."""

    def write(text: str, folder: str = "program") -> Path:
        program = tmp_path / folder / "converter_lite"
        program.parent.mkdir(parents=True, exist_ok=True)
        program.write_text(text)
        program.chmod(0o755)
        return program

    return write


@pytest.fixture
def stand_in(write_program: WriteProgram, converter_library: Path) -> Path:
    """A stand-in for the program of the MindSpore Lite 2.0.0 tarball: the real library behind its command line."""
    return write_program(STAND_IN.replace("LIBRARY", repr(str(converter_library))))


@pytest.fixture
def model(exported: Callable[..., Path]) -> Proto:
    """A fresh copy of LeNet's training graph with the momentum optimizer, as MindSpore exports it."""
    return read_mindir(exported())
