"""One exchange on a connection: reading the body within its bounds, and sending the reply."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from urllib.parse import unquote

from aiohttp import HttpVersion10, HttpVersion11, web

from mindfl.server.http.connection import FIRST_READ, connection_of
from mindfl.server.http.memory import BodyMemory
from mindfl.server.http.pages import Reply, error_page

SLICE = 64 * 1024
"""Bytes of a reply handed to the transport at once."""
PATIENCE_SECONDS = 30.0
SLOWEST = 16 * 1024
"""A body may take ``PATIENCE_SECONDS``, and a second more for each of these bytes."""
_METHODS = frozenset({"GET", "POST", "HEAD", "PUT", "DELETE"})
"""What the engine of the reference accepts; it treats them all alike."""
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Front(ABC):
    """What answers the requests of a listener."""

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one HTTP request."""
        try:
            reply = await self.reply(request)
        except TooLargeError:
            reply = error_page(413)
        return await send(request, reply)

    @abstractmethod
    async def reply(self, request: web.BaseRequest) -> Reply:
        """Return the answer. Raises :class:`TooLargeError`, and ``ConnectionError`` where none must be sent."""


class TooLargeError(Exception):
    """A body is larger than the limit."""


@dataclass(frozen=True, slots=True)
class BodyLimits:
    """Bounds on request bodies, in bytes.

    Bodies up to ``usual`` are read together as long as they fit into ``together``. Larger ones, up to ``largest``, and
    those that do not say how large they are, are read one at a time.
    """

    usual: int
    largest: int
    together: int

    @classmethod
    def for_model(cls, model_bytes: int) -> BodyLimits:
        """Return the bounds for a job whose model has ``model_bytes`` bytes of values.

        The largest body leaves room for the 64 MiB that the reference was seen to accept.
        """
        return cls(
            usual=model_bytes + model_bytes // 4 + 64 * 1024,
            largest=4 * model_bytes + 80 * 2**20,
            together=8 * model_bytes + 64 * 2**20,
        )


class BodyReader:
    """Reads the bodies of all connections of a server within :class:`BodyLimits`. Belongs to one event loop."""

    def __init__(self, limits: BodyLimits) -> None:
        self._limits = limits
        self._usual = BodyMemory(limits.together)
        self._larger = BodyMemory(limits.largest)

    @asynccontextmanager
    async def read(self, request: web.BaseRequest) -> AsyncIterator[bytes]:
        """Yield the whole body; its bytes count as held until the context ends.

        Raises :class:`TooLargeError` as soon as the body is known to be too large, and ``ConnectionError`` where the
        client goes away or stalls.
        """
        if not request.body_exists:
            yield b""
            return
        announced = request.content_length
        size = self._limits.largest if announced is None else announced
        if size > self._limits.largest:
            raise TooLargeError
        connection = connection_of(request)
        async with AsyncExitStack() as stack:
            if size > FIRST_READ:
                memory = self._usual if size <= self._limits.usual else self._larger
                if not memory.available(size):
                    connection.hold()
                await stack.enter_async_context(memory.lend(size))
            expected = self._limits.usual if announced is None else announced
            connection.admit()
            connection.limit(PATIENCE_SECONDS + expected / SLOWEST, "a request")
            body = await _whole(request, size)
            connection.no_limit()
            yield body


def ruled_out(request: web.BaseRequest) -> Reply | None:
    """Return the answer to a request that HTTP/1 itself rules out, whatever its path, else None."""
    if request.version < HttpVersion10:
        return error_page(400)
    return None if request.method in _METHODS else error_page(501)


def request_path(request: web.BaseRequest) -> str:
    """Return the decoded path without the query, with every slash as it was sent."""
    target = request.raw_path
    if not target.startswith("/"):
        return request.rel_url.path
    path = target.partition("?")[0]
    return unquote(path, errors="replace") if "%" in path else path


async def _whole(request: web.BaseRequest, most: int) -> bytes:
    if request.headers.get("Expect", "").lower() == "100-continue" and request.version >= HttpVersion11:
        await request.writer.write(_CONTINUE)
    chunks, received = [], 0
    while chunk := await request.content.readany():
        chunks.append(chunk)
        received += len(chunk)
        if received > most:
            raise TooLargeError
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


async def send(request: web.BaseRequest, reply: Reply) -> web.StreamResponse:
    """Send ``reply`` and return the engine's record of it; raises ``ConnectionError`` where the client is gone.

    A large body goes out in slices, each of which waits for the one before, so that thousands of slow readers hold a
    slice each and share the rest.
    """
    connection = connection_of(request)
    connection.limit(PATIENCE_SECONDS + len(reply.body) / SLOWEST, "taking an answer")
    response: web.StreamResponse
    if len(reply.body) <= SLICE:
        response = web.Response(
            status=reply.status, reason=reply.reason or None, headers=reply.headers(), body=reply.body
        )
    else:
        response = web.StreamResponse(status=reply.status, reason=reply.reason or None, headers=reply.headers())
        response.content_length = len(reply.body)
    if reply.close or connection.draining:
        response.force_close()
    await response.prepare(request)
    if len(reply.body) > SLICE:
        body = memoryview(reply.body)
        for start in range(0, len(body), SLICE):
            await response.write(body[start : start + SLICE])
    await response.write_eof()
    return response
