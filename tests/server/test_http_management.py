"""The management address."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from http.client import HTTPConnection
from pathlib import Path
from threading import Event, Thread
from typing import Any

import numpy as np
import pytest
from http_requests import MODEL, start, update
from server_yaml import server_yaml

from mindfl.protocol import PlainText
from mindfl.server import Coordinator
from mindfl.server.http import HttpService, ManagementFront, VolatileJob, listen
from mindfl.server.http.sockets import Address, bound_address
from mindfl.server.iteration import Clock
from mindfl.server.management import Management, ServerNode
from mindfl.server.settings import JobSettings, read_settings


@pytest.fixture
def settings(tmp_path: Path) -> JobSettings:
    (tmp_path / "fl.yaml").write_text(server_yaml(iterations=2, clients=1))
    return read_settings(tmp_path / "fl.yaml")


class Managed:
    """A job with a management address."""

    def __init__(self, settings: JobSettings) -> None:
        self.job = Coordinator(settings.server_config(), MODEL)
        self.instances: list[tuple[str, int]] = []
        self.management = Management(
            self.job,
            settings,
            lambda: [ServerNode("first", "127.0.0.1:6668")],
            clock=Clock(),
            renewed=lambda name, number: self.instances.append((name, number)),
            changed=lambda: None,
        )
        self.sockets = listen(Address("127.0.0.1", 0), "address")
        self.address = str(bound_address(self.sockets[0]))

    def call(self, path: str, body: bytes | None = None, method: str = "GET") -> tuple[int, str, str, Any]:
        """Return status, reason, content type and the JSON value."""
        connection = HTTPConnection(self.address, timeout=20)
        connection.request(method, path, body)
        reply = connection.getresponse()
        content = reply.read()
        connection.close()
        kind = reply.getheader("Content-Type", "")
        return reply.status, reply.reason, kind, json.loads(content) if reply.status != 404 else content

    def refusal(self, path: str, body: bytes | None = None) -> str:
        """Return the message of a call that is refused."""
        status, reason, _, value = self.call(path, body, "POST")
        assert (status, reason, value["code"]) == (400, "Client", "1")
        return value["error_message"]

    async def serve(self, ready: Event, stopping: asyncio.Event) -> None:
        service = HttpService(VolatileJob(self.job))
        await service.serve(ManagementFront(self.management, service.workers), self.sockets)
        ready.set()
        await stopping.wait()
        await service.stop()


@contextmanager
def running(settings: JobSettings) -> Iterator[Managed]:
    managed, ready, loop = Managed(settings), Event(), asyncio.new_event_loop()
    stopping = asyncio.Event()
    thread = Thread(target=loop.run_until_complete, args=(managed.serve(ready, stopping),))
    thread.start()
    ready.wait(20)
    try:
        yield managed
    finally:
        loop.call_soon_threadsafe(stopping.set)
        thread.join()
        loop.close()


@pytest.fixture
def managed(settings: JobSettings) -> Iterator[Managed]:
    with running(settings) as found:
        yield found


@pytest.mark.parametrize(("method", "body"), [("GET", None), ("POST", b""), ("POST", b"{}"), ("POST", b"no json")])
def test_state_by_any_method_with_any_body(managed: Managed, method: str, body: bytes | None) -> None:
    assert managed.call("/state", body, method) == (
        200,
        "Client",
        "application/json",
        {
            "cluster_state": "CLUSTER_READY",
            "code": "0",
            "message": "Get cluster state successful.",
            "nodes": [{"node_id": "first", "role": "SERVER", "tcp_address": "127.0.0.1:6668"}],
        },
    )


def test_query_instance_shows_the_settings(managed: Managed) -> None:
    value = managed.call("/queryInstance")[3]
    assert value["message"] == "Query Instance successful." and len(value["nodes"]) == 1
    assert value["result"]["start_fl_job_threshold"] == 1
    assert value["result"]["client_learning_rate"] == float(np.float32(0.001))


def test_unknown_path_is_a_page(managed: Managed) -> None:
    assert managed.call("/nonsense")[0] == 404


def test_disable_and_enable(managed: Managed) -> None:
    assert managed.refusal("/enableFLS") == "The instance has already been enabled."
    assert managed.call("/disableFLS")[3] == {"code": "0", "message": "start disabling FL-Server successful."}
    assert isinstance(managed.job.handle(start(), 0), PlainText)
    assert managed.call("/state")[3]["cluster_state"] == "CLUSTER_DISABLE"
    assert managed.refusal("/disableFLS") == "The instance has already been disabled."
    assert managed.call("/enableFLS")[3] == {"code": "0", "message": "start enabling FL-Server successful."}
    assert managed.job.iteration == 2


def test_a_finished_job_is_neither_disabled_nor_enabled_but_begun_anew(managed: Managed) -> None:
    for iteration in (1, 2):
        managed.job.handle(start(), 0)
        managed.job.handle(update(iteration=iteration), 0)
    assert managed.call("/state")[3]["cluster_state"] == "CLUSTER_FINISH"
    assert managed.refusal("/disableFLS") == "The instance is completed and cannot be disabled."
    assert managed.refusal("/enableFLS") == "The instance is completed and cannot be enabled."
    changes = {"fl_iteration_num": 7, "client_learning_rate": 0.5, "nonsense": 1}
    value = managed.call("/newInstance", json.dumps(changes).encode(), "POST")[3]
    assert value == {"code": "0", "message": "Start new instance successful."}
    assert (managed.job.iteration, managed.job.config.fl_iteration_num) == (1, 7)
    assert managed.call("/queryInstance")[3]["result"]["client_learning_rate"] == 0.5
    ((name, iterations),) = managed.instances
    assert name.startswith("i_20") and iterations == 7 and managed.job.job.instance == name
    assert managed.job.model["a"].tolist() == [3.0] * 4


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "The post message size is invalid."),
        (b"{not json", "Illegal JSON format:"),
        (b"\xff\xfe", "Illegal JSON format:"),
        (b"[" * 100_000, "Illegal JSON format:"),
        (b"[1, 2]", "New instance failed: Expect hyper param config to be json object"),
        (
            b'{"start_fl_job_threshold": "many"}',
            "New instance failed: Field start_fl_job_threshold in hyper param config should be unsigned integer number",
        ),
    ],
)
def test_what_new_instance_refuses_changes_nothing(managed: Managed, body: bytes, message: str) -> None:
    assert managed.refusal("/newInstance", body).startswith(message)
    assert managed.job.config.start_fl_job_threshold == 1 and managed.instances == []


def test_a_body_beyond_a_megabyte_is_refused(managed: Managed) -> None:
    connection = HTTPConnection(managed.address, timeout=20)
    connection.putrequest("POST", "/newInstance")
    connection.putheader("Content-Length", str(2**20 + 1))
    connection.endheaders()
    assert connection.getresponse().status == 413
    connection.close()


def test_the_id_of_a_server_holds_its_address_and_its_start_as_the_references_does() -> None:
    """The real one's: 127.0.0.1:39647::2026-11-29-12:34:28.718.626::69383"""
    node = ServerNode.begun("127.0.0.1:39647", datetime(2026, 11, 29, 12, 34, 28, 718_626))
    begin, _, number = node.node_id.rpartition("::")
    assert begin == "127.0.0.1:39647::2026-11-29-12:34:28.718.626" and node.tcp_address == "127.0.0.1:39647"
    assert number.isdecimal() and len(number) == 5
