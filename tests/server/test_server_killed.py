"""kill -9 of a server at seeded instants: nothing acknowledged is lost or counted twice, and the result is the same."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from durable_child import DEVICES, ITERATIONS, undisturbed

import mindfl

CHILD = Path(__file__).with_name("durable_child.py")


class Lives:
    """The lives of one job's server, and what its answers were."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.accepted: Counter[tuple[int, int]] = Counter()
        self.refused: set[tuple[int, int]] = set()
        self.done = ""

    def live(self, lines: int | None, delay: float = 0.0) -> bool:
        """Run the server until it has printed ``lines`` lines (None: to the end), then kill it ``delay`` s later."""
        environment = {**os.environ, "PYTHONPATH": str(Path(mindfl.__file__).parents[1])}
        command = [sys.executable, str(CHILD), str(self.folder)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment) as child:
            assert child.stdout is not None and child.stderr is not None
            try:
                while lines is None or lines > 0:
                    line = child.stdout.readline()
                    if not line:
                        break
                    self._note(line)
                    lines = lines and lines - 1
                else:
                    # Not waited for: the instant of the kill is drawn at random.
                    time.sleep(delay)
            finally:
                if lines is not None:
                    child.kill()
            for line in child.stdout:
                self._note(line)
            assert child.stderr.read() == b""
        return bool(self.done)

    def _note(self, line: bytes) -> None:
        words = line.decode().split()
        if words[0] == "done":
            self.done = words[1]
        elif words[0].isdigit() and line.endswith(b"\n"):
            upload = int(words[0]), int(words[1])
            if words[2] == "200":
                self.accepted[upload] += 1
            else:
                self.refused.add(upload)

    def check(self) -> None:
        every = {(iteration, device) for iteration in range(1, ITERATIONS + 1) for device in range(DEVICES)}
        assert max(self.accepted.values()) == 1
        # Refused: acknowledged before, or counted but the answer lost with the server. A lost answer needs no
        # repetition where the iteration has ended, so some may appear in neither set.
        assert set(self.accepted) | self.refused <= every
        assert self.done == undisturbed()


def lives(folder: Path, seed: int, kills: int) -> Lives:
    generator = random.Random(seed)
    job = Lives(folder)
    for _ in range(kills):
        lines = generator.choice([1, 2, 3, generator.randrange(3, 14)])
        if job.live(lines, generator.uniform(0, 0.004)):
            break
    if not job.done:
        job.live(None)
    return job


def test_a_server_killed_ten_times_ends_with_the_same_model(tmp_path: Path) -> None:
    lives(tmp_path / "state", seed=1, kills=10).check()


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2, 12))
def test_a_server_killed_a_hundred_times_ends_with_the_same_model(tmp_path: Path, seed: int) -> None:
    lives(tmp_path / "state", seed, kills=10).check()
