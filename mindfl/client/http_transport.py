"""The transport of real devices: HTTP or HTTPS, over connections that stay open.

It posts to URL + ``/`` + the message's name and follows no redirect, as MindSpore Federated 0.1.0's Java client does.
Unlike that client it verifies certificates. It never retries: only the flow knows whether that is safe.
"""

from __future__ import annotations

import http.client
import ipaddress
import random
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

import urllib3
from urllib3.connection import HTTPSConnection
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    IncompleteRead,
    NameResolutionError,
    NewConnectionError,
    ReadTimeoutError,
)

from mindfl._version import __version__
from mindfl.client.tls_settings import TlsSettings, client_context, tls_error
from mindfl.client.transport import Traffic, TrafficMeter
from mindfl.errors import OptionError, TransportError
from mindfl.protocol import ENDPOINTS, Request, Response
from mindfl.protocol.flatbuf import BrokenBufferError
from mindfl.protocol.wire import decode_response, encode
from mindfl.spelling import checked_arguments

HEADERS = {"Content-Type": "application/octet-stream", "User-Agent": f"mindfl/{__version__}"}
#: status codes of proxies and overloaded servers; a later try may succeed
PASSING = frozenset({408, 425, 429, 502, 503, 504})
_DEFAULT_PORTS = {"http": 80, "https": 443}
#: the longest time limit, some months
LONGEST_S = 10_000_000


@checked_arguments
@dataclass(frozen=True, slots=True, kw_only=True)
class HttpSettings:
    """Address of the server, connections and time limits.

    ``url`` is ``http[s]://HOST:PORT``, followed by the server's URL prefix if it has one. With ``use_elb`` each request
    goes to a random one of ``server_num`` consecutive ports, the first being that of the URL; the host must then be an
    IP address. Up to ``connections`` connections are open to each port; further senders wait.

    Time limits, in seconds, as in the reference's device: ``send_s`` for connecting and for each piece sent,
    ``receive_s`` for each piece received. ``max_answer`` is in bytes. Raises :class:`OptionError` for invalid values.
    """

    url: str
    use_elb: bool = False
    server_num: int = 1
    tls: TlsSettings = field(default_factory=TlsSettings)
    connections: int = 1
    send_s: float = 30.0
    receive_s: float = 90.0
    max_answer: int = 2**28

    def __post_init__(self) -> None:
        parts = _split(self.url)
        for name in ("server_num", "connections", "max_answer", "send_s", "receive_s"):
            if not getattr(self, name) > 0:
                raise OptionError(f"{name} must be above 0, got {getattr(self, name)}")
        for name in ("send_s", "receive_s"):
            if getattr(self, name) > LONGEST_S:
                raise OptionError(f"{name} must be at most {LONGEST_S} s, got {getattr(self, name)}")
        if self.use_elb and not (_is_address(parts.host) and parts.port_given):
            raise OptionError(
                f"use_elb needs a URL of an IP address and a port, got {self.url}", hint="such as http://127.0.0.1:6668"
            )
        if self.use_elb and parts.port + self.server_num > 2**16:
            raise OptionError(f"there are no {self.server_num} ports from {parts.port} on")


@dataclass(frozen=True, slots=True)
class _Parts:
    scheme: str
    host: str
    port: int
    port_given: bool
    path: str


class HttpTransport:
    """Sends requests over HTTP(S). All clients and threads of a process may share it.

    ``choose`` picks one of n servers. Raises the errors of :class:`HttpSettings` and :func:`client_context`.
    """

    def __init__(self, settings: HttpSettings, choose: Callable[[int], int] = random.randrange) -> None:
        self._settings = settings
        self._choose = choose
        self._meter = TrafficMeter()
        parts = _split(settings.url)
        self._path = parts.path
        context = client_context(settings.tls) if parts.scheme == "https" else None
        servers = settings.server_num if settings.use_elb else 1
        self._pools = [_pool(parts, parts.port + offset, settings, context) for offset in range(servers)]

    def send(self, request: Request, now_ms: int) -> Response:
        """Return the server's response. Raises :class:`TransportError` if there is no usable one."""
        endpoint = ENDPOINTS[type(request)]
        pool = self._pools[self._choose(len(self._pools)) if len(self._pools) > 1 else 0]
        url = f"{pool.scheme}://{pool.host}:{pool.port}{self._path}/{endpoint}"
        answer = self._post(pool, url, encode(request))
        try:
            response = decode_response(answer, type(request))
        except BrokenBufferError as error:
            raise TransportError(
                f"{url} answered with something else than the protocol's message: {error}",
                hint="is that a federated server?",
                sent=True,
                lasting=True,
            ) from None
        self._meter.count(request, response)
        return response

    def reach(self) -> None:
        """Raise :class:`TransportError` where no server can be connected to: of several, one is enough."""
        for number, pool in enumerate(self._pools, 1):
            connection = pool._new_conn()
            try:
                connection.connect()
                return
            except (HTTPError, http.client.HTTPException, OSError) as error:
                if number == len(self._pools):
                    raise _failure(error, self._settings.url, self._settings) from None
            finally:
                connection.close()

    @property
    def traffic(self) -> Traffic:
        """Requests and bytes exchanged so far."""
        return self._meter.traffic

    def close(self) -> None:
        """Close the connections."""
        for pool in self._pools:
            pool.close()

    def __enter__(self) -> HttpTransport:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _post(self, pool: urllib3.HTTPConnectionPool, url: str, body: bytes) -> bytes:
        """Return the body of an answer with a status of 2xx."""
        path = f"{self._path}/{url.rpartition('/')[2]}"
        try:
            answer = pool.urlopen(
                "POST", path, body, HEADERS, retries=False, redirect=False, preload_content=False, decode_content=False
            )
        except (HTTPError, http.client.HTTPException, OSError) as error:
            raise _failure(error, url, self._settings) from None
        try:
            content = self._read(answer, url)
        except (HTTPError, http.client.HTTPException, OSError) as error:
            answer.close()
            raise _failure(error, url, self._settings) from None
        except BaseException:
            answer.close()
            raise
        answer.release_conn()
        if not 200 <= answer.status < 300:
            raise _refusal(answer, content, url)
        return content

    def _read(self, answer: urllib3.BaseHTTPResponse, url: str) -> bytes:
        limit = self._settings.max_answer
        pieces: list[bytes] = []
        size = answer.length_remaining or 0
        # Read on after the last byte: only then does urllib3 compare the length with the announced one.
        while size <= limit and (piece := answer.read(limit + 1, decode_content=False)):
            pieces.append(piece)
            size = max(size, sum(map(len, pieces)))
        if size > limit:
            raise TransportError(
                f"{url} answered with more than {limit} bytes", hint="is that a federated server?", lasting=True
            )
        return b"".join(pieces)


