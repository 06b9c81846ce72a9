"""The same load on mindfl's server and on the real MindSpore Federated 0.1.0 server, in turn.

    python benchmarks/load_compare.py --devices 3500 --repetitions 3 --out load

Each repetition starts both servers anew and lets all devices do one LeNet iteration (``load.py``). Ours runs as it
does by default, with its journal, and without it. The real server is set up by mindfl: it needs a Python 3.7
to 3.9, redis-server and 3 GB.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from lenet_weights import random_weights
from load import load_arguments, load_parser, measure, own_server

from mindfl.errors import MindflError
from mindfl.real import FederatedConfig, FederatedServer, install

_WINDOW_MS = 600_000

Start = Callable[[], AbstractContextManager[tuple[str, int | None]]]


@contextmanager
def real_server(devices: int) -> Iterator[tuple[str, int | None]]:
    """Run the real server, with a Redis of its own, for the context; yield its URL and no process id."""
    config = FederatedConfig(
        fl_name="load",
        iterations=1000,
        clients=devices,
        epochs=1,
        batch_size=32,
        learning_rate=0.01,
        start_fl_job_time_window=_WINDOW_MS,
        update_model_time_window=_WINDOW_MS,
        global_iteration_time_window=2 * _WINDOW_MS,
        manage_address=None,
    )
    with tempfile.TemporaryDirectory() as folder, FederatedServer(folder, config, random_weights()) as server:
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
    parser = load_parser(__doc__)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--out", type=Path, help="folder for table.md and results.json")
    arguments = load_arguments(parser)
    try:
        install(report=lambda text: print(text, file=sys.stderr))
    except MindflError as error:
        sys.exit(f"the real server cannot be had here: {error}")
    contenders: dict[str, Start] = {
        "mindfl": partial(own_server, arguments.devices, []),
        "mindfl, --no-journal": partial(own_server, arguments.devices, ["--no-journal"]),
        "MindSpore Federated 0.1.0": partial(real_server, arguments.devices),
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
