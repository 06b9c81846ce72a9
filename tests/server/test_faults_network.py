"""Faults between devices and a server, and of their clocks: the job continues, and its model is the same."""

from __future__ import annotations

import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPConnection, HTTPException

import numpy as np
import pytest
from faults_process import HOUR, DeviceFleet, model_bytes, now_ms, undisturbed
from http_requests import Device, head

from mindfl.client import JobResult
from mindfl.protocol import (
    Request,
    RequestFLJob,
    RequestGetModel,
    RequestUpdateModel,
    ResponseCode,
    ResponseFLJob,
    ResponseUpdateModel,
    decode_response,
    encode,
)
from mindfl.server import Coordinator, IterationRecord, ServerConfig
from mindfl.server.http import BackgroundServer
from mindfl.server.iteration import Clock

WEIGHTS = {"fc.weight": np.ones((30, 40), np.float32), "fc.bias": np.zeros(30, np.float32)}


def coordinator(
    clients: int,
    iterations: int,
    ended: Callable[[IterationRecord], None],
    *,
    clock: Clock | None = None,
    ratio: float = 1.0,
    window: int = HOUR,
) -> Coordinator:
    config = ServerConfig(
        fl_iteration_num=iterations,
        start_fl_job_threshold=clients,
        update_model_ratio=ratio,
        start_fl_job_time_window=window,
        update_model_time_window=window,
        global_iteration_time_window=window,
        client_batch_size=8,
    )
    return Coordinator(config, WEIGHTS, on_iteration_end=ended, wall=(clock or Clock()).wall_ms)


def code(device: Device, request: Request) -> int:
    """Return the retcode of the answer; 0 for one of plain text."""
    return getattr(device.ask(request), "retcode", 0)


class LossyProxy:
    """Stands before a server and loses a share of the requests, and of the answers, by hanging up."""

    def __init__(self, port: int, share: float, seed: int) -> None:
        self.lost = {"request": 0, "answer": 0}
        self.passed = 0
        self._server_port = port
        self._share = share
        self._draw = random.Random(seed)
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    @contextmanager
    def running(self) -> Iterator[LossyProxy]:
        thread = threading.Thread(target=self._accept, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            thread.join()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                threading.Thread(target=self._relay, args=(connection,), daemon=True).start()

    def _fate(self) -> str:
        with self._lock:
            what = self._draw.choices(["request", "answer", ""], [self._share / 2, self._share / 2, 1 - self._share])[0]
            if what:
                self.lost[what] += 1
            else:
                self.passed += 1
            return what

    def _relay(self, connection: socket.socket) -> None:
        with connection, suppress(HTTPException, OSError):
            server = HTTPConnection("127.0.0.1", self._server_port, timeout=30)
            while request := _read_request(connection):
                fate = self._fate()
                if fate == "request":
                    return
                path, body = request
                server.request("POST", path, body)
                content = server.getresponse().read()
                if fate == "answer":
                    return
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(content), content))


def _read_request(connection: socket.socket) -> tuple[str, bytes] | None:
    data = b""
    while b"\r\n\r\n" not in data:
        piece = connection.recv(65536)
        if not piece:
            return None
        data += piece
    start, _, body = data.partition(b"\r\n\r\n")
    lines = start.decode().split("\r\n")
    length = next(int(line.partition(":")[2]) for line in lines if line.lower().startswith("content-length:"))
    while len(body) < length:
        body += connection.recv(65536)
    return lines[0].split()[1], body


def test_a_proxy_that_loses_a_tenth_of_everything() -> None:
    clients, iterations = 6, 6
    records: list[IterationRecord] = []
    job = coordinator(clients, iterations, records.append)
    with BackgroundServer(job) as server:
        port = int(server.url.rpartition(":")[2])
        with LossyProxy(port, 0.1, seed=4).running() as proxy, DeviceFleet(proxy.url, range(clients)) as fleet:
            fleet.join()
    assert fleet.results == dict.fromkeys(range(clients), JobResult(iterations, ResponseCode.SUCCEED))
    assert [(record.valid, record.started, record.uploads) for record in records] == [(True, clients, clients)] * 6
    assert model_bytes(job.model) == undisturbed(clients, iterations, WEIGHTS)
    assert proxy.lost["request"] and proxy.lost["answer"] and proxy.passed


