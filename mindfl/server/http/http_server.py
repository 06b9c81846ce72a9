"""The listening side: a connection per client, and how many requests are in flight."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from socket import socket
from typing import TypeAlias

from mindfl.server.http import limits
from mindfl.server.http.connection import FIRST_READ, READ, Connection
from mindfl.server.http.limits import accepted_at_once
from mindfl.server.http.pages import Reply
from mindfl.server.http.request import Request
from mindfl.server.http.sockets import BACKLOG
from mindfl.server.http.tls_gate import TlsGate

Front: TypeAlias = Callable[[Request], Awaitable[Reply]]
"""Answers a request; raises ``ConnectionError`` where no answer must be sent."""
Counted: TypeAlias = Callable[[Front], Front]
"""Returns a front that answers as the given one does, and counts the bytes of its messages."""


class HttpServer:
    """Listens, makes a :class:`Connection` per client, and knows how many requests are in flight.

    Belongs to one event loop, in which it must be made. ``front`` answers the requests.
    """

    def __init__(
        self,
        front: Front,
        tls: ssl.SSLContext | None = None,
        *,
        idle_seconds: float = limits.IDLE_SECONDS,
        most_connections: int | None = None,
    ) -> None:
        self.front = front
        self.buffer = memoryview(bytearray(READ))
        self.small_buffer = self.buffer[:FIRST_READ]
        self.connections: set[Connection] = set()
        self.draining = False
        self.idle_seconds = idle_seconds
        self._tls = tls
        self._most_connections = most_connections
        self._listeners: list[asyncio.Server] = []
        self._in_flight = 0
        self._idle = asyncio.Event()

    async def listen(self, sockets: Sequence[socket]) -> None:
        """Accept connections on ``sockets``, which become the server's own."""
        for listening in sockets:
            # asyncio accepts as many as this backlog before it serves any of them.
            server = await asyncio.get_running_loop().create_server(
                self._protocol, sock=listening, backlog=accepted_at_once()
            )
            self._listeners.append(server)
            listening.listen(BACKLOG)

    async def stop(self, seconds: float) -> None:
        """Accept nothing more, and end every connection with the answer to its request, or after ``seconds``."""
        self.draining = True
        for listener in self._listeners:
            listener.close()
        for connection in list(self.connections):
            if connection.idle:
                connection.abort()
        if self._in_flight:
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._idle.wait(), seconds)
        for connection in list(self.connections):
            connection.abort()

    @property
    def is_full(self) -> bool:
        """Whether more connections are open than there may be."""
        return self._most_connections is not None and len(self.connections) > self._most_connections

    def begin(self) -> None:
        """Note that a request is in flight."""
        self._in_flight += 1

    def end(self) -> None:
        """Note that one has been answered."""
        self._in_flight -= 1
        if self.draining and not self._in_flight:
            self._idle.set()

    def _protocol(self) -> asyncio.BaseProtocol:
        connection = Connection(self)
        return TlsGate(connection, self._tls) if self._tls else connection
