"""Measure what the live page costs a training: the same simulation with and without a page and a reader, in turns.

    python benchmarks/live_cost.py --pairs 5

Counts the processor time from the end of the first round to that of the last one: of the process that trains, and of
the process that serves the page. Training by the clock would say more about what else the machine does; the page's
process looks at the folder a few times per second by the clock, so its share of that time is given too.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from mindfl import FederatedJob
from mindfl.live.beside import page_beside
from mindfl.live.upload_timeline import UploadTimeline
from mindfl.sim.callbacks import PythonReporter
from mindfl.sim.history import IterationRow


class Meter(PythonReporter):
    """Notes processor seconds of this process and of its children at the end of each round."""

    def __init__(self) -> None:
        self.noted: list[tuple[float, float, float]] = []

    def stage(self, text: str) -> None:
        """Nothing is printed."""

    def row(self, row: IterationRow) -> None:
        """Note how much processor time has been spent."""
        times = [each.cpu_times() for each in psutil.Process().children(recursive=True)]
        self.noted.append((time.process_time(), sum(each.user + each.system for each in times), time.monotonic()))


@contextmanager
def _page(folder: Path, timeline: UploadTimeline) -> Iterator[None]:
    """Serve the page as ``mindfl simulate --live`` does, and print its address."""
    timeline.begin(folder)
    url: list[str] = []
    with page_beside(folder, 0, lambda text: url.append(text.split()[-1])):
        print(url[0], flush=True)
        yield


def _run(settings: dict[str, Any], live: bool) -> None:
    meter = Meter()
    timeline = UploadTimeline(meter)
    job = FederatedJob(**settings, reporter=timeline if live else meter)
    if live:
        with _page(Path(settings["work_dir"]), timeline):
            job.run()
    else:
        print("no page", flush=True)
        job.run()
    spent = (last - first for first, last in zip(meter.noted[0], meter.noted[-1], strict=True))
    print(json.dumps(dict(zip(("training", "page", "clock"), spent, strict=True))))


def _read(url: str, read: list[int]) -> None:
    with urllib.request.urlopen(url + "events") as events:
        for line in events:
            read[0] += line.startswith(b"event: row")


def _measured(settings: dict[str, Any], folder: Path, live: bool) -> dict[str, float]:
    given = json.dumps({**settings, "work_dir": str(folder)})
    command = [sys.executable, __file__, "--run", given, *(["--live"] if live else [])]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        first, read = process.stdout.readline().strip(), [0]
        reader = threading.Thread(target=_read, args=(first, read))
        if live:
            reader.start()
        found: dict[str, float] = json.loads(process.stdout.read().splitlines()[-1])
        if live:
            reader.join()
            assert read[0] == settings["iterations"], "the reader has got each round"
    return found


def main() -> None:
    """Run pairs of runs and print what the page costs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--iterations", type=int, default=11)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--run", help=argparse.SUPPRESS)
    parser.add_argument("--live", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.run:
        _run(json.loads(given.run), given.live)
        return
    settings = {"client_num": given.clients, "iterations": given.iterations, "epochs": given.epochs, "workers": 1}
    ratios, slower, shares, of_clock = [], [], [], []
    with tempfile.TemporaryDirectory() as place:
        for number in range(given.pairs):
            order = (False, True) if number % 2 else (True, False)
            runs = {live: _measured(settings, Path(place) / f"{number}{live}", live) for live in order}
            plain, shown = runs[False]["training"], runs[True]
            ratios.append(shown["training"] / plain - 1)
            slower.append(shown["clock"] / runs[False]["clock"] - 1)
            shares.append(shown["page"] / plain)
            of_clock.append(shown["page"] / shown["clock"])
            print(
                f"training {plain:.2f} s without, {shown['training']:.2f} s with the page ({ratios[-1]:+.2%}), "
                f"by the clock {slower[-1]:+.2%}; "
                f"the page's process {shown['page']:.3f} s ({shares[-1]:.2%}) in {shown['clock']:.0f} s",
                flush=True,
            )
    print(
        f"median of {given.pairs}: the process that trains {statistics.median(ratios):+.2%}, by the clock "
        f"{statistics.median(slower):+.2%}; the page's process "
        f"{statistics.median(shares):.2%} of it, and {statistics.median(of_clock):.2%} of the clock; "
        f"load average {os.getloadavg()[0]:.1f}"
    )


if __name__ == "__main__":
    main()