@pytest.mark.parametrize("gone", ["stalls", "hangs up"])
def test_a_client_in_mid_upload_holds_nobody_up(gone: str) -> None:
    """Two of three complete every iteration; the place of the third is free again in the next one."""
    records: list[IterationRecord] = []
    job = coordinator(3, 4, records.append, ratio=0.6)
    weights = {name: np.ones(values.size, np.float32) for name, values in WEIGHTS.items()}
    body = encode(RequestUpdateModel(fl_id="late", iteration=1, feature_map=weights, timestamp="1"))
    with BackgroundServer(job) as server, Device(server.url) as late:
        assert code(late, RequestFLJob(fl_name="x", fl_id="late", data_size=5, timestamp="1")) == 200
        late.send(head("/updateModel", len(body)), body[: len(body) // 2])
        if gone == "hangs up":
            late.socket.close()
        with DeviceFleet(server.url, range(2)) as fleet:
            fleet.join()
        assert [(record.valid, record.uploads, record.started) for record in records] == [(True, 2, 3)] + [
            (True, 2, 2)
        ] * 3
        if gone == "stalls":
            late.send(body[len(body) // 2 :])
            answer = decode_response(late.receive().body, RequestUpdateModel)
            assert getattr(answer, "text", "").endswith("disabled or finished.")
    assert model_bytes(job.model) == undisturbed(2, 4, WEIGHTS)


STEP_NS = 600 * 10**9


class SteppedClock:
    """A wall clock that is set forwards and back by ten minutes, the monotonic one undisturbed."""

    def __init__(self) -> None:
        self.offset_ns = 0
        self.clock = Clock(time.monotonic_ns, lambda: time.time_ns() + self.offset_ns)
        self._steps = [STEP_NS, -STEP_NS, 0] * 20

    def step(self, record: IterationRecord) -> None:
        """Set the clock at the end of each iteration."""
        self.offset_ns = self._steps[record.iteration]

    def device_ms(self) -> int:
        """Return what a device's clock shows, which is set like the server's."""
        return (time.time_ns() + self.offset_ns) // 1_000_000


def test_clocks_that_are_set_by_ten_minutes_while_clients_train() -> None:
    clients, iterations, window = 3, 7, 120_000
    records: list[IterationRecord] = []
    stepped = SteppedClock()

    def ended(record: IterationRecord) -> None:
        stepped.step(record)
        records.append(record)

    job = coordinator(clients, iterations, ended, clock=stepped.clock, window=window)
    with BackgroundServer(job, clock=stepped.clock) as server:
        fleet = DeviceFleet(server.url, range(clients), stepped.device_ms)
        with fleet:
            fleet.join()
    assert fleet.results == dict.fromkeys(range(clients), JobResult(iterations, ResponseCode.SUCCEED))
    assert [(record.valid, record.uploads) for record in records] == [(True, clients)] * iterations
    assert model_bytes(job.model) == undisturbed(clients, iterations, WEIGHTS)


@pytest.mark.parametrize("minutes", [-10, 10])
def test_what_devices_are_told_after_a_step_is_ahead_of_the_clock_as_it_is_now(minutes: int) -> None:
    window = 60_000
    stepped = SteppedClock()
    job = coordinator(1, 2, lambda record: None, clock=stepped.clock, window=window)
    with BackgroundServer(job, clock=stepped.clock) as server, Device(server.url) as device:
        assert code(device, RequestFLJob(fl_name="x", fl_id="a", data_size=1, timestamp="1")) == 200
        stepped.offset_ns = minutes * 60 * 10**9
        refused = device.ask(RequestFLJob(fl_name="x", fl_id="b", data_size=1, timestamp="1"))
        late = device.ask(RequestUpdateModel(fl_id="b", iteration=1, feature_map={}, timestamp="1"))
        assert code(device, RequestGetModel(iteration=1)) == 201
    assert isinstance(refused, ResponseFLJob) and isinstance(late, ResponseUpdateModel)
    assert (refused.retcode, late.retcode) == (300, 300)
    for time_told in (refused.next_req_time, late.next_req_time):
        assert 0 < int(time_told or 0) - stepped.device_ms() <= window + 1000
    assert job.iteration == 1


@pytest.mark.parametrize("minutes", [-10, 10])
def test_a_window_ends_when_it_should_whatever_the_clock_is_set_to(minutes: int) -> None:
    ended = threading.Event()
    stepped = SteppedClock()
    job = coordinator(2, 2, lambda record: ended.set(), clock=stepped.clock, window=300)
    with BackgroundServer(job, clock=stepped.clock) as server, Device(server.url) as device:
        assert code(device, RequestFLJob(fl_name="x", fl_id="a", data_size=1, timestamp="1")) == 200
        stepped.offset_ns = minutes * 60 * 10**9
        assert ended.wait(30)
        assert code(device, RequestFLJob(fl_name="x", fl_id="a", data_size=1, timestamp=str(now_ms()))) == 200
    assert job.iteration == 2
