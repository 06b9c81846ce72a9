"""The load generator, as small as it goes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path


def test_every_device_is_served_beside_idle_connections(benchmarks: Path, tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    command = [sys.executable, benchmarks / "load.py", "--devices", "12", "--at_once", "3", "--idle", "20"]
    command += ["--poll_seconds", "0.01", "--json", figures]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(figures.read_text())
    counts = {endpoint: row["count"] for endpoint, row in found["endpoints"].items()}
    assert counts["startFLJob"] == counts["updateModel"] == 12
    assert counts["getModel"] == 12 + found["not_ready"]
    assert "12 devices, 3 at once, 20 idle connections" in done.stdout


def test_errors_are_counted_and_told(benchmarks: Path, tmp_path: Path) -> None:
    command = [sys.executable, benchmarks / "load.py", "--devices", "4", "--server_option=--start_fl_job_threshold=3"]
    command += ["--poll_seconds", "0.01"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1 and ", 1 errors," in done.stdout
    assert "startFLJob was answered 300" in done.stdout
