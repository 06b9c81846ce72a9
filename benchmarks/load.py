"""Let many devices do one LeNet iteration over HTTP, and report what the server made of it.

    python benchmarks/load.py --devices 3500 --idle 10000
    python benchmarks/load.py --target http://127.0.0.1:6668 --devices 200

Without --target a ``mindfl server`` is started for the run. A server that is running already, ours or the reference,
must have --devices as its start_fl_job_threshold, LeNet's eight weights, and windows that are long enough. The
generator is one thread of one process; how busy it was is reported: near 100 %, it and not the server is the limit.
"""

from __future__ import annotations

import argparse
import json
import resource
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from lenet_weights import flat_weights
from load_fleet import Bodies, Fleet, Tally, answer_field

from mindfl.protocol import RequestGetModel, encode

_SETTINGS = """\
fl_name: load
fl_iteration_num: 1000
server_mode: FEDERATED_LEARNING
enable_ssl: false
distributed_cache: {{type: redis, address: "127.0.0.1:6379"}}
round:
  start_fl_job_threshold: {devices}
  start_fl_job_time_window: 600000
  update_model_ratio: 1.0
  update_model_time_window: 600000
  global_iteration_time_window: 1200000
summary: {{metrics_file: metrics.json, failure_event_file: event.txt}}
"""


@contextmanager
def own_server(devices: int, options: list[str]) -> Iterator[tuple[str, int]]:
    """Start ``mindfl server`` for the context; yield its URL and process id."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "fl.yaml").write_text(_SETTINGS.format(devices=devices))
        np.savez(Path(folder, "lenet.npz"), allow_pickle=False, **flat_weights())
        command = [sys.executable, "-m", "mindfl", "server", "start", "--config", "fl.yaml", "--model", "lenet.npz"]
        command += ["--http_server_address", "127.0.0.1:0", "--quiet", *options]
        with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            line = process.stdout.readline()
            if not line.startswith("ready "):
                sys.exit("the server did not start")
            try:
                yield line.split()[1], process.pid
            finally:
                process.terminate()


def current_iteration(url: str) -> int:
    """Ask the server which iteration it is in."""
    place = urlsplit(url)
    connection = HTTPConnection(place.hostname or "", place.port, timeout=60)
    connection.request("POST", place.path.rstrip("/") + "/getModel", encode(RequestGetModel(fl_name="load")))
    body = connection.getresponse().read()
    connection.close()
    return answer_field(body, 2)


def hold_idle(url: str, count: int, stack: ExitStack) -> None:
    """Open ``count`` connections that send nothing."""
    place = urlsplit(url)
    for _ in range(count):
        stack.enter_context(socket.create_connection((place.hostname or "", place.port or 80), 60))


def memory(process: int | None) -> dict[str, float]:
    """Return a process's present and highest resident memory in MiB."""
    if process is None:
        return {}
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    values = {line.split(":")[0]: int(line.split()[1]) for line in lines if line.startswith(("VmRSS", "VmHWM"))}
    return {"rss_mib": values["VmRSS"] / 1024, "peak_mib": values["VmHWM"] / 1024}


def cpu_seconds(process: int | None) -> float:
    """Return the processor time that a process has used."""
    if process is None:
        return 0.0
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


def measure(url: str, process: int | None, arguments: argparse.Namespace) -> dict[str, Any]:
    """Run one iteration and return the figures."""
    with ExitStack() as stack:
        before = memory(process)
        hold_idle(url, arguments.idle, stack)
        held = memory(process)
        fleet = Fleet(url, arguments.devices, arguments.at_once, arguments.poll_seconds, Bodies(current_iteration(url)))
        own, server, begun = time.process_time(), cpu_seconds(process), time.perf_counter()
        tally = fleet.run()
        seconds = time.perf_counter() - begun
        return {
            "devices": arguments.devices,
            "at_once": arguments.at_once,
            "idle": arguments.idle,
            "seconds": seconds,
            "requests_per_second": sum(map(len, tally.seconds.values())) / seconds,
            "errors": len(tally.errors),
            "first_errors": tally.errors[:3],
            "not_ready": tally.not_ready,
            "sent_mib": tally.sent_bytes / 2**20,
            "received_mib": tally.received_bytes / 2**20,
            "generator_busy": (time.process_time() - own) / seconds,
            "server_busy": (cpu_seconds(process) - server) / seconds,
            "endpoints": latencies(tally),
            "server_at_start": before,
            "server_with_idle": held,
            "server_at_end": memory(process),
        }


def latencies(tally: Tally) -> dict[str, dict[str, float]]:
    """Return count, median and 99th percentile in ms of each endpoint."""
    found = {}
    for endpoint, seconds in tally.seconds.items():
        median, high = np.percentile(seconds, [50, 99]) * 1000 if seconds else (np.nan, np.nan)
        found[endpoint] = {"count": len(seconds), "p50_ms": float(median), "p99_ms": float(high)}
    return found


def table(figures: dict[str, Any]) -> str:
    """Return the figures for people."""
    lines = [
        f"{figures['devices']} devices, {figures['at_once']} at once, {figures['idle']} idle connections beside them:"
        f" {figures['seconds']:.2f} s, {figures['requests_per_second']:.0f} requests/s, {figures['errors']} errors,"
        f" {figures['not_ready']} answered 201",
        f"generator {figures['generator_busy']:.0%} of a processor, server {figures['server_busy']:.0%}",
        f"{'':12}{'requests':>9}{'p50 ms':>10}{'p99 ms':>10}",
    ]
    for endpoint, row in figures["endpoints"].items():
        lines.append(f"{endpoint:12}{row['count']:9}{row['p50_ms']:10.1f}{row['p99_ms']:10.1f}")
    for name in ("server_at_start", "server_with_idle", "server_at_end"):
        if figures[name]:
            lines.append(f"{name}: {figures[name]['rss_mib']:.0f} MiB, highest {figures[name]['peak_mib']:.0f} MiB")
    return "\n".join([*lines, *figures["first_errors"]])


def load_parser(description: str | None) -> argparse.ArgumentParser:
    """Return a parser of what :func:`measure` takes."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--devices", type=int, default=3500, help="devices of the iteration")
    parser.add_argument("--at_once", type=int, help="devices before or in their upload at a time  [default: all]")
    parser.add_argument("--poll_seconds", type=float, default=1.0, help="pause of a device before it asks again")
    parser.add_argument("--idle", type=int, default=0, help="connections that send nothing during the iteration")
    return parser


def load_arguments(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """Parse the command line, and let this process have as many connections as it may."""
    arguments = parser.parse_args()
    arguments.at_once = arguments.at_once or arguments.devices
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return arguments


def main() -> None:
    """Run the program."""
    parser = load_parser(__doc__)
    parser.add_argument("--target", help="URL of a running server  [default: start one]")
    parser.add_argument("--server_pid", type=int, help="its process, to report memory and processor time")
    parser.add_argument("--server_option", action="append", default=[], help="of the started server; repeatable")
    parser.add_argument("--json", type=Path, help="file for the figures")
    arguments = load_arguments(parser)
    with ExitStack() as stack:
        url, process = arguments.target, arguments.server_pid
        if url is None:
            url, process = stack.enter_context(own_server(arguments.devices, arguments.server_option))
        figures = measure(url, process, arguments)
    print(table(figures))
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2))
    if figures["errors"]:
        sys.exit(1)


if __name__ == "__main__":
    main()
