"""One request of the script, put on the wire byte by byte, and its reply in a form that can be compared."""

from __future__ import annotations

import hashlib
import io
import json
import re
import socket
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from http.client import HTTPException, HTTPResponse
from typing import Any
from urllib.parse import unquote, urlsplit

import real_wire
from real_stack import RunningServer

LIMIT_S = 15.0
POLL_S = 0.02
TEXT_SHOWN = 300
SAFEMODE = "The cluster is in safemode."
NO_REPLY = {"http": "no reply"}

Reply = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A request with a name. It goes to ``path`` (below the job's prefix) or, with ``manage``, to the scheduler.

    ``framing`` says how the body is sent: "length", "chunked", or "none" (no header tells of it). ``verbatim`` replaces
    the whole request. With ``same`` the connection of the step before is used again. With ``until`` the request is
    repeated until the reply holds these values.
    """

    name: str
    path: str
    body: bytes | Callable[[], bytes] = b""
    method: str = "POST"
    version: str = "1.1"
    headers: tuple[str, ...] = ("Host: mindfl",)
    framing: str = "length"
    verbatim: bytes = b""
    same: bool = False
    manage: bool = False
    until: Mapping[str, object] = field(default_factory=dict)


class Session:
    """Sends steps to one server, one after another."""

    def __init__(self, server: RunningServer, prefix: str) -> None:
        self._server = server
        self._prefix = prefix or "/"
        self._connection: _Connection | None = None

    def run(self, steps: Iterable[Step]) -> dict[str, Reply]:
        """Return the reply of each step by its name."""
        with self:
            return {step.name: self._settled(step) for step in steps}

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        if self._connection:
            self._connection.close()

    def _settled(self, step: Step) -> Reply:
        """Return the reply after the server's switch between two iterations, and after what the step waits for."""
        deadline = time.monotonic() + LIMIT_S
        while True:
            reply = self._reply(step)
            arrived = step.until.items() <= reply.items() and reply.get("text") != SAFEMODE
            if arrived or time.monotonic() > deadline:
                return reply
            time.sleep(POLL_S)

    def _reply(self, step: Step) -> Reply:
        if not (step.same and self._connection):
            self.__exit__()
            self._connection = _Connection(self._server.manage if step.manage else self._server.url)
        try:
            return self._connection.exchange(self._head(step), _parts(step), step)
        except (OSError, HTTPException):
            return dict(NO_REPLY)

    def _head(self, step: Step) -> bytes:
        if step.verbatim:
            return step.verbatim
        prefix = "/" if step.manage else self._prefix
        lines = [f"{step.method} {prefix}{step.path} HTTP/{step.version}", *step.headers]
        if step.framing == "length":
            lines.append(f"Content-Length: {len(_body(step))}")
        elif step.framing == "chunked":
            lines.append("Transfer-Encoding: chunked")
        return "\r\n".join([*lines, "", ""]).encode()


class _Reader(io.BufferedReader):
    """Stays open when :class:`HTTPResponse` is done with it, for the next reply."""

    def close(self) -> None:
        """Do nothing; the connection closes its socket itself."""


class _Connection:
    def __init__(self, url: str) -> None:
        place = urlsplit(url)
        self._socket = socket.create_connection((place.hostname, place.port or 80), LIMIT_S)
        self._reader = _Reader(socket.SocketIO(self._socket, "r"))

    def makefile(self, _mode: str) -> _Reader:
        """Lend the reader to :class:`HTTPResponse`."""
        return self._reader

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def exchange(self, head: bytes, parts: Sequence[bytes], step: Step) -> Reply:
        """Send a request and return its reduced reply, with the interim reply where one was asked for."""
        interim = {}
        # A server may refuse, and hang up, before it has read everything: then its reply still counts.
        with suppress(BrokenPipeError, ConnectionResetError):
            self._socket.sendall(head)
            if any(header.startswith("Expect:") for header in step.headers):
                interim = {"interim": self._reader.readline().decode("latin-1").strip()}
                self._reader.readline()
            for part in parts:
                self._socket.sendall(part)
        response = HTTPResponse(self, method=step.method)  # type: ignore[arg-type]
        response.begin()
        return interim | reduce(response, response.read(), unquote(step.path.partition("?")[0].strip("/")))


def reduce(response: HTTPResponse, body: bytes, endpoint: str) -> Reply:
    """Return what counts of a reply as a flat dict: times, ids and the order of headers are left out."""
    version = {10: "HTTP/1.0", 11: "HTTP/1.1"}[response.version]
    shown = {"content-type", "connection", "transfer-encoding", "allow"}
    headers = sorted(
        f"{name.lower()}={value}" if name.lower() in shown else name.lower() for name, value in response.getheaders()
    )
    reply: Reply = {"http": f"{version} {response.status} {response.reason}".strip(), "headers": "; ".join(headers)}
    return reply | _reduce_body(body, endpoint)


def _reduce_body(body: bytes, endpoint: str) -> Reply:
    if not body:
        return {}
    if body.startswith((b"{", b"[")):
        with suppress(ValueError):
            return _flat("json", json.loads(body))
    if body.isascii() and body.decode().replace("\n", "").isprintable():
        text = _timeless(body.decode())
        return {"text": text if len(text) <= TEXT_SHOWN else f"{text[:TEXT_SHOWN]}... of {len(text)} characters"}
    try:
        values = real_wire.decode(real_wire.ENDPOINTS[endpoint][1], body)
    except Exception as error:
        return {"bytes": f"{len(body)} that are no table: {type(error).__name__}"}
    return _flat("", values)


def _flat(name: str, value: Any) -> Reply:
    """Return nested tables as one dict with dotted names. Absent, empty and zero fields are left out."""
    if name == "feature_map":
        return {name: _model(value)} if value else {}
    if isinstance(value, dict):
        flat: Reply = {}
        for key, item in value.items():
            flat |= _flat(f"{name}.{key}" if name else key, item)
        return flat
    if isinstance(value, list):
        return {name: [_flat("", item) or item for item in value]} if value else {}
    if hasattr(value, "tolist"):
        return {name: value.tobytes().hex()} if value.size else {}
    if isinstance(value, str):
        return {name: _timeless(value)}
    return {name: value} if value or name.startswith("json") else {}


def _model(feature_map: list[dict[str, Any]]) -> str:
    """Return names, first values and a hash of all bytes, in the order on the wire."""
    digest = hashlib.sha256()
    parts = []
    for entry in feature_map:
        name, values = entry.get("weight_fullname"), entry.get("data", ())
        digest.update(f"{name}\0{len(values)}\0".encode() + (values.tobytes() if len(values) else b""))
        parts.append(f"{name}[{len(values)}]={','.join(repr(float(value)) for value in values[:2])}")
    return f"{' '.join(parts)} sha256={digest.hexdigest()[:16]}"


_RULES = (
    (re.compile(r"\b1[5-9]\d{11}\b"), "<time>"),
    # The real server's node ids, and ours.
    (re.compile(r"127\.0\.0\.1:\d+::[\d:.-]+|[\da-f]{8}(-[\da-f]{4}){3}-[\da-f]{12}"), "<node>"),
    (re.compile(r"127\.0\.0\.1:\d+"), "<address>"),
)


def _timeless(text: str) -> str:
    for pattern, place in _RULES:
        text = pattern.sub(place, text)
    return text


def _body(step: Step) -> bytes:
    return step.body if isinstance(step.body, bytes) else step.body()


def _parts(step: Step) -> list[bytes]:
    if step.verbatim:
        return []
    body = _body(step)
    if step.framing != "chunked":
        return [body]
    half = max(len(body) // 2, 1)
    chunks = [chunk for chunk in (body[:half], body[half:]) if chunk]
    return [b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks] + [b"0\r\n\r\n"]
