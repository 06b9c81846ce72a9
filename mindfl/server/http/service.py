"""A job's HTTP service: its listeners, its threads, its end; on a running event loop or in a thread of its own."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from types import TracebackType
from typing import TypeAlias

from mindfl.errors import StorageError
from mindfl.server.coordinator import Coordinator
from mindfl.server.http import limits
from mindfl.server.http.connection import FIRST_READ, READ, Connection
from mindfl.server.http.front import DeviceFront, ManagementFront
from mindfl.server.http.limits import accepted_at_once
from mindfl.server.http.pages import Reply
from mindfl.server.http.request import Request
from mindfl.server.http.sockets import BACKLOG, Address, bound_address, listen
from mindfl.server.http.tls_gate import TlsGate
from mindfl.server.http.workers import Job, VolatileJob, Workers
from mindfl.server.iteration import Clock
from mindfl.server.management import Management
from mindfl.server.state import JobProgress

Front: TypeAlias = Callable[[Request], Awaitable[Reply]]
"""Answers a request; raises ``ConnectionError`` where no answer must be sent."""
Counted: TypeAlias = Callable[[Front], Front]
"""Returns a front that answers as the given one does, and counts the bytes of its messages."""
GRACE_SECONDS = 5.0
"""How long requests that are being received or answered may still take when a service stops."""


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

    async def listen(self, sockets: Sequence[socket.socket]) -> None:
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


class Listeners:
    """Accepts requests until :meth:`stop`. Belongs to one event loop."""

    def __init__(self) -> None:
        self._servers: list[HttpServer] = []

    async def serve(
        self,
        front: Front,
        sockets: Sequence[socket.socket],
        tls: ssl.SSLContext | None = None,
        *,
        most_connections: int | None = None,
    ) -> None:
        """Accept requests on ``sockets``, which become the listeners' own, and let ``front`` answer them.

        Where more than ``most_connections`` would be open, new ones are refused.
        """
        server = HttpServer(front, tls, most_connections=most_connections)
        self._servers.append(server)
        await server.listen(sockets)

    async def stop(self, grace_seconds: float = GRACE_SECONDS) -> None:
        """Accept no more requests, finish those in flight, and close every connection."""
        await asyncio.gather(*(server.stop(grace_seconds) for server in self._servers))


class HttpService(Listeners):
    """Serves ``job`` until :meth:`stop`. Belongs to one event loop.

    Several sockets are several addresses of one and the same job: quotas and models are shared because there is one
    coordinator. ``front`` answers devices, also those that were accepted elsewhere.
    """

    def __init__(self, job: Job, *, prefix: str = "", clock: Clock | None = None) -> None:
        super().__init__()
        self.workers = Workers(job)
        self.front = DeviceFront(self.workers, prefix=prefix, clock=clock or Clock())

    async def start(self, sockets: Sequence[socket.socket], tls: ssl.SSLContext | None = None) -> None:
        """Accept requests of devices on ``sockets``."""
        await self.serve(self.front, sockets, tls)
        self.front.watch_windows()

    async def stop(self, grace_seconds: float = GRACE_SECONDS) -> None:
        """Accept no more requests, finish those in flight, and close every connection."""
        await super().stop(grace_seconds)
        await self.front.stop()
        self.workers.close()


class SingleServer:
    """Serves ``job``, which no other server shares. Belongs to one event loop, in which it must be made.

    ``counted`` wraps the front for clients, of which at most ``most_connections`` are connected at a time. See
    :class:`mindfl.server.cluster.Member`, which has the same methods.
    """

    def __init__(
        self,
        job: Job,
        management: Management,
        *,
        prefix: str,
        clock: Clock,
        counted: Counted,
        most_connections: int | None = None,
    ) -> None:
        self._coordinator = job.coordinator
        self._management = management
        self._counted = counted
        self._most_connections = most_connections
        self._service = HttpService(job, prefix=prefix, clock=clock)
        self.failure: asyncio.Future[StorageError] = self._service.workers.failure

    @property
    def progress(self) -> JobProgress:
        """How far the job is."""
        return JobProgress.of(self._coordinator)

    async def start(
        self, sockets: Sequence[socket.socket], manage_sockets: Sequence[socket.socket], tls: ssl.SSLContext | None
    ) -> None:
        """Accept requests."""
        front = self._counted(self._service.front)
        await self._service.serve(front, sockets, tls, most_connections=self._most_connections)
        self._service.front.watch_windows()
        await self._service.serve(ManagementFront(self._management, self._service.workers), manage_sockets, tls)

    async def stop(self) -> None:
        """Finish the requests in flight."""
        await self._service.stop()


class BackgroundServer:
    """Serves a coordinator over HTTP from a thread of its own, for as long as the context lasts.

    Example:
        >>> with BackgroundServer(coordinator) as server:
        ...     print(server.url)
        http://127.0.0.1:...
    """

    def __init__(
        self,
        coordinator: Coordinator,
        address: str = "127.0.0.1:0",
        *,
        prefix: str = "",
        tls: ssl.SSLContext | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._job = VolatileJob(coordinator)
        self._prefix = prefix
        self._tls = tls
        self._clock = clock
        self._sockets = listen(Address.parse(address, "address"), "address")
        scheme = "https" if tls else "http"
        self.url = f"{scheme}://{bound_address(self._sockets[0])}{(prefix or '/').rstrip('/')}"
        self._ready: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = Future()
        self._thread = threading.Thread(target=self._run, name="mindfl-http", daemon=True)

    def __enter__(self) -> BackgroundServer:
        self._thread.start()
        self._ready.result()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        loop, stopping = self._ready.result()
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(stopping.set)
        self._thread.join()

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:
            if not self._ready.done():
                self._ready.set_exception(error)
            raise

    async def _serve(self) -> None:
        service = HttpService(self._job, prefix=self._prefix, clock=self._clock)
        stopping = asyncio.Event()
        try:
            await service.start(self._sockets, self._tls)
            self._ready.set_result((asyncio.get_running_loop(), stopping))
            await stopping.wait()
        finally:
            await service.stop()
