"""Measure what the live page of many clients asks of a browser: its tasks while it loads, and while rounds come.

    python benchmarks/live_page.py --clients 3500 --rounds 100

Needs playwright and Chromium. A task is long if it takes above 50 ms. Time by the clock grows with the load of the
machine, processor time of the page's thread hardly.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright

from mindfl.sim.history import HistoryFiles, IterationRow

_PAUSE_MS = 500


class WrittenRun:
    """A run folder with drawn accuracies."""

    def __init__(self, folder: Path, clients: int, iterations: int) -> None:
        self._names = [f"writer_{number:05d}" for number in range(clients)]
        self._files = HistoryFiles(folder)
        self._random = random.Random(0)
        self._rounds = 0
        config = {"settings": {"model": "lenet", "iterations": iterations}, "data": {"users": clients}, "ended": None}
        (folder / "config.json").write_text(json.dumps(config))
        (folder / ".lock").write_text(f"{os.getpid()}\n")
        self._files.begin()

    def round(self) -> int:
        """Write a round and return its number."""
        self._rounds += 1
        accuracies = {name: self._random.randrange(21) / 20 for name in self._names}
        drawn = len(self._names) // 10
        average = sum(accuracies.values()) / len(accuracies)
        values: dict[str, Any] = {
            **{"iteration": self._rounds, "avg": average, "top5": 1.0, "low5": 0.0, "loss": 4 / self._rounds},
            **{"clients": drawn, "samples": 200 * drawn, "steps": 35 * drawn, "steps_per_s": 400.0, "seconds": 9.5},
            **{"bytes_down": 531232 * drawn, "bytes_up": 265616 * drawn, "evaluated": len(accuracies)},
            **{"measured": "all", "accuracies": accuracies},
            "participants": tuple(sorted(self._random.sample(range(len(self._names)), drawn))),
        }
        self._files.append(IterationRow(**values))
        return self._rounds


@contextmanager
def _watched(folder: Path) -> Iterator[str]:
    command = [sys.executable, "-m", "mindfl", "watch", str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


def _wait(page: Page, number: int) -> None:
    while page.evaluate("document.querySelector('#rounds-rows th')?.textContent") != str(number):
        page.wait_for_timeout(20)


def tasks(browser: Browser, page: Page, use: Any) -> list[tuple[float, float]]:
    """Return clock and processor time, in milliseconds, of the tasks of the page's thread while ``use`` runs."""
    browser.start_tracing(page=page)
    use()
    events = json.loads(browser.stop_tracing())["traceEvents"]
    threads = {(e["pid"], e["tid"]) for e in events if e.get("args", {}).get("name") == "CrRendererMain"}
    found = (e for e in events if e["name"] == "RunTask" and (e["pid"], e["tid"]) in threads)
    return [(e["dur"] / 1000, e.get("tdur", 0) / 1000) for e in found if e.get("dur")]


def _report(title: str, found: list[tuple[float, float]], rounds: int) -> None:
    clock, processor = (sorted(times, reverse=True) for times in zip(*found, strict=True))
    print(
        f"{title}: {sum(processor) / rounds:.0f} ms of processor time per round; "
        f"by processor time {_longest(processor)}; by the clock {_longest(clock)}",
        flush=True,
    )


def _longest(times: list[float]) -> str:
    listed = ", ".join(f"{each:.0f}" for each in times[:3])
    return f"{sum(each > 50 for each in times)} tasks above 50 ms, the longest {listed} ms"


def main() -> None:
    """Write a run, load its page, add rounds, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=3500)
    parser.add_argument("--rounds", type=int, default=100, help="rounds that are there when the page is loaded")
    parser.add_argument("--further", type=int, default=20, help="rounds that come while the page is open")
    given = parser.parse_args()
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    options = ["--no-sandbox", "--disable-gpu"]
    with tempfile.TemporaryDirectory() as place, sync_playwright() as started:
        run = WrittenRun(Path(place), given.clients, given.rounds + given.further)
        for _ in range(given.rounds):
            run.round()
        browser = started.chromium.launch(executable_path=chromium, args=options)
        with _watched(Path(place)) as url:
            page = browser.new_page(viewport={"width": 1280, "height": 1000})

            def load() -> None:
                before = time.monotonic()
                page.goto(url)
                _wait(page, given.rounds)
                print(f"{given.clients} clients, {given.rounds} rounds: loaded in {time.monotonic() - before:.1f} s")
                page.wait_for_timeout(2 * _PAUSE_MS)

            def grow() -> None:
                for _ in range(given.further):
                    _wait(page, run.round())
                    page.wait_for_timeout(_PAUSE_MS)

            _report("loading", tasks(browser, page, load), given.rounds)
            _report("rounds that come", tasks(browser, page, grow), given.further)
        browser.close()
    print(f"load average of the machine: {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
