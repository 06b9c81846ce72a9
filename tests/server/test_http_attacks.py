"""Clients that mean harm: bytes cut anywhere, requests that contradict themselves, floods, and early goodbyes."""

from __future__ import annotations

import asyncio
import random
import socket
import ssl
import struct
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from http_attacks import Wire, answers, device_front, exchange, no_faults
from http_requests import WAIT_S, Device, chunked, coordinator, get, head
from hypothesis import given, settings
from hypothesis import strategies as st

from mindfl.protocol import ResponseGetModel, decode, encode
from mindfl.server import Coordinator, ServerConfig
from mindfl.server.certificates import CertificateFiles, make_certificates
from mindfl.server.http import BackgroundServer, limits
from mindfl.server.http.connection import HEAD_BYTES, READ, SLICE
from mindfl.server.http.exchange import BodyLimits
from mindfl.server.http.pages import Reply
from mindfl.server.http.request import Request
from mindfl.server.http.service import HttpServer
from mindfl.server.server_tls import ServerTls, load_tls

GET = encode(get())
OFFER = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAAAAIAAAAB\r\n"
CHUNKED = b"POST /getModel HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"


def asking(iteration: int, form: str, padding: int = 0) -> bytes:
    """Return a request for the model of an iteration, written in one of several forms."""
    body = encode(get(iteration)) + bytes(padding)
    match form:
        case "chunked":
            return CHUNKED + b"\r\n" + b"".join(chunked(body, 7 + padding // 3))
        case "extended":
            return CHUNKED + b'\r\n%x;a=b;c="d"\r\n%b\r\n0;x\r\nTrailer: y\r\n\r\n' % (len(body), body)
        case "offer":
            return head("/getModel", len(body), headers=OFFER) + body
        case "expect":
            return head("/getModel", len(body), headers="Expect: 100-continue\r\n") + body
        case "absolute":
            return b"\r\n" + head("http://[::1]:6666/getModel?a", len(body)) + body
        case "blank":
            return b"GET /getModel HTTP/1.1\r\nHost: x\r\n\r\n"
    return head("/getModel", len(body), form) + body


FORMS = ("POST", "HEAD", "PUT", "chunked", "extended", "offer", "expect", "absolute", "blank")


def pieces(content: bytes, cuts: list[int]) -> Iterator[bytes]:
    """Yield ``content`` cut at these places."""
    for begin, end in zip([0, *cuts], [*cuts, len(content)], strict=True):
        yield content[begin:end]


def check_answers(sent: bytes, asked: list[tuple[int, str]]) -> None:
    """Check that every request got its own answer, in order."""
    found = answers(sent, [form for _, form in asked])
    assert len(found) == len(asked)
    for (status, body), (iteration, form) in zip(found, asked, strict=True):
        assert status == (500 if form == "blank" else 200)
        if form not in ("blank", "HEAD"):
            assert decode(body, ResponseGetModel).reason == f"Get model for iteration {iteration}"


@settings(max_examples=60, derandomize=True, database=None, deadline=None)
@given(data=st.data())
def test_requests_are_answered_alike_wherever_they_are_cut(data: st.DataObject) -> None:
    forms = data.draw(st.lists(st.sampled_from(FORMS), min_size=1, max_size=6))
    asked = [(number + 2, form) for number, form in enumerate(forms)]
    paddings = data.draw(st.lists(st.sampled_from([0, 0, 1, 3000, 9000]), min_size=len(forms), max_size=len(forms)))
    content = b"".join(asking(*each, padding) for each, padding in zip(asked, paddings, strict=True))
    cuts = data.draw(st.lists(st.integers(0, len(content)), max_size=40).map(sorted))
    with no_faults():
        wire = asyncio.run(exchange(pieces(content, cuts)))
    check_answers(bytes(wire.sent), asked)


@pytest.mark.parametrize("form", FORMS)
def test_every_byte_alone(form: str) -> None:
    asked = [(2, form), (3, "POST")]
    content = b"".join(asking(*each) for each in asked)
    check_answers(bytes(asyncio.run(exchange(pieces(content, list(range(1, len(content)))))).sent), asked)


REFUSED = {
    "content length and chunks": (b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    "chunks and content length": (b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n", 400),
    "two lengths": (b"Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc", 400),
    "list of lengths": (b"Content-Length: 3, 3\r\n\r\nabc", 400),
    "plus": (b"Content-Length: +3\r\n\r\nabc", 400),
    "minus": (b"Content-Length: -3\r\n\r\nabc", 400),
    "hexadecimal": (b"Content-Length: 0x3\r\n\r\nabc", 400),
    "underscore": (b"Content-Length: 1_0\r\n\r\nabc", 400),
    "no length": (b"Content-Length:\r\n\r\n", 400),
    "a length of many digits": (b"Content-Length: " + b"0" * 6000 + b"\r\n\r\n", 400),
    "64 bits": (b"Content-Length: 18446744073709551616\r\n\r\n", 400),
    "63 bits": (b"Content-Length: 9223372036854775808\r\n\r\n", 413),
    "chunks twice": (b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    "chunks, but not last": (b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n", 400),
    "another coding": (b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 413),
    "blank before the colon": (b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n", 400),
    "negative chunk": (b"Transfer-Encoding: chunked\r\n\r\n-1\r\nabc", 413),
    "chunk longer than it says": (b"Transfer-Encoding: chunked\r\n\r\n2\r\nabc\r\n0\r\n\r\n", 413),
    "chunk of bare line feeds": (b"Transfer-Encoding: chunked\r\n\r\n1\na\n0\n\n", 413),
    "a length behind the body": (b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nContent-Length: 9\r\n\r\n", 413),
    "folded header": (b"X: a\r\n b\r\n\r\n", 400),
    "zero byte in a header": (b"X: a\0b\r\n\r\n", 400),
    "header without a name": (b": x\r\n\r\n", 400),
    "header without a colon": (b"abc\r\n\r\n", 400),
    "bare line feed": (b"X: y\n\n", 400),
    "bare carriage return": (b"X: y\r\r", 400),
}


@pytest.mark.parametrize("rest, status", REFUSED.values(), ids=REFUSED)
def test_requests_that_contradict_themselves_are_refused_and_nothing_behind_them_is_answered(
    rest: bytes, status: int
) -> None:
    content = b"POST /getModel HTTP/1.1\r\nHost: x\r\n" + rest
    behind = asking(7, "POST")
    with no_faults():
        whole = asyncio.run(exchange([content + behind]))
        split = asyncio.run(exchange([bytes([byte]) for byte in content] + [behind]))
    assert [answer[0] for answer in answers(bytes(whole.sent))] == [status]
    assert [answer[0] for answer in answers(bytes(split.sent))] == [status]


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0", 400),
        (b"GET /getModel HTTP/2.0\r\n\r\n", 400),
        (b"GET /getModel HTTP/1.2\r\n\r\n", 400),
        (b"GET /getModel\r\n\r\n", 400),
        (b"GET /get\0Model HTTP/1.1\r\n\r\n", 400),
        (b"get /getModel HTTP/1.1\r\n\r\n", 400),
        (b"CONNECT a:443 HTTP/1.1\r\n\r\nabc", 501),
        (b"OPTIONS * HTTP/1.1\r\n\r\n", 501),
        (b"DESCRIBE rtsp://x RTSP/1.0\r\n\r\n", 501),
        # a host that is none: found as an internal error
        (b"POST http://[x/getModel HTTP/1.1\r\nContent-Length: 0\r\n\r\n", 500),
        (b"POST http://[zz]/getModel HTTP/1.1\r\nContent-Length: 0\r\n\r\n", 500),
        (b"POST http://host?getModel HTTP/1.1\r\nContent-Length: 0\r\n\r\n", 404),
    ],
)
def test_other_protocols_methods_and_targets(content: bytes, status: int) -> None:
    with no_faults():
        wire = asyncio.run(exchange([content]))
    assert [answer[0] for answer in answers(bytes(wire.sent))] == [status]


@pytest.mark.parametrize(
    "begin",
    [
        b"GET /",
        b"GET /getModel HTTP/1.1\r\nX",
        b"GET /getModel HTTP/1.1\r\nX: ",
        CHUNKED + b"\r\n0\r\nX",
        CHUNKED + b"\r\n0\r\nX: ",
        CHUNKED + b"\r\n1;",
        b"\r\n",
    ],
)
def test_what_never_ends_is_refused_before_it_takes_memory(begin: bytes) -> None:
    async def run() -> int:
        wire = Wire(HttpServer(device_front()))
        taken = 0
        # A refused body is thrown away for a while.
        while not wire.sent and taken < 2**22:
            taken += await wire.feed([(begin if not taken else b"") + (b"x" if begin.strip() else b"\r\n") * 4096])
        assert answers(bytes(wire.sent))[0][0] in (400, 413)
        return taken

    assert asyncio.run(run()) <= HEAD_BYTES + 2 * READ


def test_many_headers_of_one_name_cost_no_more_than_others() -> None:
    wire = asyncio.run(exchange([b"GET /getModel HTTP/1.1\r\n" + b"a:\r\n" * HEAD_BYTES]))
    assert [answer[0] for answer in answers(bytes(wire.sent))] == [400]


async def after_an_admitted_body(more: bytes) -> list[int]:
    """Return the statuses of the answers if ``more`` comes in one read with the end of a chunked body."""
    wire = Wire(HttpServer(device_front()))
    await wire.feed([CHUNKED + b"\r\n"])
    await wire.feed([b"".join(chunked(GET, 99)) + more])
    for _ in range(50):
        await wire.rest()
    return [answer[0] for answer in answers(bytes(wire.sent))]


def test_offers_of_other_protocols_by_the_thousand() -> None:
    """Each one makes the parser stop: found as a recursion as deep as there are requests."""
    offer = b"GET /getModel HTTP/1.1\r\nConnection:upgrade\r\nUpgrade:x\r\n\r\n"
    with no_faults():
        statuses = asyncio.run(after_an_admitted_body(offer * 4000))
        assert set(asyncio.run(after_an_admitted_body(offer * 250))) == {200, 500}
    assert statuses[0] == 200 and set(statuses[1:-1]) == {500} and statuses[-1] == 400


def test_a_crowd_of_requests_before_the_first_answer_is_refused() -> None:
    statuses = asyncio.run(after_an_admitted_body(asking(2, "blank") * 5000))
    assert statuses[0] == 200 and len(statuses) < 400 and statuses[-1] == 400


def test_tiny_chunks_take_no_more_memory_than_large_ones() -> None:
    body = GET + bytes(1_000_000)
    content = CHUNKED + b"\r\n" + b"".join(chunked(body, 2))

    async def run() -> int:
        wire = Wire(HttpServer(device_front()))
        tracemalloc.start()
        try:
            await wire.feed([content])
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert answers(bytes(wire.sent))[0][0] == 200
        return peak

    assert asyncio.run(run()) < len(content) + 4 * len(body)


def test_fields_behind_a_body_are_no_headers() -> None:
    async def front(request: Request) -> Reply:
        await request.body(99)
        return Reply(200, ",".join(request.headers).encode())

    content = CHUNKED + b"\r\n1\r\na\r\n0\r\nMindfl-Repeated: 1\r\n\r\n"
    assert answers(bytes(asyncio.run(exchange([content], front)).sent)) == [(200, b"host,transfer-encoding")]


def test_a_client_that_goes_while_it_waits_for_memory_leaves_none_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """Found over TLS, where a lost connection is noticed while it is not read."""
    size = 2**23
    small = BodyLimits(usual=1000, largest=size, together=size)
    monkeypatch.setattr(BodyLimits, "for_model", classmethod(lambda *_: small))

    async def run() -> int:
        server = HttpServer(device_front())
        first, *others = [Wire(server) for _ in range(4)]
        tracemalloc.start()
        try:
            for wire in (first, *others):
                await wire.feed([head("/updateModel", size)])
            assert first.reading and not any(wire.reading for wire in others)
            for wire in (*others, first):
                wire.abort()
            await first.rest()
            return tracemalloc.get_traced_memory()[0]
        finally:
            tracemalloc.stop()

    assert asyncio.run(run()) < size


def test_a_client_that_is_gone_gets_nothing_more_of_its_answer() -> None:
    """Found as thousands of asyncio's warnings in the log."""

    class Leaving(Wire):
        def write(self, data: object) -> None:
            super().write(data)
            self.close()

    async def front(request: Request) -> Reply:
        return Reply(200, bytes(40 * SLICE))

    async def run() -> int:
        wire = Leaving(HttpServer(front))
        await wire.feed([asking(2, "blank")])
        return wire.writes

    assert asyncio.run(run()) == 1


@pytest.mark.parametrize("more", [asking(2, "POST"), head("/getModel", 9), b"GET /getM", b"nonsense\r\n\r\n"])
def test_a_client_that_takes_no_answer_cannot_ask_for_more_time(more: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "PATIENCE_SECONDS", 0.05)
    monkeypatch.setattr(limits, "SLOWEST", 1e9)

    async def run() -> None:
        gone = asyncio.Event()

        class Deaf(Wire):
            def write(self, data: object) -> None:
                super().write(data)
                self.connection.pause_writing()

            def close(self) -> None:
                super().close()
                gone.set()

            abort = close

        wire = Deaf(HttpServer(device_front()))
        await wire.feed([asking(2, "POST")])
        await wire.feed([more])
        await asyncio.wait_for(gone.wait(), WAIT_S)

    asyncio.run(run())


def test_a_head_that_was_begun_behind_another_request_may_not_stall_either(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "HEADER_SECONDS", 0.05)

    async def run() -> None:
        gone = asyncio.Event()

        class Watched(Wire):
            def close(self) -> None:
                super().close()
                gone.set()

            abort = close

        wire = Watched(HttpServer(device_front()))
        await wire.feed([asking(2, "POST") + b"GET /getM"])
        await asyncio.wait_for(gone.wait(), WAIT_S)
        assert len(answers(bytes(wire.sent))) == 1

    asyncio.run(run())


def test_a_connection_made_while_the_server_stops_is_closed() -> None:
    async def run() -> bool:
        server = HttpServer(device_front())
        await server.stop(0)
        return Wire(server).closed

    assert asyncio.run(run())


def reset(connection: socket.socket) -> None:
    """Close with a reset instead of a goodbye."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def test_resets_in_the_middle_of_a_large_answer_are_no_faults() -> None:
    model = {"w": np.ones(4_000_000, np.float32)}
    job = Coordinator(ServerConfig(fl_iteration_num=1, start_fl_job_threshold=1), model)
    with no_faults(30), BackgroundServer(job) as server:
        for number in range(12):
            device = Device(server.url)
            device.send(asking(0, "POST"))
            if number % 2:
                device.socket.recv(1000)
            reset(device.socket)
        with Device(server.url) as device:
            assert device.ask(get()).retcode == 200


@pytest.fixture
def child() -> Iterator[subprocess.Popen[str]]:
    """Serve from a process that may have 256 files open."""
    command = [sys.executable, str(Path(__file__).with_name("http_attacks.py")), "256"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
        yield process
        process.kill()


def test_connections_by_the_hundred_leave_files_to_the_server_and_are_given_back(child: subprocess.Popen[str]) -> None:
    assert child.stdin and child.stdout and child.stderr

    def files() -> int:
        assert child.stdin and child.stdout
        child.stdin.write("\n")
        child.stdin.flush()
        return int(child.stdout.readline())

    url = child.stdout.readline().strip()
    with Device(url) as early:
        assert early.ask(get()).retcode == 200
        before = files()
        crowd = [Device(url) for _ in range(400)]
        assert early.ask(get()).retcode == 200
        assert crowd[-1].closed()
        for number, device in enumerate(crowd):
            if number % 3 == 0:
                reset(device.socket)
            else:
                device.socket.close()
        deadline = time.monotonic() + WAIT_S
        while files() > before:
            assert time.monotonic() < deadline
    with Device(url) as late:
        assert late.ask(get()).retcode == 200
    child.stdin.close()
    lines = child.stderr.read().splitlines()
    assert lines and [line for line in lines if not line.endswith("refused, too many connections are open")] == []


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> CertificateFiles:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def secure(files: CertificateFiles) -> Iterator[str]:
    tls = ServerTls(certificate=files.server_cert, key=files.server_key, ca_path=files.ca_cert)
    with no_faults(), BackgroundServer(coordinator(), tls=load_tls(tls).context) as server:
        yield server.url


class SecureDevice(Device):
    def __init__(self, url: str, files: CertificateFiles) -> None:
        super().__init__(url)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        context = ssl.create_default_context(cafile=files.ca_cert)
        self.socket = context.wrap_socket(self.socket, server_hostname="127.0.0.1")


@pytest.mark.parametrize("size", [1, 5000])
def test_requests_over_records_of_any_size(secure: str, files: CertificateFiles, size: int) -> None:
    asked = [(number + 2, form) for number, form in enumerate(("POST", "chunked", "offer", "POST"))]
    content = b"".join(asking(*each, 0 if size == 1 else 9000) for each in asked)
    with SecureDevice(secure, files) as device:
        for begin in range(0, len(content), size):
            device.socket.sendall(content[begin : begin + size])
        received = b""
        while received.count(b"Get model for iteration") < len(asked):
            received += device.socket.recv(1 << 16)


def test_handshakes_broken_off_anywhere_harm_nobody(secure: str, files: CertificateFiles) -> None:
    hello = ssl.MemoryBIO()
    client = ssl.create_default_context(cafile=files.ca_cert).wrap_bio(ssl.MemoryBIO(), hello, server_hostname="a")
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    first = hello.read()
    draw = random.Random(5)
    begins = [first, first + b"nonsense", b"\x16\x03\x01\xff\xff" + bytes(99), *[first[:-9]] * 4]
    for number, begin in enumerate(begins * 4):
        device = Device(secure)
        device.send(begin[: draw.randrange(1, 1 + len(begin))] if number % 2 else begin)
        if number % 3:
            reset(device.socket)
        else:
            device.socket.close()
    for number in range(8):
        gone = SecureDevice(secure, files)
        gone.send(asking(0, "POST")[: draw.randrange(99)])
        reset(gone.socket) if number % 2 else gone.socket.close()
    with SecureDevice(secure, files) as device:
        assert device.ask(get()).retcode == 200
