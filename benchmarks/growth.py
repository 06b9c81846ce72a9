"""Measure how time and memory grow with the number of clients, on synthetic writers.

    python benchmarks/growth.py --clients 50,200,1000,3500 --out DIR

Each size runs in a process of its own. Leaves table.md, results.json and growth.png in the folder.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from environments import machine
from growth_report import write_report

from mindfl import FederatedLeNetJob
from mindfl.data import make_synthetic
from mindfl.errors import MindflError

_HERE = Path(__file__).parent
#: smaller sizes run more iterations, up to this many: they are short, and one disturbance would show
_MOST_ITERATIONS = 20


def run(out: Path, **settings: Any) -> dict[str, Any]:
    """Run one job in a process of its own and return what it noted."""
    result = out / "run.json"
    options = [word for name, value in settings.items() for word in (f"--{name}", str(value))]
    command = [sys.executable, str(_HERE / "run_growth.py"), str(result), *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)} ended with code {done.returncode}:\n{done.stderr[-4000:]}")
    noted: dict[str, Any] = json.loads(result.read_text())
    result.unlink()
    return {**settings, **noted}


def _sizes(text: str) -> list[int]:
    return sorted({int(count) for count in text.split(",")})


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for the results")
    parser.add_argument("--clients", type=_sizes, default="50,200,1000,3500", help="sizes, comma-separated")
    parser.add_argument("--epochs", type=int, default=1, help="local epochs")
    parser.add_argument("--iterations", type=int, default=4, help="of the largest size; the first is not counted")
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--overhead_clients", type=int, default=200, help="size of the run that finds the overhead")
    parser.add_argument("--memory_clients", type=int, default=4, help="size of the run that watches memory")
    parser.add_argument("--memory_iterations", type=int, default=3000, help="iterations of that run")
    parser.add_argument("--data", type=Path, help="data set to use or make  [default: data in --out]")
    arguments = parser.parse_args()
    if len(arguments.clients) < 2 or arguments.iterations < 2:
        parser.error("a line needs at least two sizes, and two iterations each: the first one is not counted")
    return arguments


def main() -> None:
    """Measure."""
    arguments = _arguments()
    arguments.out.mkdir(parents=True, exist_ok=True)
    data: Path = arguments.data or arguments.out / "data"
    users = max(*arguments.clients, arguments.overhead_clients, arguments.memory_clients)
    if not data.exists():
        make_synthetic(data, users=users)
    model = FederatedLeNetJob(work_dir=arguments.out / "model").convert()
    common = {"data": data, "model": model, "epochs": arguments.epochs}
    sizes = []
    for clients in arguments.clients:
        print(f"{clients} clients", file=sys.stderr)
        iterations = max(arguments.iterations, min(_MOST_ITERATIONS, arguments.clients[-1] // clients))
        sizes.append(run(arguments.out, clients=clients, iterations=iterations, workers=arguments.workers, **common))
    print("overhead, 1 worker", file=sys.stderr)
    overhead = run(arguments.out, clients=arguments.overhead_clients, iterations=_MOST_ITERATIONS, workers=1, **common)
    print(f"memory over {arguments.memory_iterations} iterations", file=sys.stderr)
    memory = run(
        arguments.out,
        clients=arguments.memory_clients,
        iterations=arguments.memory_iterations,
        workers=arguments.workers,
        **common,
    )
    print(write_report(arguments.out, sizes, overhead, memory, {"machine": machine(), "command": sys.argv}))


if __name__ == "__main__":
    try:
        main()
    except MindflError as error:
        sys.exit(error.line())