def _split(url: str) -> _Parts:
    hint = "it is http://HOST:PORT or https://HOST:PORT, with the server's URL prefix after it if it has one"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise OptionError(f"the server's URL {url!r} cannot be used: {error}", hint=hint) from None
    extra = parts.query or parts.fragment or parts.username or parts.password
    plain = url.isprintable() and " " not in url
    if parts.scheme not in _DEFAULT_PORTS or not parts.hostname or extra or not plain or port == 0:
        raise OptionError(f"the server's URL {url!r} cannot be used", hint=hint)
    chosen = _DEFAULT_PORTS[parts.scheme] if port is None else port
    return _Parts(parts.scheme, parts.hostname, chosen, port is not None, parts.path.rstrip("/"))


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


class _TlsConnection(HTTPSConnection):
    """Reports why the server closed the connection.

    In TLS 1.3 a server refuses a client's certificate after the handshake. The client may be sending by then, and would
    otherwise see only a closed connection.
    """

    def send(self, data: Any) -> None:
        try:
            super().send(data)
        except (ssl.SSLEOFError, ConnectionError) as error:
            # After this urllib3 reads what the server said before: an answer, or the alert with its reason.
            raise BrokenPipeError from error


def _pool(
    parts: _Parts, port: int, settings: HttpSettings, context: ssl.SSLContext | None
) -> urllib3.HTTPConnectionPool:
    limits = urllib3.Timeout(connect=settings.send_s, read=settings.receive_s)
    if context is None:
        return urllib3.HTTPConnectionPool(parts.host, port, limits, settings.connections, block=True)
    pool = urllib3.HTTPSConnectionPool(parts.host, port, limits, settings.connections, block=True, ssl_context=context)
    pool.ConnectionCls = _TlsConnection
    return pool


def _refusal(answer: urllib3.BaseHTTPResponse, content: bytes, url: str) -> TransportError:
    hints = {404: "the path of --domain_name must be the server's URL prefix, if it has one"}
    text = " ".join(content[:200].decode(errors="replace").split())
    place = answer.headers.get("Location")
    what = f"a redirect to {place}, which is not followed" if place else f"HTTP status {answer.status}: {text}"
    return TransportError(
        f"{url} answered with {what}",
        hint=hints.get(answer.status, ""),
        sent=True,
        lasting=answer.status not in PASSING,
    )


def _failure(error: BaseException, url: str, settings: HttpSettings) -> TransportError:
    """Return the error, with cause and remedy, of a request to ``url`` that ended in ``error``."""
    cause = _root(error)
    if isinstance(cause, ssl.SSLError):
        return tls_error(cause, url)
    if isinstance(error, NameResolutionError):
        return TransportError(f"cannot reach {url}: the host name is not known", hint="correct --domain_name")
    if isinstance(error, NewConnectionError):
        return TransportError(f"cannot reach {url}: {_reason(cause)}", hint=_REACH)
    if isinstance(error, ConnectTimeoutError):
        return TransportError(f"cannot reach {url}: no connection within {settings.send_s:g} s", hint=_REACH)
    if isinstance(error, ReadTimeoutError):
        return TransportError(f"{url} did not answer within {settings.receive_s:g} s", sent=True)
    if isinstance(cause, TimeoutError):
        return TransportError(f"{url} did not accept the request within {settings.send_s:g} s", sent=True)
    if isinstance(cause, IncompleteRead | http.client.IncompleteRead):
        return TransportError(f"{url} sent an incomplete answer", sent=True)
    # RemoteDisconnected is a BadStatusLine too, of nothing at all.
    if isinstance(cause, OSError):
        hint = "if that is a TLS port, use https://" if url.startswith("http:") else ""
        return TransportError(f"{url} closed the connection without an answer: {_reason(cause)}", hint=hint, sent=True)
    if isinstance(cause, http.client.HTTPException):
        hint = "if that is a TLS port, use https://"
        return TransportError(f"{url} does not answer as an HTTP server does", hint=hint, sent=True, lasting=True)
    return TransportError(f"the exchange with {url} failed: {_reason(cause)}", sent=True)


_REACH = "start the server, or correct --domain_name"


def _root(error: BaseException) -> BaseException:
    """Return the innermost of the errors that urllib3 wraps into one another."""
    while True:
        inner = [item for item in error.args if isinstance(item, BaseException)] if isinstance(error, HTTPError) else []
        following = inner[-1] if inner else error.__cause__
        if following is None:
            return error
        error = following


def _reason(error: BaseException) -> str:
    text = error.strerror if isinstance(error, OSError) else None
    return (text or str(error) or type(error).__name__).rstrip(".").lower()
