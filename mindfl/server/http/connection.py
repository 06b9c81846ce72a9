"""One connection: the engine's, with reads as small as its state allows and a limit on how long a request may take."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, TypeAlias, cast

from aiohttp import web

from mindfl.server.http.handshake import TlsGate
from mindfl.server.http.pages import error_page

Handler: TypeAlias = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
logger = logging.getLogger("mindfl.server")

FIRST_READ = 4096
"""Bytes read at once before a request is admitted: what thousands of waiting clients may each hold."""
READ = 256 * 1024
"""Bytes read at once afterwards."""
HEADER_BYTES = 32 * 1024
"""Longest request line, and longest header."""
HEADER_SECONDS = 30.0
"""How long the headers of a request may take to arrive, counted from their first byte."""
IDLE_SECONDS = 3600.0
"""How long a connection may be open without a request."""
_ENGINE: dict[str, Any] = {
    "access_log": None,
    "read_bufsize": READ,
    "max_line_size": HEADER_BYTES,
    "max_field_size": HEADER_BYTES,
    "auto_decompress": False,
    # How long the rest of a refused body is thrown away, so that the client can read why.
    "lingering_time": 2.0,
}


class Connection(asyncio.BufferedProtocol, web.RequestHandler):
    """Reads into one buffer that all connections of a server share, and closes itself when a limit has passed."""

    __slots__ = ("_admitted", "_busy", "_held", "_limit", "_server")

    def __init__(self, manager: DeviceServer, *, loop: asyncio.AbstractEventLoop, **options: Any) -> None:
        super().__init__(manager, loop=loop, **options)
        self._server = manager
        self._busy = self._held = self._admitted = False
        self._limit: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        # Nothing is buffered behind what is being sent: a client that does not read holds one slice of its answer.
        if self.transport is not None:
            self.transport.set_write_buffer_limits(high=0)

    def connection_lost(self, exc: BaseException | None) -> None:
        self.no_limit()
        super().connection_lost(exc)

    def eof_received(self) -> None:
        """Close: a client that ends its side of the connection wants no answer."""

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._server.buffer if self._admitted else self._server.small_buffer

    def buffer_updated(self, nbytes: int) -> None:
        if self._limit is None and not self._busy:
            self.limit(HEADER_SECONDS, "the headers of a request")
        self.data_received(bytes(self._server.buffer[:nbytes]))

    def begin(self) -> None:
        """Note that a request has come: its headers are in time."""
        self._busy = True
        self.no_limit()

    def hold(self) -> None:
        """Read nothing more until :meth:`admit`."""
        self._held = True
        self.pause_reading()

    def admit(self) -> None:
        """Read the body of the current request at full speed."""
        self._admitted = True
        if self._held:
            self._held = False
            self.resume_reading()

    def finish(self) -> None:
        """Note that the request has been answered: no limit applies while the connection is idle."""
        self._busy = self._admitted = False
        self.no_limit()

    def limit(self, seconds: float, what: str) -> None:
        """Drop the connection unless another limit, or none, is set within ``seconds``."""
        self.no_limit()
        self._limit = self._loop.call_later(seconds, self._drop, what, seconds)

    def no_limit(self) -> None:
        """Lift the limit."""
        if self._limit is not None:
            self._limit.cancel()
            self._limit = None

    def _drop(self, what: str, seconds: float) -> None:
        self._limit = None
        if self.transport is not None:
            logger.warning("%s: dropped, %s took more than %.0f s", self.peer, what, seconds)
            self.transport.abort()

    @property
    def draining(self) -> bool:
        """Whether the server is about to stop, so that this connection should end with its answer."""
        return self._server.draining

    @property
    def peer(self) -> str:
        """Address of the other side."""
        address = self.peername
        return f"{address[0]}:{address[1]}" if isinstance(address, tuple) else "a client"

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what is not HTTP, or what met a fault of this program, and close."""
        if status == 400:
            logger.info("%s: not an HTTP request", self.peer)
        elif isinstance(exc, ConnectionError):
            if self.transport is not None:
                self.transport.abort()
        else:
            logger.error("%s: internal error: %r", self.peer, exc, exc_info=exc)
        self.no_limit()
        page = error_page(status)
        response = web.Response(status=page.status, headers=page.headers(), body=page.body)
        response.force_close()
        return response


class DeviceServer(web.Server):
    """Makes a :class:`Connection` per client, and knows how many requests are in flight."""

    def __init__(
        self, handler: Handler, tls: ssl.SSLContext | None = None, *, idle_seconds: float = IDLE_SECONDS
    ) -> None:
        super().__init__(self._counted, keepalive_timeout=idle_seconds, **_ENGINE)
        self.buffer = memoryview(bytearray(READ))
        self.small_buffer = self.buffer[:FIRST_READ]
        self.draining = False
        self._handler = handler
        self._tls = tls
        self._in_flight = 0
        self._idle = asyncio.Event()

    def __call__(self) -> web.RequestHandler:
        connection = Connection(self, loop=self._loop, **self._kwargs)
        # The engine hands this to the event loop, which takes any protocol.
        return cast(web.RequestHandler, TlsGate(connection, self._tls)) if self._tls else connection

    async def drain(self, seconds: float) -> None:
        """End every connection with the answer to its current request, and those that take over ``seconds`` without."""
        self.draining = True
        if self._in_flight:
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._idle.wait(), seconds)
        for connection in self.connections:
            if connection.transport is not None and self._in_flight:
                connection.transport.abort()

    async def _counted(self, request: web.BaseRequest) -> web.StreamResponse:
        connection = connection_of(request)
        self._in_flight += 1
        connection.begin()
        try:
            return await self._handler(request)
        finally:
            connection.finish()
            self._in_flight -= 1
            if self.draining and not self._in_flight:
                self._idle.set()


def connection_of(request: web.BaseRequest) -> Connection:
    """Return the connection that a request came by."""
    connection = request.protocol
    if not isinstance(connection, Connection):
        raise TypeError("the request came through another engine")
    return connection
