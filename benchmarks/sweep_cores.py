"""What a sweep gains from processors: the same runs one at a time, and side by side.

Each measurement is `mindfl sweep` in a new folder, from its first line to its end: the export of starting models,
all runs and their reports. They take turns, so that both have the machine's quiet and busy times.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path
from statistics import fmean, median

import psutil

from mindfl import make_synthetic

EXPERIMENT = """\
train_dataset = "writers"
client_num = {clients}
iterations = {iterations}
epochs = {epochs}

[sweep]
algorithm = ["fedavg", "fedprox:mu=0.1", "scaffold", "fedadam"]
seed = [0, 1, 2]
"""


def measured(folder: Path, jobs: int) -> dict[str, float]:
    """Run the sweep; return its seconds, the seconds of processors that it and all its processes took, and how many
    of its processes were at work in the mean: of the three only that does not depend on what else the machine does."""
    work_dir = folder / f"jobs {jobs}"
    shutil.rmtree(work_dir, ignore_errors=True)
    command = [sys.executable, "-m", "mindfl", "sweep", "exp.toml", "--work_dir", work_dir.name, "--jobs", str(jobs)]
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    at_work = []
    with subprocess.Popen([*command, "--quiet", "--json"], cwd=folder, stdout=subprocess.DEVNULL) as sweep:
        process = psutil.Process(sweep.pid)
        while sweep.poll() is None:
            at_work.append(len(process.children()))
            time.sleep(0.05)
    if sweep.returncode:
        raise SystemExit(f"the sweep ended with {sweep.returncode}")
    seconds, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"seconds": seconds, "processor_seconds": used, "at_work": fmean(at_work)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=2, help="runs side by side, beside one at a time")
    parser.add_argument("--clients", type=int, default=10)
    parser.add_argument("--iterations", type=int, default=10)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("sweep_cores"))
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    if not (given.out / "writers").exists():
        make_synthetic(given.out / "writers", users=given.clients)
    sizes = {"clients": given.clients, "iterations": given.iterations, "epochs": given.epochs}
    (given.out / "exp.toml").write_text(EXPERIMENT.format(**sizes))
    found: dict[int, list[dict[str, float]]] = {1: [], given.jobs: []}
    for _ in range(given.repetitions):
        for jobs, results in found.items():
            results.append(measured(given.out, jobs))
            words = ", ".join(f"{name} {value:.2f}" for name, value in results[-1].items())
            print(f"jobs {jobs}: {words}", flush=True)
    (given.out / "results.json").write_text(json.dumps({**sizes, "measured": found}, indent=2))
    for name, sign in (("seconds", -1), ("at_work", 1)):
        one, many = (median(each[name] for each in found[jobs]) for jobs in (1, given.jobs))
        print(f"{given.jobs} side by side, by {name}: {(many / one) ** sign:.2f} times one at a time (median)")


if __name__ == "__main__":
    main()
