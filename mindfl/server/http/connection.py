"""One connection: bytes to requests and replies to bytes, with little memory and a limit on how long each may take."""

from __future__ import annotations

import asyncio
import logging
import re
from collections import deque
from typing import TYPE_CHECKING, cast

import httptools

from mindfl.server.http import limits
from mindfl.server.http.limits import crowded
from mindfl.server.http.pages import Reply, error_page
from mindfl.server.http.request import NotHttpError, Request, TooLargeError
from mindfl.server.http.sockets import peer_name

if TYPE_CHECKING:
    from mindfl.server.http.service import HttpServer

logger = logging.getLogger("mindfl.server")

FIRST_READ = 4096
"""Bytes read at once before a request is admitted: thousands of waiting clients may hold as much each."""
READ = 256 * 1024
"""Bytes of a chunked body read at once afterwards."""
SLICE = 64 * 1024
"""Bytes of a reply handed to the transport at once."""
HEAD_BYTES = 64 * 1024
"""Longest head of a request, and most bytes behind it in which the parser finds no part of a body."""
_FIELD_BYTES = 4
"""Bytes of a header beside its name and its value."""
_MOST_WAITING = 256
"""How many requests may follow one that is not answered yet: more than come with one read."""
_REQUEST_LINE = re.compile(rb"[A-Z]+ \S+ HTTP/1\.[01]\r?\n")
"""A request in order, but for a method that the parser does not know."""
_TLS_HELLO = b"\x16\x03"
"""How a client that wants TLS begins."""
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Connection(asyncio.BufferedProtocol):
    """Reads requests and answers them one after the other. Belongs to one event loop.

    Heads and chunked bodies are read into one buffer that all connections of a server share, and parsed from there; a
    body of known length is read straight into its own memory.
    """

    def __init__(self, server: HttpServer) -> None:
        self._server = server
        self._limit = limits.TimeLimit(self._drop)
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self._reading = True
        self._in_head = False
        self._head_size = self._unparsed = 0
        self._target = b""
        self._headers: dict[str, str] = {}
        self._arriving: Request | None = None
        self._admitted = self._bypassing = False
        self._memory: memoryview | None = None
        self._waiting: deque[Request | int] = deque()
        self._answering: asyncio.Task[None] | None = None
        self._writable: asyncio.Future[None] | None = None
        self._lingering = False
        self.peer = "a client"

    # Called by the transport.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Another event loop's transports are no subclass of asyncio's, though they have the same methods.
        self._transport = transport = cast(asyncio.Transport, transport)
        self.peer = peer_name(transport)
        # One slice is buffered at a time: a client that does not read holds one slice of its answer.
        # With high=0 asyncio's TLS transport takes an empty buffer for a full one, and stays paused.
        transport.set_write_buffer_limits(high=1, low=0)
        self._server.connections.add(self)
        if self._server.draining:
            self.abort()
        elif self._server.is_full or crowded(transport.get_extra_info("socket")):
            logger.warning("%s: refused, too many connections are open", self.peer)
            self.abort()
        elif self._waiting:
            # Over TLS the first request may have come with the end of the handshake, before this call.
            self._answer_next()
        elif not self._in_head:
            self._limit.set(self._server.idle_seconds)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._transport = None
        self._limit.close()
        self._server.connections.discard(self)
        if self._arriving is not None:
            self._arriving.fail(ConnectionResetError("the client is gone"))
            self._arriving = self._memory = None
        self.resume_writing()

    def eof_received(self) -> None:
        """Close: a client that ends its side of the connection wants no answer."""

    def pause_writing(self) -> None:
        self._writable = asyncio.get_running_loop().create_future()

    def resume_writing(self) -> None:
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)
        self._writable = None

    def get_buffer(self, sizehint: int) -> memoryview:
        if self._memory is not None:
            return self._memory
        return self._server.buffer if self._admitted or self._lingering else self._server.small_buffer

    def buffer_updated(self, nbytes: int) -> None:
        if self._memory is not None:
            self._fill(nbytes)
        elif not self._lingering:
            self._parse(self._server.buffer[:nbytes])

    def _fill(self, nbytes: int) -> None:
        assert self._memory is not None and self._arriving is not None
        self._memory = self._memory[nbytes:]
        self._arriving.received += nbytes
        if not self._memory:
            # The parser still waits for the body that passed it by.
            self._parser = httptools.HttpRequestParser(self)
            self._complete()

    def _parse(self, data: memoryview) -> None:
        while data:
            data = self._take(data) if self._bypassing else self._feed(data)
        if self._waiting:
            self._read(False)

    def _feed(self, data: memoryview) -> memoryview:
        """Parse ``data``, and return the bytes behind a request that offers another protocol."""
        self._unparsed += len(data)
        try:
            self._parser.feed_data(data)
            # The parser gathers a header, or a field behind a chunked body, until its end.
            if self._unparsed > HEAD_BYTES:
                raise NotHttpError
        except httptools.HttpParserUpgrade as upgrade:
            self._parser = httptools.HttpRequestParser(self)
            return data[upgrade.args[0] :]
        except httptools.HttpParserInvalidMethodError:
            self._refuse(501 if _REQUEST_LINE.match(data) else 400, data)
        except (httptools.HttpParserError, NotHttpError):
            self._refuse(400, data)
        return data[:0]

    def _take(self, data: memoryview) -> memoryview:
        """Take the body of a request that offers another protocol, and return the bytes behind it."""
        assert self._arriving is not None and self._arriving.length is not None
        missing = self._arriving.length - self._arriving.received
        self._arriving.take(bytes(data[:missing]))
        if len(data) >= missing:
            self._complete()
        return data[missing:]

    def _complete(self) -> None:
        request, self._arriving = self._arriving, None
        if self._admitted:
            self._limit.lift()
        self._admitted, self._memory, self._bypassing = False, None, False
        if request is not None:
            request.finish()

    def _refuse(self, status: int, data: memoryview | bytes = b"") -> None:
        if bytes(data[: len(_TLS_HELLO)]) == _TLS_HELLO:
            logger.warning("%s: refused, it speaks TLS on a port for plain HTTP", self.peer)
        else:
            logger.info("%s: not an HTTP request", self.peer)
        self._read(False)
        if self._answering is None:
            self._limit.lift()
        if self._arriving is not None:
            self._arriving.fail(NotHttpError())
        else:
            self._waiting.append(status)
            self._answer_next()

    # Called by the parser.

    def on_message_begin(self) -> None:
        self._target = b""
        self._headers = {}
        self._head_size = 0
        self._in_head = True
        if self._answering is None:
            self._limit_head()

    def on_url(self, url: bytes) -> None:
        self._grow_head(len(url))
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._grow_head(len(name) + len(value) + _FIELD_BYTES)
        if not self._in_head:
            return  # a field behind a chunked body says nothing about the request
        key, text = name.decode("latin-1").lower(), value.decode("latin-1")
        self._headers[key] = f"{self._headers[key]}, {text}" if key in self._headers else text

    def _grow_head(self, size: int) -> None:
        self._unparsed = 0
        self._head_size += size
        if self._head_size > HEAD_BYTES:
            raise NotHttpError

    def on_headers_complete(self) -> None:
        self._in_head = False
        if self._answering is None:
            self._limit.lift()
        if len(self._waiting) == _MOST_WAITING:
            raise NotHttpError
        request = Request(
            self,
            self._parser.get_method().decode(),
            self._target.decode(errors="surrogateescape"),
            self._parser.get_http_version(),
            self._headers,
            keep_alive=self._parser.should_keep_alive(),
        )
        # Another protocol may be offered (Java's client does so), and is never taken; but the parser stops there, and
        # passes no body on.
        if self._parser.should_upgrade():
            if request.length is None:
                raise NotHttpError
            self._bypassing = request.length > 0
        self._arriving = request
        self._waiting.append(request)
        self._answer_next()

    def on_body(self, body: bytes) -> None:
        self._unparsed = 0
        if self._arriving is not None:
            self._arriving.take(body)

    def on_message_complete(self) -> None:
        if not self._bypassing:
            self._complete()

    # Called by the reader of a body.

    def hold(self) -> None:
        """Read nothing more until :meth:`admit`."""
        self._read(False)

    def admit(self, request: Request, seconds: float) -> None:
        """Read the body of ``request`` at full speed, for ``seconds`` at most."""
        if self._arriving is not request:
            self._read(not self._waiting)
            return
        self._limit.set(seconds, "a request")
        if request.expects_continue and self._transport is not None:
            self._transport.write(_CONTINUE)
        self._admitted = True
        if request.length is not None:
            self._memory = memoryview(request.room())[request.received :]
        self._read(True)

    # Answering.

    def _answer_next(self) -> None:
        if self._answering is None and self._waiting and self._transport is not None:
            self._answering = asyncio.get_running_loop().create_task(self._answer(self._waiting.popleft()))

    async def _answer(self, request: Request | int) -> None:
        """Answer a request; a number is the status of the error page for bytes that are no request."""
        self._server.begin()
        keep = False
        try:
            reply = error_page(request) if isinstance(request, int) else await self._reply(request)
            self._limit.set(limits.patience(len(reply.body)), "taking an answer")
            keep = await self._send(request, reply)
        except ConnectionError:
            self.abort()
        finally:
            self._limit.lift()
            self._answering = None
            self._server.end()
            self._go_on(keep)

    async def _reply(self, request: Request) -> Reply:
        try:
            return await self._server.front(request)
        except (NotHttpError, TooLargeError):
            # That a chunk is broken is the same to the reference.
            return error_page(413)
        except ConnectionError:
            raise
        except Exception as error:
            logger.error("%s: internal error: %r", self.peer, error, exc_info=error)
            return error_page(500)

    async def _send(self, request: Request | int, reply: Reply) -> bool:
        """Send ``reply``; return whether the connection may take another request.

        A large body goes out in slices, each of which waits for the one before, so that thousands of slow readers hold
        a slice each and share the rest.
        """
        keep, version, body = False, "1.1", reply.body
        if isinstance(request, Request):
            keep = request.keep_alive and request.complete and not (reply.close or self._server.draining)
            version, body = request.version, b"" if request.method == "HEAD" else reply.body
        head = reply.head(version, keep_alive=keep)
        if len(body) <= SLICE:
            await self._write(head + body)
        else:
            await self._write(head)
            rest = memoryview(body)
            while rest:
                await self._write(rest[:SLICE])
                rest = rest[SLICE:]
        return keep

    async def _write(self, data: bytes | memoryview) -> None:
        # asyncio accepts writes to a lost connection, and logs a warning for every slice.
        if self._transport is None or self._transport.is_closing():
            raise ConnectionResetError("the client is gone")
        self._transport.write(data)
        if self._writable is not None:
            await self._writable

    def _go_on(self, keep: bool) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        if not keep:
            self._end()
        elif self._waiting:
            self._answer_next()
        else:
            self._read(True)
            if self._in_head:
                self._limit_head()
            else:
                self._limit.set(self._server.idle_seconds)

    def _limit_head(self) -> None:
        self._limit.set(limits.HEADER_SECONDS, "the headers of a request")

    def _end(self) -> None:
        assert self._transport is not None
        if self._arriving is None:
            self._transport.close()
            return
        self._lingering, self._memory = True, None
        if self._transport.can_write_eof():
            self._transport.write_eof()
        self._limit.set(limits.LINGER_SECONDS)
        self._read(True)

    def _read(self, reading: bool) -> None:
        if self._reading is not reading and self._transport is not None and not self._transport.is_closing():
            self._reading = reading
            if reading:
                self._transport.resume_reading()
            else:
                self._transport.pause_reading()

    def _drop(self, what: str, seconds: float) -> None:
        if what:
            logger.warning("%s: dropped, %s took more than %.0f s", self.peer, what, seconds)
        self.abort()

    @property
    def idle(self) -> bool:
        """Whether no request is being answered."""
        return self._answering is None

    def abort(self) -> None:
        """End the connection at once."""
        if self._transport is not None:
            self._transport.abort()
