"""What the HTTP tests share: small jobs behind a real socket, and requests written byte by byte."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from http.client import HTTPResponse
from typing import NamedTuple
from urllib.parse import urlsplit

import numpy as np

from mindfl.protocol import (
    Request,
    RequestFLJob,
    RequestGetModel,
    RequestUpdateModel,
    Response,
    decode_response,
    encode,
)
from mindfl.server import Coordinator, ServerConfig

MODEL = {"b": np.arange(3, dtype=np.float32), "a": np.ones((2, 2), np.float32)}
WAIT_S = 120.0


def coordinator(clients: int = 1, iterations: int = 3, **settings: int | float | str) -> Coordinator:
    """Return a job over :data:`MODEL`."""
    config = ServerConfig(fl_iteration_num=iterations, start_fl_job_threshold=clients, **settings)  # type: ignore[arg-type]
    return Coordinator(config, MODEL)


def start(fl_id: str = "a", data_size: int = 2) -> RequestFLJob:
    return RequestFLJob(fl_name="any", fl_id=fl_id, data_size=data_size, timestamp="1")


def update(fl_id: str = "a", iteration: int = 1, value: float = 3.0, data_size: int = 2) -> RequestUpdateModel:
    weights = {name: np.full(values.size, value * data_size, np.float32) for name, values in MODEL.items()}
    return RequestUpdateModel(
        fl_name="any", fl_id=fl_id, iteration=iteration, feature_map=weights, timestamp="1", upload_loss=1.0
    )


def get(iteration: int = 0) -> RequestGetModel:
    return RequestGetModel(fl_name="any", iteration=iteration)


class Reply(NamedTuple):
    """One HTTP answer; header names in lower case."""

    version: str
    status: int
    reason: str
    headers: dict[str, str]
    body: bytes


class Device:
    """A connection to a server."""

    def __init__(self, url: str) -> None:
        place = urlsplit(url)
        self.socket = socket.create_connection((place.hostname, place.port), WAIT_S)

    def __enter__(self) -> Device:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, *parts: bytes) -> None:
        self.socket.sendall(b"".join(parts))

    def receive(self, method: str = "POST") -> Reply:
        """Read one answer."""
        response = HTTPResponse(self.socket, method=method)
        response.begin()
        headers = {name.lower(): value for name, value in response.getheaders()}
        version = {9: "HTTP/0.9", 10: "HTTP/1.0", 11: "HTTP/1.1"}[response.version]
        return Reply(version, response.status, response.reason, headers, response.read())

    def call(self, path: str, body: bytes, method: str = "POST", version: str = "1.1", headers: str = "") -> Reply:
        """Send a request with a Content-Length, and read its answer."""
        self.send(head(path, len(body), method, version, headers), body)
        return self.receive(method)

    def ask(self, request: Request, prefix: str = "/") -> Response:
        """Send a message of the protocol, and return the message that answers it."""
        reply = self.call(prefix + _ENDPOINTS[type(request)], encode(request))
        assert (reply.status, reply.reason) == (200, "OK")
        return decode_response(reply.body, type(request))

    def closed(self) -> bool:
        """Wait until the server closes the connection; True unless it sends something first."""
        try:
            return self.socket.recv(1) == b""
        except ConnectionError:
            return True


_ENDPOINTS = {RequestFLJob: "startFLJob", RequestUpdateModel: "updateModel", RequestGetModel: "getModel"}


def head(path: str, length: int, method: str = "POST", version: str = "1.1", headers: str = "") -> bytes:
    """Return the head of a request."""
    return f"{method} {path} HTTP/{version}\r\nHost: mindfl\r\nContent-Length: {length}\r\n{headers}\r\n".encode()


def chunked(body: bytes, size: int) -> Iterator[bytes]:
    """Yield ``body`` as the chunks of a chunked transfer."""
    for begin in range(0, len(body), size):
        part = body[begin : begin + size]
        yield b"%x\r\n%b\r\n" % (len(part), part)
    yield b"0\r\n\r\n"
