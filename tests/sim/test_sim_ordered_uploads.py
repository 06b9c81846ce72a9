"""Uploads of devices at work go out in the order of their numbers, and no device waits for one that is not at work."""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from mindfl.client import Traffic
from mindfl.protocol import Request, RequestGetModel, RequestUpdateModel, Response, ResponseUpdateModel
from mindfl.sim.remote_run import UploadOrder

WAIT_S = 120


class Server:
    """A stand-in that notes the uploads in the order in which they come."""

    def __init__(self) -> None:
        self.seen: list[str | None] = []

    def send(self, request: Request, now_ms: int) -> Response:
        if isinstance(request, RequestUpdateModel):
            self.seen.append(request.fl_id)
        return ResponseUpdateModel()

    @property
    def traffic(self) -> Traffic:
        return Traffic(len(self.seen))


class Devices:
    """Devices in threads of their own; each asks for the model, waits for permission, and then uploads or fails."""

    def __init__(self, count: int) -> None:
        self.order, self.server = UploadOrder(), Server()
        self.may_upload = [threading.Event() for _ in range(count)]
        self.at_work = [threading.Event() for _ in range(count)]
        self._threads = ThreadPoolExecutor(count)
        for index in range(count):
            self.order.enter(index)

    def start(self, index: int, *, fails: bool = False) -> Future[None]:
        return self._threads.submit(self._run, index, fails)

    def _run(self, index: int, fails: bool) -> None:
        with self.order.at_work(index, self.server) as way:
            way.send(RequestGetModel(), 0)
            self.at_work[index].set()
            assert self.may_upload[index].wait(WAIT_S)
            if fails:
                raise ValueError
            way.send(RequestUpdateModel(fl_id=str(index)), 0)


def test_those_that_are_done_first_wait_for_lower_numbers() -> None:
    devices = Devices(4)
    tasks = [devices.start(index) for index in range(4)]
    for index in (3, 1, 2):
        devices.may_upload[index].set()
    assert devices.server.seen == []
    devices.may_upload[0].set()
    for task in tasks:
        task.result(WAIT_S)
    assert devices.server.seen == ["0", "1", "2", "3"]


def test_one_that_fails_is_waited_for_no_longer() -> None:
    devices = Devices(2)
    failing, waiting = devices.start(0, fails=True), devices.start(1)
    devices.may_upload[1].set()
    devices.may_upload[0].set()
    waiting.result(WAIT_S)
    with pytest.raises(ValueError):
        failing.result(WAIT_S)
    assert devices.server.seen == ["1"]


def test_one_that_is_about_to_work_is_waited_for() -> None:
    devices = Devices(2)
    later = devices.start(1)
    devices.may_upload[1].set()
    assert devices.at_work[1].wait(WAIT_S) and devices.server.seen == []
    devices.may_upload[0].set()
    devices.start(0).result(WAIT_S)
    later.result(WAIT_S)
    assert devices.server.seen == ["0", "1"]


def test_one_that_waits_for_the_server_is_not_waited_for() -> None:
    devices = Devices(2)
    with devices.order.at_work(0, devices.server):
        pass
    devices.may_upload[1].set()
    devices.start(1).result(WAIT_S)
    assert devices.server.seen == ["1"]
