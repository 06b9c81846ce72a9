"""The processes of a job as a user starts them, and devices that talk to them."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray
from server_yaml import server_yaml

import mindfl
from mindfl.protocol import (
    Request,
    RequestFLJob,
    RequestGetModel,
    RequestUpdateModel,
    Response,
    ResponseFLJob,
    ResponseGetModel,
    ResponseUpdateModel,
    decode_response,
    encode,
)

SCRIPT = Path(__file__).with_name("federated_script.py")
WAIT_S = 120.0


def settings(folder: Path, clients: int = 2, iterations: int = 3, store: str = "") -> None:
    """Write the settings of a job; ``store``: the address of its Redis, "" for that of the settings before."""
    path = folder / "fl.yaml"
    store = store or yaml.safe_load(path.read_text())["distributed_cache"]["address"]
    cache = f'type: redis, address: "{store}"'
    path.write_text(server_yaml(iterations=iterations, clients=clients, window=300_000, cache=cache))


class Process:
    """A process whose lines can be awaited. ``errors`` holds what it wrote to standard error, once it has ended."""

    def __init__(self, folder: Path, role: str, address: str) -> None:
        self.address = address
        self._lines: queue.Queue[str | None] = queue.Queue()
        self.seen: deque[str] = deque(maxlen=16)
        self._errors = (folder / f"{role}-{address}.err").open("w+")
        environment = {
            **os.environ,
            "PYTHONPATH": str(Path(mindfl.__file__).parents[1]),
            "MINDFL_CACHE": str(folder / "cache"),
        }
        self.process = subprocess.Popen(
            [sys.executable, SCRIPT, role, "fl.yaml", address],
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout
        with self.process.stdout as lines:
            for line in lines:
                self._lines.put(line.rstrip("\n"))
        self._lines.put(None)

    def line(self, part: str) -> str:
        """Return the next line that holds ``part``."""
        while True:
            line = self._lines.get(timeout=WAIT_S)
            assert line is not None, (part, list(self.seen), self.errors())
            self.seen.append(line)
            if part in line:
                return line

    def lines(self, *parts: str) -> None:
        """Await a line for each of ``parts``, in any order: a callback's lines come from a thread of its own."""
        missing = set(parts)
        while missing:
            line = self.line("")
            missing -= {part for part in missing if part in line}

    def errors(self) -> str:
        """Return what was written to standard error so far."""
        self._errors.seek(0)
        return self._errors.read()

    def end(self, number: signal.Signals) -> int:
        """Send a signal and return the exit code."""
        self.process.send_signal(number)
        return self.process.wait(WAIT_S)

    def ask(self, request: Request) -> Response:
        """Send a message and return the one that answers it."""
        endpoint = {RequestFLJob: "startFLJob", RequestUpdateModel: "updateModel", RequestGetModel: "getModel"}
        body = self.http("POST", f"/{endpoint[type(request)]}", encode(request))[1]
        return decode_response(body, type(request))

    def http(self, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
        """Return status and body of an answer."""
        connection = HTTPConnection(self.address, timeout=WAIT_S)
        try:
            connection.request(method, path, body)
            reply = connection.getresponse()
            return reply.status, reply.read()
        finally:
            connection.close()

    def manage(self, path: str, **changes: object) -> dict[str, Any]:
        """Return the JSON value that a management path is answered with."""
        content = json.dumps(changes).encode() if changes else None
        value: dict[str, Any] = json.loads(self.http("POST", path, content)[1])
        return value

    def start(self, fl_id: str) -> ResponseFLJob:
        """Let a device join the iteration."""
        response = self.ask(RequestFLJob(fl_name="any", fl_id=fl_id, data_size=3, timestamp="1"))
        assert isinstance(response, ResponseFLJob), response
        return response

    def upload(self, fl_id: str, iteration: int) -> Response:
        """Let a device upload; return the answer."""
        weights = upload(fl_id, iteration)
        return self.ask(
            RequestUpdateModel(fl_name="any", fl_id=fl_id, iteration=iteration, feature_map=weights, timestamp="1")
        )

    def update(self, fl_id: str, iteration: int) -> int | None:
        """Let a device upload; return the code of the answer."""
        response = self.upload(fl_id, iteration)
        assert isinstance(response, ResponseUpdateModel), response
        return response.retcode

    def model(self, iteration: int) -> ResponseGetModel:
        """Ask for a model."""
        response = self.ask(RequestGetModel(fl_name="any", iteration=iteration))
        assert isinstance(response, ResponseGetModel), response
        return response


def upload(fl_id: str, iteration: int) -> dict[str, NDArray[np.float32]]:
    """Return what a device uploads; the same every time."""
    generator = np.random.default_rng((int(fl_id), iteration))
    sizes = {"bn.moving_mean": 1, "fc.bias": 2, "fc.weight": 6}
    return {name: generator.normal(0, 9, size).astype(np.float32) for name, size in sizes.items()}


def average(clients: list[str], iteration: int) -> dict[str, NDArray[np.float32]]:
    """Return the model that these devices' uploads make."""
    uploads = [upload(fl_id, iteration) for fl_id in clients]
    return {
        name: (sum(each[name].astype(np.float64) for each in uploads) / (3 * len(clients))).astype(np.float32)
        for name in ("fc.bias", "fc.weight")
    }


Launch = Callable[..., Process]


def await_nodes(boss: Process, servers: list[Process]) -> None:
    """Wait until these servers and no others are listed: one that was killed is until its key has expired."""
    expected = [server.address for server in servers]
    deadline = time.monotonic() + WAIT_S
    while [node["tcp_address"] for node in boss.manage("/state").get("nodes", [])] != expected:
        assert time.monotonic() < deadline
        time.sleep(0.1)


def scheduler(launch: Launch) -> Process:
    """Start a scheduler."""
    return launch("MS_SCHED")


def assert_model(response: ResponseGetModel, expected: dict[str, NDArray[np.float32]]) -> None:
    """Compare weights to the last bit but one: the sums here are not the server's."""
    assert response.retcode == 200 and response.feature_map is not None
    assert sorted(response.feature_map) == sorted(expected)
    for name, values in expected.items():
        np.testing.assert_array_max_ulp(response.feature_map[name], values, 1)
