"""HTTPS on real sockets: who is let in, and that everybody else is told of in one line."""

from __future__ import annotations

import asyncio
import logging
import queue
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
from http_requests import WAIT_S, Device, coordinator, get, head, start, update

from mindfl.client import HttpSettings, HttpTransport
from mindfl.errors import TlsError, TransportError
from mindfl.protocol import encode
from mindfl.server import Coordinator, ServerConfig
from mindfl.server.certificates import CertificateFiles, make_certificates
from mindfl.server.http import BackgroundServer, tls_gate
from mindfl.server.http.connection import SLICE
from mindfl.server.server_tls import ServerTls, load_tls


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> CertificateFiles:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def warnings() -> Iterator[Callable[[], str]]:
    """Return a function that waits for the server's next warning and returns it."""
    lines: queue.Queue[str] = queue.Queue()

    class Lines(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.put(record.getMessage())

    handler = Lines(logging.WARNING)
    logging.getLogger("mindfl.server").addHandler(handler)
    yield lambda: lines.get(timeout=WAIT_S)
    logging.getLogger("mindfl.server").removeHandler(handler)


def serve(files: CertificateFiles, job: Coordinator | None = None, **settings: object) -> BackgroundServer:
    tls = ServerTls(certificate=files.server_cert, key=files.server_key, ca_path=files.ca_cert, **settings)
    return BackgroundServer(job or coordinator(), tls=load_tls(tls).context)


def client(files: CertificateFiles, authority: Path | None = None) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=authority or files.ca_cert)


class SecureDevice(Device):
    """A device that speaks TLS."""

    def __init__(self, url: str, context: ssl.SSLContext) -> None:
        super().__init__(url)
        self.socket = context.wrap_socket(self.socket, server_hostname="127.0.0.1")


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_round_over_tls(files: CertificateFiles, version: ssl.TLSVersion) -> None:
    context = client(files)
    context.minimum_version = context.maximum_version = version
    with serve(files) as server:
        assert server.url.startswith("https://")
        with SecureDevice(server.url, context) as device:
            assert device.ask(start()).retcode == 200
            assert device.ask(update()).retcode == 200
            assert device.ask(get(1)).retcode == 200


@pytest.mark.parametrize("size", [0, 2_000_000])
def test_a_client_in_the_clear_is_told_to_use_https(
    files: CertificateFiles, warnings: Callable[[], str], size: int
) -> None:
    with serve(files) as server:
        with Device(server.url) as plain:
            with suppress(ConnectionError):
                plain.send(head("/getModel", size) + bytes(size))
            reply = plain.receive()
            assert (reply.status, reply.body) == (400, b"This port speaks TLS: use https://\n")
            assert plain.closed()
        assert warnings().endswith("refused, it speaks plain HTTP on a port for TLS")
        settings = HttpSettings(url=server.url.replace("https://", "http://"))
        with HttpTransport(settings) as transport, pytest.raises(TransportError, match="use https://") as caught:
            transport.send(get(), 0)
        assert caught.value.lasting


def test_a_client_that_speaks_tls_to_a_plain_port_is_told_of(warnings: Callable[[], str]) -> None:
    with BackgroundServer(coordinator()) as server:
        secure = server.url.replace("http://", "https://")
        with HttpTransport(HttpSettings(url=secure)) as transport, pytest.raises(TlsError, match="does not speak TLS"):
            transport.send(get(), 0)
        assert warnings().endswith("refused, it speaks TLS on a port for plain HTTP")


def test_an_answer_of_several_slices(files: CertificateFiles) -> None:
    model = {"weight": np.arange(SLICE, dtype=np.float32)}
    job = Coordinator(ServerConfig(fl_iteration_num=1, start_fl_job_threshold=1), model)
    with serve(files, job) as server, SecureDevice(server.url, client(files)) as device:
        for _ in range(2):
            np.testing.assert_array_equal(device.ask(get()).feature_map["weight"], model["weight"])


