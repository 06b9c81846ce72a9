"""Kernels that are compiled family by family, on first use."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from lite_sequences import recurrent

import mindfl
from mindfl.lite import LiteModel, kernels
from mindfl.lite.kernels import Machine, load_machine
from mindfl.lite.ops import INSTRUCTIONS
from mindfl.lite.program import Builder, Place
from mindfl.sim.engines import LiteEngine


def _run(machine: Machine, *, real: int, labels: np.ndarray, numbers: np.ndarray, batch: int = 3) -> np.ndarray:
    """Return 2 values a sample of the table's head as NUMBERS writes them, after two steps."""
    builder = Builder(batch, 0, 4)
    y = builder.allocate(2 * batch)
    start = 0 if real else 2 * batch
    builder.emit("NUMBERS", y=y, start_table=start, apart=2, count=2, batch=batch, real=real)
    code, arena = builder.code(), np.zeros(builder.size, np.float32)
    machine.prepare(code)
    place = Place(0, 0, batch, 16, y, 0, 2, 2).row()
    nothing = np.zeros((1, 0, 16), np.float32)
    results = np.zeros((2, 1), np.float32)
    machine.execute(arena, builder.table(), code, machine.addresses, nothing, numbers, labels, place, 2, results)
    return arena[y : y + 2 * batch].reshape(batch, 2)


def test_a_family_runs_and_reads_labels_and_whole_numbers() -> None:
    machine = load_machine()
    reals = np.arange(10, dtype=np.float32) / 3
    numbers = np.arange(100, 110, dtype=np.int32).reshape(5, 2)
    found = _run(machine, real=0, labels=reals.view(np.int32), numbers=numbers)
    assert found.tolist() == [[106, 107], [108, 109], [100, 101]]  # the second batch of five samples
    found = _run(machine, real=1, labels=reals.view(np.int32), numbers=numbers)
    assert np.array_equal(found.ravel(), reals[[6, 7, 8, 9, 0, 1]])


def test_only_families_in_use_are_loaded() -> None:
    """Those of LeNet are in the machine's loop."""
    assert INSTRUCTIONS["CONV"].family is None
    assert INSTRUCTIONS["NUMBERS"].family == "inputs"
    machine = Machine(print, print, np.zeros(len(INSTRUCTIONS), np.int64))
    builder = Builder(1, 0)
    builder.emit("COPY", x=0, y=16, size=1)
    machine.prepare(builder.code())
    assert not machine.addresses.any()


def test_compiling_a_family_is_said_before_it_begins(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    model = LiteModel.from_bytes(recurrent().write())
    said: list[str] = []
    monkeypatch.setattr(LiteEngine, "session", lambda self: SimpleNamespace(batch_size=len(said)))
    monkeypatch.setattr(kernels, "_folder", lambda family=None: tmp_path / (family or "machine"))
    (tmp_path / "dropout").mkdir()
    (tmp_path / "dropout" / "run_dropout.kernel").touch()
    assert LiteEngine(model, stage=said.append).batch_size == 1
    (line,) = said
    assert line.startswith("compiling kernels of embedding, ")
    assert line.endswith(" (once per machine)")
    assert "dropout" not in line


USE = """
from mindfl.lite import kernels
from mindfl.lite.program import Builder
builder = Builder(1, 0)
builder.emit("NUMBERS", y=0, start_table=0, apart=1, count=1, batch=1, real=0)
machine = kernels.load_machine()
machine.prepare(builder.code())
print(len(list(kernels._folder("inputs").glob("run_inputs-*.kernel"))), bool(machine.addresses.any()))
"""


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["none", "cut", "no folder"])
def test_a_family_is_kept_and_damaged_code_is_made_anew(damage: str, tmp_path: Path) -> None:
    """In a cache of its own, where also the machine is compiled."""
    environment = {**os.environ, "MINDFL_CACHE": str(tmp_path / "cache")}
    if damage == "no folder":
        (tmp_path / "cache").write_text("a file where the folder should be")

    def use() -> str:
        done = subprocess.run([sys.executable, "-c", USE], env=environment, capture_output=True, text=True)
        assert done.stderr == "" or (damage == "no folder" and "compiled kernels are not kept" in done.stderr)
        return done.stdout.strip()

    assert use() == ("0 True" if damage == "no folder" else "1 True")
    for file in tmp_path.rglob("run_inputs-*.kernel"):
        if damage == "cut":
            file.write_bytes(file.read_bytes()[:50])
    assert use() == ("0 True" if damage == "no folder" else "1 True")
    # The same sources elsewhere use the same compiled code.
    shutil.copytree(Path(mindfl.__file__).parent, tmp_path / "elsewhere" / "mindfl")
    environment["PYTHONPATH"] = str(tmp_path / "elsewhere")
    assert use() == ("0 True" if damage == "no folder" else "1 True")
