"""HTTP as the MindSpore Federated 0.1.0 server speaks it, over real sockets."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress

import pytest
from http_requests import Device, chunked, coordinator, get, head, start, update

from mindfl.protocol import Request, ResponseFLJob, ResponseGetModel, ResponseUpdateModel, decode, encode
from mindfl.server.durable import Answer
from mindfl.server.http import Address, BackgroundServer, HttpService, VolatileJob, bound_address, listen
from mindfl.server.http.workers import LIGHT_BYTES

GET = encode(get())


@pytest.fixture
def url():
    with BackgroundServer(coordinator()) as server:
        yield server.url


def model(body: bytes) -> ResponseGetModel:
    return decode(body, ResponseGetModel)


def test_a_round(url: str) -> None:
    with Device(url) as device:
        started = device.ask(start())
        assert (started.retcode, started.iteration, started.is_selected) == (200, 1, True)
        assert list(started.feature_map) == ["a", "b"]
        assert device.ask(get(1)).retcode == 201
        assert device.ask(update()).reason == "success not ready"
        done = device.ask(get(1))
        assert (done.retcode, done.iteration) == (200, 2)
        assert done.feature_map["b"].tolist() == [3.0, 3.0, 3.0]


def test_headers_of_an_answer(url: str) -> None:
    with Device(url) as device:
        reply = device.call("/getModel", GET)
    assert (reply.version, reply.status, reply.reason) == ("HTTP/1.1", 200, "OK")
    assert reply.headers["content-type"] == "text/html; charset=ISO-8859-1"
    assert reply.headers["content-length"] == str(len(reply.body))
    assert reply.headers["date"].endswith("GMT")
    assert "connection" not in reply.headers and "transfer-encoding" not in reply.headers


@pytest.mark.parametrize("method", ["POST", "PUT", "GET", "DELETE"])
def test_any_method_with_a_body(url: str, method: str) -> None:
    with Device(url) as device:
        assert model(device.call("/getModel", GET, method).body).retcode == 200


@pytest.mark.parametrize("request_head", [head("/getModel", 0), b"GET /getModel HTTP/1.1\r\nHost: x\r\n\r\n"])
def test_an_empty_body_is_an_error_of_the_reference_and_the_connection_lives(url: str, request_head: bytes) -> None:
    with Device(url) as device:
        device.send(request_head)
        reply = device.receive()
        assert (reply.status, reply.reason) == (500, "Client")
        assert reply.body == b'{"code":"1","error_message":"Get post message failed"}'
        assert model(device.call("/getModel", GET).body).retcode == 200


@pytest.mark.parametrize(
    "path", ["/", "/nonsense", "/getmodel", "/getModel/", "//getModel", "/exchangeKeys", "/a<b>%3Cc%3E"]
)
def test_unknown_path(url: str, path: str) -> None:
    with Device(url) as device:
        reply = device.call(path, GET)
        assert (reply.status, reply.reason, reply.headers["connection"]) == (404, "Not Found", "close")
        assert reply.headers["content-type"] == "text/html"
        assert b"was not found on this server" in reply.body and b"<b>" not in reply.body and b"<c>" not in reply.body
        assert device.closed()


@pytest.mark.parametrize("method", ["PATCH", "OPTIONS"])
def test_methods_that_the_reference_does_not_know(url: str, method: str) -> None:
    with Device(url) as device:
        assert device.call("/getModel", GET, method).status == 501


@pytest.mark.parametrize("path", ["/getModel?a=b&c", "/get%4Dodel", "http://mindfl/getModel"])
def test_spellings_of_a_path(url: str, path: str) -> None:
    with Device(url) as device:
        assert model(device.call(path, GET).body).retcode == 200


@pytest.mark.parametrize(
    ("prefix", "path", "status"),
    [
        ("", "/getModel", 200),
        ("/", "/getModel", 200),
        ("/fed/", "/fed/getModel", 200),
        ("/fed/", "/fed//getModel", 404),
        ("/fed/", "/getModel", 404),
        ("/fed", "/fedgetModel", 200),
        ("/fed", "/fed/getModel", 404),
    ],
)
def test_prefix_is_glued_on_as_it_is(prefix: str, path: str, status: int) -> None:
    with BackgroundServer(coordinator(), prefix=prefix) as server, Device(server.url) as device:
        assert device.call(path, GET).status == status


@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_chunked_body(url: str, size: int) -> None:
    with Device(url) as device:
        device.send(b"POST /getModel HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", *chunked(GET, size))
        assert model(device.receive().body).retcode == 200
        assert model(device.call("/getModel", GET).body).retcode == 200


def test_expect_100_continue(url: str) -> None:
    with Device(url) as device:
        device.send(head("/getModel", len(GET), headers="Expect: 100-continue\r\n"))
        interim = device.socket.recv(100)
        assert interim == b"HTTP/1.1 100 Continue\r\n\r\n"
        device.send(GET)
        assert model(device.receive().body).retcode == 200


def test_http_1_0_ends_the_connection_unless_asked_to_keep_it(url: str) -> None:
    with Device(url) as device:
        reply = device.call("/getModel", GET, version="1.0")
        assert (reply.version, reply.status) == ("HTTP/1.0", 200) and model(reply.body).retcode == 200
        assert device.closed()
    with Device(url) as device:
        for _ in range(2):
            reply = device.call("/getModel", GET, version="1.0", headers="Connection: keep-alive\r\n")
            assert reply.headers["connection"].lower() == "keep-alive"


def test_connection_close_is_honoured(url: str) -> None:
    with Device(url) as device:
        reply = device.call("/getModel", GET, headers="Connection: close\r\n")
        assert reply.headers["connection"].lower() == "close" and device.closed()


def test_pipelined_requests_are_answered_in_order(url: str) -> None:
    bodies = [encode(get(number)) for number in range(20)]
    with Device(url) as device:
        device.send(*(head("/getModel", len(body)) + body for body in bodies))
        reasons = [_reason(_one(device)) for _ in bodies]
    assert reasons[0] == "Get model for iteration 0"
    assert reasons[1].startswith("The model is not ready yet for iteration 1")
    assert reasons[2:] == [f"Get model for iteration {number}" for number in range(2, 20)]


def test_large_bodies_in_a_row_are_told_apart(url: str) -> None:
    bodies = [encode(get(number)) + bytes(50_000 + number) for number in range(5)]
    with Device(url) as device:
        device.send(*(head("/getModel", len(body)) + body for body in bodies))
        reasons = [_reason(_one(device)) for _ in bodies]
    assert reasons[0] == "Get model for iteration 0" and reasons[4] == "Get model for iteration 4"


@pytest.mark.parametrize("padding", [0, 50_000])
def test_another_protocol_that_is_offered_is_not_taken(url: str, padding: int) -> None:
    # The HTTP client of Java 11 and later offers HTTP/2 with its first request.
    offer = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAAAAIAAAAB\r\n"
    with Device(url) as device:
        for _ in range(2):
            assert model(device.call("/getModel", GET + bytes(padding), headers=offer).body).retcode == 200
        device.send(b"POST /getModel HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n" + offer.encode() + b"\r\n")
        assert device.receive().status == 400


def test_head_is_answered_without_a_body(url: str) -> None:
    with Device(url) as device:
        reply = device.call("/getModel", GET, "HEAD")
        assert (reply.status, reply.body) == (200, b"") and int(reply.headers["content-length"]) > 0
        assert device.ask(get()).retcode == 200


class Watched(VolatileJob):
    """Notes the threads that handle requests."""

    def __init__(self, prompt: bool) -> None:
        super().__init__(coordinator())
        self.prompt = prompt
        self.threads: set[str] = set()

    def handle(self, request: Request, now_ms: int, *, repeated: bool = False) -> Answer:
        self.threads.add(threading.current_thread().name)
        return super().handle(request, now_ms, repeated=repeated)


@pytest.mark.parametrize(
    ("prompt", "padding", "beside"), [(True, 0, False), (True, LIGHT_BYTES, True), (False, 0, True)]
)
def test_the_event_loop_does_only_what_is_light(prompt: bool, padding: int, beside: bool) -> None:
    async def run() -> Watched:
        job = Watched(prompt)
        sockets = listen(Address("127.0.0.1", 0), "address")
        service = HttpService(job)
        await service.start(sockets)
        try:
            with Device(f"http://{bound_address(sockets[0])}") as device:
                await asyncio.to_thread(device.call, "/getModel", GET + bytes(padding))
        finally:
            await service.stop()
        return job

    (name,) = asyncio.run(run()).threads
    assert name.startswith("mindfl-server") == beside


def _one(device: Device) -> bytes:
    """Read one answer and no byte of the next."""
    received = b""
    while b"\r\n\r\n" not in received:
        received += device.socket.recv(1)
    length = int(received.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
    body = b""
    while len(body) < length:
        body += device.socket.recv(length - len(body))
    return body


def _reason(body: bytes) -> str:
    return model(body).reason or ""


def test_bytes_after_the_message_are_tolerated(url: str) -> None:
    with Device(url) as device:
        assert model(device.call("/getModel", GET + bytes(100_000)).body).retcode == 200


@pytest.mark.parametrize(
    ("path", "answer", "table"),
    [
        ("/startFLJob", ResponseFLJob, "RequestFLJob"),
        ("/updateModel", ResponseUpdateModel, "RequestUpdateModel"),
        ("/getModel", ResponseGetModel, "RequestGetModel"),
    ],
)
@pytest.mark.parametrize("body", [b"\1", bytes(64), b"\xff" * 64, GET[:-8]])
def test_bytes_that_are_no_message(url: str, path: str, answer: type, table: str, body: bytes) -> None:
    with Device(url) as device:
        reply = device.call(path, body)
        response = decode(reply.body, answer)
        assert (reply.status, response.retcode) == (200, 400)
        assert response.reason == f"The schema of {table} is invalid."
        if answer is ResponseFLJob:
            assert response.fl_plan_config.iterations == 3 and response.iteration == 1 and not response.is_selected
        assert device.ask(get()).retcode == 200


@pytest.mark.parametrize(
    "garbage",
    [
        b"hello there\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(50),
        b"POST /getModel HTTP/1.1\r\nHost: x\r\nContent-Length: many\r\n\r\n",
        b"POST /getModel HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST /getModel HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\n",
        b"POST /getModel HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nab\r\n0\r\n\r\n",
        b"GET /getModel\r\n\r\n",
        b"POST /getModel HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 100_000 + b"\r\n\r\n",
        b"POST /" + b"x" * 100_000 + b" HTTP/1.1\r\n\r\n",
    ],
)
def test_what_is_no_http_is_refused_and_the_server_lives(url: str, garbage: bytes) -> None:
    with Device(url) as device:
        device.send(garbage)
        reply = device.receive()
        assert reply.status in (400, 404, 413) and b"Traceback" not in reply.body
        assert device.closed()
    with Device(url) as device:
        assert device.ask(get()).retcode == 200


def test_an_idle_connection_stays_usable(url: str) -> None:
    with Device(url) as idle, Device(url) as other:
        assert idle.ask(get()).retcode == 200
        for _ in range(50):
            other.ask(get())
        assert idle.ask(get()).retcode == 200


def test_several_addresses_are_one_job() -> None:
    sockets = listen(Address("127.0.0.1", 0), "address", 3)
    ports = [each.getsockname()[1] for each in sockets]
    assert ports == list(range(ports[0], ports[0] + 3))
    for each in sockets:
        each.close()


def test_more_connections_than_connection_num_are_refused(caplog: pytest.LogCaptureFixture) -> None:
    async def run() -> None:
        service = HttpService(VolatileJob(coordinator()))
        (listening,) = listen(Address("127.0.0.1", 0), "address")
        host, port = listening.getsockname()
        await service.serve(service.front, [listening], most_connections=1)
        first, kept = await asyncio.open_connection(host, port)
        kept.write(head("/getModel", len(GET)) + GET)
        assert (await first.readline()).startswith(b"HTTP/1.1 200")
        second, refused = await asyncio.open_connection(host, port)
        with suppress(ConnectionError):
            assert await second.read() == b""
        refused.close()
        kept.close()
        await service.stop()

    asyncio.run(run())
    assert "refused, too many connections are open" in caplog.text
