"""Clients that stall, vanish, lie or come in crowds; and how a service ends."""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from http_requests import WAIT_S, Device, chunked, coordinator, get, head, start, update

from mindfl.errors import StorageError
from mindfl.protocol import PlainText, decode_response, encode
from mindfl.server import Coordinator, ServerConfig
from mindfl.server.http import BackgroundServer, HttpService, VolatileJob, limits, listen
from mindfl.server.http.exchange import BodyLimits, BodyMemory
from mindfl.server.http.sockets import Address, bound_address


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "HEADER_SECONDS", 0.1)
    monkeypatch.setattr(limits, "PATIENCE_SECONDS", 0.1)
    monkeypatch.setattr(limits, "SLOWEST", 1e9)


@pytest.fixture
def small_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = BodyLimits(usual=50_000, largest=100_000, together=100_000)
    monkeypatch.setattr(BodyLimits, "for_model", classmethod(lambda *_: limits))


@pytest.fixture
def dropped() -> Iterator[Callable[[], str]]:
    """Return a function that waits for the server's next warning and returns it."""
    lines: queue.Queue[str] = queue.Queue()

    class Lines(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.put(record.getMessage())

    handler = Lines(logging.WARNING)
    handler.addFilter(lambda record: "dropped" in record.getMessage())  # other servers of this process may log too
    logging.getLogger("mindfl.server").addHandler(handler)
    yield lambda: lines.get(timeout=WAIT_S)
    logging.getLogger("mindfl.server").removeHandler(handler)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(
    "sent", [b"P", b"POST /getModel HTTP/1.1\r\nHost:", head("/getModel", 9), head("/getModel", 9999)]
)
def test_a_request_that_stalls_is_dropped_and_told_of(sent: bytes, dropped: Callable[[], str]) -> None:
    with BackgroundServer(coordinator()) as server, Device(server.url) as idle, Device(server.url) as stalled:
        assert idle.ask(get()).retcode == 200
        stalled.send(sent)
        what = "a request" if b"Length" in sent else "the headers of a request"
        assert dropped().endswith(f": dropped, {what} took more than 0 s")
        assert stalled.closed()
        # longer than any limit without a byte, and yet at home
        assert idle.ask(get()).retcode == 200


@pytest.mark.usefixtures("impatient")
def test_a_client_that_takes_no_answer_is_dropped(dropped: Callable[[], str]) -> None:
    weights = {"w": np.ones(8_000_000, np.float32)}
    job = Coordinator(ServerConfig(fl_iteration_num=1, start_fl_job_threshold=1), weights)
    with BackgroundServer(job) as server, Device(server.url) as deaf:
        body = encode(get())
        deaf.send(head("/getModel", len(body)), body)
        assert "taking an answer took more" in dropped()
        # What the kernel had taken by then arrives, and no more.
        received = 0
        while piece := _read(deaf):
            received += len(piece)
        assert received < 32_000_000


def _read(device: Device) -> bytes:
    try:
        return device.socket.recv(1 << 20)
    except ConnectionError:
        return b""


def test_a_disconnect_in_mid_upload_counts_nothing() -> None:
    job = coordinator()
    body = encode(update())
    with BackgroundServer(job) as server:
        with Device(server.url) as device:
            device.ask(start())
            device.send(head("/updateModel", len(body)), body[:-1])
        with Device(server.url) as device:
            assert device.ask(get(1)).retcode == 201
            assert device.ask(update()).retcode == 200
    assert job.iteration == 2


def test_a_client_that_is_gone_when_its_answer_is_ready_was_counted() -> None:
    job = coordinator()
    body = encode(update())
    with BackgroundServer(job) as server:
        with Device(server.url) as device:
            device.ask(start())
            device.send(head("/updateModel", len(body)), body)
        with Device(server.url) as device:
            while device.ask(get(1)).retcode != 200:
                pass
    assert job.iteration == 2


@pytest.mark.usefixtures("small_limits")
def test_a_body_that_is_too_large_is_refused_before_it_is_read() -> None:
    with BackgroundServer(coordinator()) as server:
        with Device(server.url) as device:
            device.send(head("/updateModel", 100_001))
            reply = device.receive()
            assert (reply.status, reply.headers["connection"]) == (413, "close")
        with Device(server.url) as device:
            device.send(b"POST /updateModel HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
            for piece in chunked(bytes(110_000), 10_000):
                device.send(piece)
            assert device.receive().status == 413
        with Device(server.url) as device:
            assert device.ask(get()).retcode == 200


@pytest.mark.usefixtures("small_limits")
def test_uploads_beyond_the_memory_wait_while_small_requests_pass() -> None:
    job = coordinator(clients=6)
    padded = [encode(update(f"c{number}")) + bytes(40_000) for number in range(6)]
    with BackgroundServer(job) as server:
        devices = [Device(server.url) for _ in padded]
        for number, device in enumerate(devices):
            assert device.ask(start(f"c{number}")).retcode == 200
        # Two hold the memory; their last bytes are missing.
        for device, content in zip(devices, padded, strict=True):
            device.send(head("/updateModel", len(content)), content[:-1] if device in devices[:2] else b"")
        with Device(server.url) as other:
            assert other.ask(get(1)).retcode == 201
        for device, content in zip(devices[2:], padded[2:], strict=True):
            device.send(content)
        for device in devices[:2]:
            device.send(b"\0")
        answers = [decode_response(device.receive().body, type(update())) for device in devices]
        assert [answer.retcode for answer in answers] == [200] * 6
        for device in devices:
            device.socket.close()
    assert job.iteration == 2


def test_three_hundred_clients_at_once() -> None:
    job = coordinator(clients=300, iterations=1)
    with BackgroundServer(job) as server:

        def whole(number: int) -> float:
            with Device(server.url) as device:
                assert device.ask(start(f"c{number}", data_size=1 + number)).retcode == 200
                everybody.wait(WAIT_S)
                assert device.ask(update(f"c{number}", value=number, data_size=1 + number)).retcode == 200
                while (answer := device.ask(get(1))).retcode != 200:
                    pass
                return float(answer.feature_map["a"][0])

        everybody = threading.Barrier(300)
        with ThreadPoolExecutor(300) as threads:
            models = list(threads.map(whole, range(300)))
    sizes = np.arange(1, 301, dtype=np.float64)
    assert set(models) == {float(np.float32((np.arange(300) * sizes).sum() / sizes.sum()))}


def test_a_window_ends_without_any_request() -> None:
    ended = threading.Event()
    config = ServerConfig(fl_iteration_num=2, start_fl_job_threshold=2, start_fl_job_time_window=50)
    job = Coordinator(config, {"a": np.ones(1, np.float32)}, on_iteration_end=lambda record: ended.set())
    with BackgroundServer(job) as server, Device(server.url) as device:
        assert device.ask(start()).retcode == 200
        assert ended.wait(WAIT_S)
        assert device.ask(get(1)).retcode == 200
    assert job.iteration == 2


def test_the_finished_text_is_a_plain_body() -> None:
    with BackgroundServer(coordinator(iterations=1)) as server, Device(server.url) as device:
        device.ask(start())
        device.ask(update())
        assert device.ask(start("b")) == PlainText("The server's training job is disabled or finished.")
        assert device.ask(get(1)).retcode == 200


def test_retry_times_are_fresh_and_models_are_sent_from_one_body() -> None:
    with BackgroundServer(coordinator(clients=2)) as server, Device(server.url) as device:
        bodies = [device.call("/startFLJob", encode(start(fl_id))).body for fl_id in ("a", "b")]
        assert bodies[0] == bodies[1]
        assert int(device.ask(start("c")).next_req_time) > time.time() * 1000


class _FullDisk(VolatileJob):
    """A job whose journal fails when an upload is to be made durable."""

    def durable(self, position: int):
        from concurrent.futures import Future

        failed: Future[None] = Future()
        failed.set_exception(StorageError("the disk is gone"))
        return failed


def _service(job: VolatileJob) -> tuple[HttpService, str, list]:
    sockets = listen(Address("127.0.0.1", 0), "address")
    return HttpService(job), f"http://{bound_address(sockets[0])}", sockets


def test_nothing_is_acknowledged_that_could_not_be_stored() -> None:
    async def run() -> StorageError:
        service, url, sockets = _service(_FullDisk(coordinator()))
        await service.start(sockets)
        with Device(url) as device:
            device.send(head("/startFLJob", len(encode(start()))), encode(start()))
            assert await asyncio.to_thread(device.closed)
        failure = await service.workers.failure
        await service.stop()
        return failure

    assert str(asyncio.run(run())) == "the disk is gone"


def test_stopping_finishes_an_upload_in_flight_and_accepts_no_more() -> None:
    job = coordinator()
    body = encode(update())

    async def run() -> None:
        service, url, sockets = _service(VolatileJob(job))
        await service.start(sockets)
        device, idle = Device(url), Device(url)
        await asyncio.to_thread(device.ask, start())
        device.send(head("/updateModel", len(body), headers="Expect: 100-continue\r\n"))
        assert (await asyncio.to_thread(device.socket.recv, 100)).startswith(b"HTTP/1.1 100")
        stopping = asyncio.ensure_future(service.stop(WAIT_S))
        while not sockets[0].fileno() < 0:
            await asyncio.sleep(0)
        with pytest.raises(OSError):
            Device(url)
        device.send(body)
        reply = await asyncio.to_thread(device.receive)
        assert (reply.status, reply.headers["connection"]) == (200, "close")
        await stopping
        assert idle.closed()

    asyncio.run(run())
    assert job.iteration == 2


def test_stopping_waits_for_a_stalled_upload_no_longer_than_the_grace() -> None:
    async def run() -> None:
        service, url, sockets = _service(VolatileJob(coordinator()))
        await service.start(sockets)
        device = Device(url)
        device.send(head("/updateModel", 100, headers="Expect: 100-continue\r\n"))
        assert (await asyncio.to_thread(device.socket.recv, 100)).startswith(b"HTTP/1.1 100")
        await service.stop(0.05)
        assert device.closed()

    asyncio.run(asyncio.wait_for(run(), WAIT_S))


def test_memory_is_lent_in_order_and_never_beyond_its_limit() -> None:
    async def run() -> None:
        memory, order = BodyMemory(10), []

        async def hold(size: int) -> None:
            async with memory.lend(size):
                order.append(size)
                assert memory.lent <= 10 or memory.lent == size
                await asyncio.sleep(0)

        sizes = [4, 6, 9, 1, 25, 2, 10]
        given_up = asyncio.ensure_future(_after(hold, 7))
        await asyncio.gather(*map(hold, sizes), _cancel(given_up))
        assert order == sizes and memory.lent == 0

    async def _after(hold, size: int) -> None:
        await asyncio.sleep(0)
        await hold(size)

    async def _cancel(task: asyncio.Task) -> None:
        for _ in range(3):
            await asyncio.sleep(0)
        task.cancel()

    asyncio.run(run())


def _ports(count: int) -> Iterator[int]:
    for each in listen(Address("127.0.0.1", 0), "address", count):
        yield each.getsockname()[1]
        each.close()


def test_servers_of_one_job_are_on_consecutive_ports() -> None:
    ports = list(_ports(4))
    assert ports == list(range(ports[0], ports[0] + 4))
