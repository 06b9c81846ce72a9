"""The page beside a job: it lives as long as the job does, and the job's uploads are written for it."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from stand_in_runs import StandInRun

from mindfl.live.beside import page_beside
from mindfl.live.upload_timeline import UploadTimeline
from mindfl.sim.callbacks import Progress, PythonReporter


def events(url: str) -> Iterator[tuple[str, Any]]:
    with urllib.request.urlopen(url + "events", timeout=30) as answer:
        kind = ""
        for line in answer:
            if line.startswith(b"event: "):
                kind = line.decode().split()[1]
            elif line.startswith(b"data: "):
                yield kind, json.loads(line[6:])


def test_the_page_is_told_of_the_last_round_before_it_ends(tmp_path: Path) -> None:
    run = StandInRun(tmp_path / "ein Lauf").begin(lives=True)
    told: list[str] = []
    with page_beside(run.folder, 0, told.append):
        url = re.fullmatch(r"live page (http://127\.0\.0\.1:\d+/)", told[0])[1]  # type: ignore[index]
        stream = events(url)
        assert next(stream)[0] == "begin"
        kind, header = next(stream)
        assert (kind, header["state"]) == ("run", "training")
        run.round()
        while next(stream)[0] != "row":
            pass
        run.round()
        run.end()
    rest = list(stream)
    assert [value["iteration"] for kind, value in rest if kind == "row"] == [2]
    assert [value["state"] for kind, value in rest if kind == "run"][-1] == "ended"
    assert rest[-1] == ("end", {})
    with pytest.raises(OSError):
        urllib.request.urlopen(url, timeout=5)


def test_the_page_ends_with_a_job_that_is_killed(tmp_path: Path) -> None:
    program = (
        "import sys, time; from pathlib import Path; from mindfl.live.beside import page_beside\n"
        "with page_beside(Path(sys.argv[1]), 0, lambda text: print(text, flush=True)): time.sleep(60)"
    )
    run = StandInRun(tmp_path).begin(lives=True)
    job = subprocess.Popen([sys.executable, "-c", program, str(run.folder)], stdout=subprocess.PIPE, text=True)
    assert job.stdout is not None
    url = job.stdout.readline().split()[-1]
    stream = events(url)
    assert next(stream)[0] == "begin"
    job.send_signal(signal.SIGKILL)
    job.wait()
    *_, (kind, header), end = stream
    assert (kind, header["state"], end) == ("run", "stopped", ("end", {}))


class Told(PythonReporter):
    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warning(self, text: str) -> None:
        self.warnings.append(text)

    def row(self, row: object) -> None:
        pass


@pytest.fixture
def clock() -> list[float]:
    return [100.0]


def test_uploads_are_written_with_their_time_in_the_round(tmp_path: Path, clock: list[float]) -> None:
    path = tmp_path / "timeline.jsonl"
    path.write_text("an earlier run's\n")
    timeline = UploadTimeline(Told(), clock=lambda: clock[0])
    timeline.begin(tmp_path)
    timeline.stage("training 3000 clients")
    for iteration in (1, 2):
        for done in range(1, 3001):
            clock[0] += 0.01
            timeline.progress(Progress(iteration, done, 3000, float("nan"), 2))
        timeline.row(None)  # type: ignore[arg-type]
    found = [json.loads(line) for line in path.read_text().splitlines()]
    first = [entry for entry in found if entry["iteration"] == 1]
    assert 90 <= len(first) <= 101 and len(found) == 2 * len(first)
    assert first[-1] == {"iteration": 1, "seconds": 30.0, "uploads": 3000, "clients": 3000, "loss": None}
    assert all(entry["seconds"] == pytest.approx(entry["uploads"] / 100, abs=1e-3) for entry in found)


def test_a_timeline_goes_on_with_a_run_that_is_resumed(tmp_path: Path, clock: list[float]) -> None:
    for iteration in (1, 2):
        timeline = UploadTimeline(Told(), clock=lambda: clock[0])
        timeline.progress(Progress(iteration, 1, 1, 0.5, 2))  # before it knows where to write
        timeline.begin(tmp_path)
        timeline.progress(Progress(iteration, 1, 1, 0.5, 2))
    assert (tmp_path / "timeline.jsonl").read_text().count("\n") == 2


def test_a_timeline_that_cannot_be_written_is_warned_of_once(tmp_path: Path, clock: list[float]) -> None:
    told = Told()
    timeline = UploadTimeline(told, clock=lambda: clock[0])
    timeline.begin(tmp_path / "nothing")
    for done in (1, 2):
        timeline.progress(Progress(1, done, 2, 0.5, 1))
    (warning,) = told.warnings
    assert "nothing/timeline.jsonl: No such file" in warning