def test_refused_handshakes_are_one_line_each(
    files: CertificateFiles, tmp_path: Path, warnings: Callable[[], str]
) -> None:
    other = make_certificates(tmp_path)
    with serve(files) as server:
        with Device(server.url) as plain:
            plain.send(b"POST /getModel HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
            assert plain.receive().status == 400 and plain.closed()
        assert ": refused, " in warnings()
        with pytest.raises(ssl.SSLCertVerificationError):
            SecureDevice(server.url, client(files, other.ca_cert))
        assert ": refused, " in warnings()
        with Device(server.url):
            pass
        assert ": refused, " in warnings()
        with SecureDevice(server.url, client(files)) as device:
            assert device.ask(get()).retcode == 200


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_client_certificates_where_they_are_required(
    version: ssl.TLSVersion, files: CertificateFiles, tmp_path: Path, warnings: Callable[[], str]
) -> None:
    """Who has none, or a foreign one, is told so by an alert: OpenSSL's error on its side has the reason."""
    other = make_certificates(tmp_path)
    missing = {ssl.TLSVersion.TLSv1_2: "HANDSHAKE_FAILURE", ssl.TLSVersion.TLSv1_3: "CERTIFICATE_REQUIRED"}[version]
    with serve(files, require_client_certificate=True) as server:
        for stranger, reason in ((None, missing), (other, "UNKNOWN_CA")):
            context = client(files)
            context.minimum_version = context.maximum_version = version
            if stranger:
                context.load_cert_chain(stranger.client_cert, stranger.client_key)
            with pytest.raises(ssl.SSLError) as refusal, SecureDevice(server.url, context) as device:
                device.ask(update())
            assert reason in refusal.value.reason
            assert ": refused, " in warnings()
        context = client(files)
        context.load_cert_chain(files.client_cert, files.client_key)
        with SecureDevice(server.url, context) as device:
            assert device.ask(get()).retcode == 200


def test_a_refused_client_need_not_wait_for_the_end(files: CertificateFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server has ended its side, though it would listen on."""
    monkeypatch.setattr(tls_gate, "FAREWELL_SECONDS", 100 * WAIT_S)
    with serve(files, require_client_certificate=True) as server:
        place = urlsplit(server.url)
        with socket.create_connection((place.hostname, place.port), WAIT_S) as raw:
            incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            tls = client(files).wrap_bio(incoming, outgoing, server_hostname=place.hostname)
            until_read(tls.do_handshake, incoming, outgoing, raw)
            raw.sendall(outgoing.read())
            assert read_all(raw)


def test_a_refused_client_that_goes_on_talking(
    files: CertificateFiles, warnings: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may have sent a request before it learns of the refusal; one that never stops is disconnected all the same."""
    monkeypatch.setattr(tls_gate, "FAREWELL_SECONDS", 0.2)
    with serve(files, require_client_certificate=True) as server:
        place = urlsplit(server.url)
        with socket.create_connection((place.hostname, place.port), WAIT_S) as raw:
            incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            tls = client(files).wrap_bio(incoming, outgoing, server_hostname=place.hostname)
            until_read(tls.do_handshake, incoming, outgoing, raw)
            raw.sendall(outgoing.read() + bytes(1 << 20))
            assert ": refused, " in warnings()
            incoming.write(read_all(raw))
            with pytest.raises(ssl.SSLError, match="CERTIFICATE_REQUIRED"):
                while tls.read(1 << 16):
                    pass
            with pytest.raises(OSError):
                while True:
                    raw.sendall(bytes(1 << 16))


def test_a_refused_client_that_never_stops_leaves_others_their_turn() -> None:
    heard = 0

    class Endless(socket.socket):
        def recv(self, size: int, flags: int = 0) -> bytes:
            nonlocal heard
            heard += 1
            return b"more" if heard < 1000 else b""

    async def refuse(connection: socket.socket) -> None:
        farewell = asyncio.create_task(tls_gate._say_farewell(connection, b"alert"))
        while not heard:
            await asyncio.sleep(0)
        assert heard == 1
        farewell.cancel()

    near, far = socket.socketpair()
    with far:
        asyncio.run(refuse(Endless(fileno=near.detach())))
        assert far.recv(100) == b"alert"


def test_where_files_are_few_a_refused_client_takes_none(
    files: CertificateFiles, warnings: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its alert needs one until it has been read: the journal, or the next device, may need that more."""
    opened: list[socket.socket] = []

    def crowded(new: socket.socket) -> bool:
        opened.append(new)
        return len(opened) > 1

    monkeypatch.setattr(tls_gate, "crowded", crowded)
    with serve(files) as server:
        place = urlsplit(server.url)
        with socket.create_connection((place.hostname, place.port), WAIT_S) as raw:
            raw.sendall(b"\x16\x03\x01\x00\x04\x63\x00\x00\x00")  # a handshake message that there is none of
            assert raw.recv(100) == b""
            assert ": refused, TLS failed" in warnings()
    assert opened[1].fileno() == -1


def until_read(
    step: Callable[[], bytes | None], incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO, raw: socket.socket
) -> bytes | None:
    """Return what ``step`` does, once it was sent what it waits for."""
    while True:
        try:
            return step()
        except ssl.SSLWantReadError:
            raw.sendall(outgoing.read())
            incoming.write(raw.recv(1 << 16))


def read_all(raw: socket.socket) -> bytes:
    """Return what comes until the other side ends."""
    return b"".join(iter(lambda: raw.recv(1 << 16), b""))


def test_a_request_that_comes_together_with_the_end_of_the_handshake(files: CertificateFiles) -> None:
    with serve(files) as server:
        place = urlsplit(server.url)
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = client(files).wrap_bio(incoming, outgoing, server_hostname=place.hostname)
        with socket.create_connection((place.hostname, place.port), WAIT_S) as raw:
            until_read(tls.do_handshake, incoming, outgoing, raw)
            body = encode(get())
            tls.write(head("/getModel", len(body)) + body)
            assert (until_read(lambda: tls.read(100), incoming, outgoing, raw) or b"").startswith(b"HTTP/1.1 200 OK")


def test_a_handshake_that_stalls_harms_nobody(files: CertificateFiles) -> None:
    with serve(files) as server:
        place = urlsplit(server.url)
        stalled = socket.create_connection((place.hostname, place.port))
        with SecureDevice(server.url, client(files)) as device:
            assert device.ask(get()).retcode == 200
        stalled.close()


def test_a_handshake_that_never_ends_is_ended(
    files: CertificateFiles, warnings: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tls_gate, "HANDSHAKE_SECONDS", 0.05)
    with serve(files) as server:
        place = urlsplit(server.url)
        with socket.create_connection((place.hostname, place.port), WAIT_S) as silent:
            assert silent.recv(1) == b""
            assert warnings().endswith(": refused, its handshake took too long")
