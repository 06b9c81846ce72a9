"""Measure what the live page costs a training: one simulation, with the page read during every other block of rounds.

    python benchmarks/live_cost.py --blocks 20

Counts the processor time of each round, of the process that trains and of the one that serves the page. During a block
with the page a reader takes its events, and the training notes when uploads came; during one without, neither. Blocks
follow each other, so what else the machine does concerns both alike. The first round of a block is left out.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil

from mindfl import FederatedJob
from mindfl.live.beside import page_beside
from mindfl.live.upload_timeline import UploadTimeline
from mindfl.sim.callbacks import Progress, PythonReporter
from mindfl.sim.history import IterationRow

#: at the end of a round: processor seconds of the training and of the page, seconds of the clock, and processor seconds
#: of the training that went into notes of uploads
Times = tuple[float, float, float, float]


class Quiet(PythonReporter):
    """Prints nothing."""

    def stage(self, text: str) -> None:
        """Say nothing of a stage."""

    def row(self, row: IterationRow) -> None:
        """Say nothing of a round."""


class Turns(Quiet):
    """Notes the times of each round; prints "on" and "off" where a block with the page, or without it, begins."""

    def __init__(self, folder: Path, block: int) -> None:
        self.times: list[Times] = []
        self._block = block
        self._on = False
        self._notes = 0.0
        self._timeline = UploadTimeline(Quiet())
        self._timeline.begin(folder)

    def progress(self, progress: Progress) -> None:
        """Note when uploads came, in a block with the page."""
        if self._on:
            began = time.thread_time()
            self._timeline.progress(progress)
            self._notes += time.thread_time() - began

    def row(self, row: IterationRow) -> None:
        """Note the times at the end of a round, and change over at the end of a block."""
        pages = [each.cpu_times() for each in psutil.Process().children()]
        page = sum(each.user + each.system for each in pages)
        self.times.append((time.process_time(), page, time.monotonic(), self._notes))
        if self._on:
            self._timeline.row(row)
        if len(self.times) % self._block == 0:
            self._on = not self._on
            print("on" if self._on else "off", flush=True)


def _run(settings: dict[str, Any], block: int) -> None:
    folder = Path(settings["work_dir"])
    folder.mkdir()
    turns = Turns(folder, block)
    with page_beside(folder, 0, lambda text: print(text.split()[-1], flush=True)):
        FederatedJob(**settings, reporter=turns).run()
    print(json.dumps(turns.times))


class Reader:
    """Takes the page's events from :meth:`open` to :meth:`close`; then it goes on where it was, as a browser does."""

    def __init__(self, url: str) -> None:
        self._address = urlsplit(url).netloc
        self._last = ""
        self._socket: socket.socket | None = None
        self._thread: threading.Thread | None = None
        self.rows = 0

    def open(self) -> None:
        """Begin to read."""
        connection = http.client.HTTPConnection(self._address)
        connection.request("GET", "/events?kind=run", headers={"Last-Event-ID": self._last})
        self._socket = connection.sock
        self._thread = threading.Thread(target=self._read, args=(connection.getresponse(),))
        self._thread.start()

    def _read(self, events: http.client.HTTPResponse) -> None:
        try:
            for line in events:
                self.rows += line.startswith(b"event: row")
                if line.startswith(b"id: "):
                    self._last = line[4:].decode().strip()
        except (OSError, http.client.HTTPException):
            pass  # closed

    def close(self) -> None:
        """Stop reading."""
        if self._socket is not None and self._thread is not None:
            self._socket.shutdown(socket.SHUT_RDWR)
            self._thread.join()
        self._socket = None


def _measured(settings: dict[str, Any], block: int) -> list[Times]:
    command = [sys.executable, __file__, "--run", json.dumps(settings), "--block", str(block)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        reader = Reader(process.stdout.readline().strip())
        for line in process.stdout:
            if line.startswith("["):
                reader.close()
                assert reader.rows > 0, "the reader has got rounds"
                times: list[Times] = json.loads(line)
                return times
            reader.open() if line.strip() == "on" else reader.close()
    raise SystemExit("the run failed")


def main() -> None:
    """Run the simulation and print what the page costs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--blocks", type=int, default=20, help="pairs of blocks, one with and one without the page")
    parser.add_argument("--block", type=int, default=6, help="rounds of a block")
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--run", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.run:
        _run(json.loads(given.run), given.block)
        return
    rounds = given.block * 2 * given.blocks
    settings = {"client_num": given.clients, "iterations": rounds, "epochs": given.epochs, "workers": 1}
    with tempfile.TemporaryDirectory() as place:
        times = _measured({**settings, "work_dir": str(Path(place) / "run")}, given.block)
    ratios, slower, notes, pages, of_clock = [], [], [], [], []
    for first in range(0, rounds, 2 * given.block):
        (plain, _, clock, _), (shown, page, shown_clock, noted) = (
            [end - begin for begin, end in zip(times[at], times[at + given.block - 1], strict=True)]
            for at in (first, first + given.block)
        )
        ratios.append(shown / plain - 1)
        notes.append(noted / plain)
        slower.append(shown_clock / clock - 1)
        pages.append(page / plain)
        of_clock.append(page / shown_clock)
    print(
        f"{given.blocks} pairs of blocks of {given.block - 1} rounds, {statistics.fmean(slower):+.1%} by the clock\n"
        f"the process that trains: {_mean(ratios)}; its notes of uploads {statistics.fmean(notes):.2%}\n"
        f"the page's process: {_mean(pages)} of the training's processor time, {statistics.fmean(of_clock):.2%} of the "
        f"clock\nload average {os.getloadavg()[0]:.1f}"
    )


def _mean(values: list[float]) -> str:
    error = statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else float("nan")
    return f"{statistics.fmean(values):+.2%} ± {error:.2%} (median {statistics.median(values):+.2%})"


if __name__ == "__main__":
    main()
