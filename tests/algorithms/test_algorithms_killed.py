"""kill -9 of a training with an algorithm, at random operations on its files, resumed until it is done."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mindfl.sim import History
from mindfl.sim.client_memory import FOLDER
from mindfl.sim.run_record import RunRecord

HERE = Path(__file__).parent
KILLED = HERE.parent / "killed_run.py"
KILLS = 20
ITERATIONS = 50
#: what differs from run to run
TIMES = {"seconds": 0.0, "steps_per_s": 0.0}


def lives(settings: dict[str, Any], moments: list[tuple[Path, int]]) -> list[int]:
    """Return the numbers of operations of those lives that came to their end."""
    job = json.dumps({"settings": settings, "moments": [(str(folder), moment) for folder, moment in moments]})
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE), *sys.path])}
    command = [sys.executable, str(KILLED), job]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True, env=environment)
    return [int(line) for line in done.stdout.split()]


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ["scaffold", "fedadam"])
def test_killed_twenty_times_and_resumed_the_run_ends_with_the_same_bits(
    algorithm: str, small_model: Callable[[str], Path], tmp_path: Path
) -> None:
    settings = {
        **{"algorithm": algorithm, "iterations": ITERATIONS, "epochs": 1, "learning_rate": 0.05, "client_num": 5},
        **{"train_dataset": f"{HERE}/small_job.py:people", "sampler": f"{HERE}/small_job.py:Turns", "workers": 2},
        **{"origin_train_model_path": str(small_model("momentum")), "resume": True},
    }
    whole, often = tmp_path / "whole", tmp_path / "often"
    start = {**settings, "iterations": 1}
    # A life that resumes the run and does one iteration; killed within it, a run gets that far at most.
    (_, an_iteration) = lives(start, [(tmp_path / "start", 0)]) + lives(
        {**start, "iterations": 2}, [(tmp_path / "start", 0)]
    )
    assert len(lives(settings, [(whole, 0)])) == 1
    seed = random.randrange(2**32)
    print(f"seed {seed}: {an_iteration} operations in a life with one iteration")
    rng = random.Random(seed)
    moments = [(often, rng.randrange(1, an_iteration + 1)) for _ in range(KILLS)]

    assert lives(settings, moments) == [], "none came to its end"
    assert len(lives(settings, [(often, 0)])) == 1

    records = [RunRecord.load(folder / "config.json") for folder in (whole, often)]
    assert records[0].weights_sha256 == records[1].weights_sha256
    rows, again = (History.load(folder / "history.jsonl") for folder in (whole, often))
    assert len(rows) == ITERATIONS
    assert [repr(replace(row, **TIMES)) for row in rows] == [repr(replace(row, **TIMES)) for row in again]
    remembered = [{path.name: path.read_bytes() for path in (folder / FOLDER).glob("*")} for folder in (whole, often)]
    assert remembered[0] == remembered[1] and len(remembered[0]) == (5 if algorithm == "scaffold" else 0)
