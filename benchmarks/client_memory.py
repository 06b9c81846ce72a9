"""What clients remember at scale: memory and time of plain FedAvg and of SCAFFOLD, whose clients remember LeNet's size.

    python benchmarks/client_memory.py --clients 3500 --cohort 10

In the first round all clients take part, in the others a cohort. Each algorithm runs in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from run_growth import resident

from mindfl import FederatedJob
from mindfl.data import Dataset
from mindfl.data.stored_arrays import save_arrays
from mindfl.errors import MindflError
from mindfl.sim.history import IterationRow
from mindfl.sim.job import Silent

SAMPLES, CLASSES = 16, 62


class AllThenFew:
    """A sampler: all clients in the first round, ``cohort`` in each later one."""

    def __init__(self, cohort: int = 10) -> None:
        self.cohort = cohort

    def sample(self, clients: int, iteration: int, rng: np.random.Generator, state: dict[str, Any]) -> Iterable[int]:
        """Return the clients of a round."""
        return range(clients) if iteration == 1 else rng.choice(clients, self.cohort, replace=False).tolist()


class Ends(Silent):
    """Notes when each round has ended, its state saved."""

    def __init__(self) -> None:
        self.at = [time.perf_counter()]

    def row(self, row: IterationRow) -> None:
        self.at.append(time.perf_counter())


def make_data(folder: Path, clients: int) -> None:
    """Store noise as images: what is learned does not matter."""
    rng = np.random.default_rng(0)
    labels = np.arange(SAMPLES, dtype=np.int32) % CLASSES
    users = {f"user{i}": (rng.integers(0, 256, (SAMPLES, 28, 28), np.uint8), labels) for i in range(clients)}
    save_arrays(Dataset.from_arrays(users, classes=CLASSES), folder, source="noise")


def run(algorithm: str, data: Path, clients: int, cohort: int, rounds: int) -> dict[str, Any]:
    """Run the job in this process; return its memory in MiB and the seconds of its rounds."""
    with tempfile.TemporaryDirectory() as folder:
        ends = Ends()
        FederatedJob(
            reporter=ends,
            work_dir=folder,
            train_dataset=data,
            algorithm=algorithm,
            client_num=clients,
            sampler=AllThenFew(cohort),
            iterations=rounds,
            epochs=1,
            batch_size=SAMPLES,
            evaluate="drawn",
            per_client_models=False,
            model="lenet",
            workers=2,
        ).run()
        kept = sum(path.stat().st_size for path in Path(folder).rglob("*memory*/*"))
        state = Path(folder, "resume.npz").stat().st_size
    seconds = np.diff(ends.at)
    return {
        "peak": resident("VmHWM") / 2**20,
        "anonymous": resident("RssAnon") / 2**20,
        "state": state / 2**20,
        "remembered": kept / 2**20,
        "first": float(seconds[0]),
        "later": float(np.median(seconds[1:])),
    }


def main() -> None:
    """Run both algorithms and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=3500)
    parser.add_argument("--cohort", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--algorithms", default="fedavg,scaffold")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--data", type=Path, help="data set to use or make  [default: a temporary one]")
    given = parser.parse_args()
    if given.one:
        print(json.dumps(run(given.one, given.data, given.clients, given.cohort, given.rounds)))
        return
    with tempfile.TemporaryDirectory() as folder:
        data = given.data or Path(folder, "data")
        if not data.exists():
            make_data(data, given.clients)
        print("| algorithm | peak RSS, MiB | without files | remembered, MiB | state, MiB | s, all | s, cohort |")
        print("|---|---|---|---|---|---|---|")
        for algorithm in given.algorithms.split(","):
            counts = ["--clients", given.clients, "--cohort", given.cohort, "--rounds", given.rounds]
            command = [sys.executable, __file__, "--one", algorithm, "--data", data, *counts]
            done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False)
            if done.returncode:
                sys.exit(done.stderr[-4000:])
            found = json.loads(done.stdout.splitlines()[-1])
            cells = (f"{found[name]:.2f}" for name in ("peak", "anonymous", "remembered", "state", "first", "later"))
            print(f"| {algorithm} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    try:
        main()
    except MindflError as error:
        sys.exit(error.line())
