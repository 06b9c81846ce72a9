"""The same load on mindfl's server and on the real MindSpore Federated 0.1.0 server, in turn.

    python benchmarks/load_compare.py --devices 3500 --repetitions 3 --out load

Each repetition starts both servers anew and lets all devices do one LeNet iteration (``load.py``). Ours runs as it
does by default, with its journal, and without it. The real server is set up by the test suite's own helpers: it needs a
Python 3.7 to 3.9, redis-server and 3 GB.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from load import measure, own_server
from load_fleet import SHAPES

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "real_server"))

from real_environment import UnavailableError, real_python
from real_stack import Job, running_real, running_redis

_WINDOW_MS = 600_000

Start = Callable[[], AbstractContextManager[tuple[str, int | None]]]


@contextmanager
def real_server(python: Path, devices: int) -> Iterator[tuple[str, int | None]]:
    """Run the real server, with a Redis of its own, for the context; yield its URL and no process id."""
    random = np.random.default_rng(0)
    job = Job(
        fl_name="load",
        model={name: random.normal(size=shape).astype(np.float32) for name, shape in SHAPES.items()},
        fl_iteration_num=1000,
        start_fl_job_threshold=devices,
        start_fl_job_time_window=_WINDOW_MS,
        update_model_time_window=_WINDOW_MS,
        global_iteration_time_window=2 * _WINDOW_MS,
    )
    with (
        tempfile.TemporaryDirectory() as folder,
        running_redis(Path(folder)) as redis,
        running_real(python, redis, job, Path(folder)) as server,
    ):
        yield server.url, None


def table(results: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """Return the figures as Markdown: medians, least and greatest in brackets."""
    lines = [
        "| server | s | requests/s | errors | startFLJob p99, ms | updateModel p99, ms | getModel p99, ms |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, runs in results.items():
        seconds = [run["seconds"] for run in runs]
        cells = [
            name,
            f"{statistics.median(seconds):.1f} ({min(seconds):.1f} to {max(seconds):.1f})",
            f"{statistics.median(run['requests_per_second'] for run in runs):.0f}",
            str(sum(run["errors"] for run in runs)),
            *(
                f"{statistics.median(run['endpoints'][endpoint]['p99_ms'] for run in runs):.0f}"
                for endpoint in ("startFLJob", "updateModel", "getModel")
            ),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Run the program."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--devices", type=int, default=3500, help="devices of the iteration")
    parser.add_argument("--at_once", type=int, help="devices before or in their upload at a time  [default: all]")
    parser.add_argument("--poll_seconds", type=float, default=1.0, help="pause of a device before it asks again")
    parser.add_argument("--idle", type=int, default=0, help="connections that send nothing during the iteration")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--out", type=Path, help="folder for table.md and results.json")
    arguments = parser.parse_args()
    arguments.at_once = arguments.at_once or arguments.devices
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        python = real_python()
    except UnavailableError as error:
        sys.exit(f"the real server cannot be had here: {error}")
    contenders: dict[str, Start] = {
        "mindfl": partial(own_server, arguments.devices, []),
        "mindfl, --no-journal": partial(own_server, arguments.devices, ["--no-journal"]),
        "MindSpore Federated 0.1.0": partial(real_server, python, arguments.devices),
    }
    results: dict[str, list[dict[str, Any]]] = {name: [] for name in contenders}
    for repetition in range(arguments.repetitions):
        for name, start in contenders.items():
            print(f"repetition {repetition + 1}/{arguments.repetitions}: {name}", file=sys.stderr)
            with start() as (url, process):
                results[name].append(measure(url, process, arguments))
    print(table(results))
    if arguments.out:
        arguments.out.mkdir(parents=True, exist_ok=True)
        (arguments.out / "table.md").write_text(table(results) + "\n")
        (arguments.out / "results.json").write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
