"""One request as it arrives."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, TypeAlias
from urllib.parse import parse_qsl, unquote

if TYPE_CHECKING:
    from mindfl.server.http.connection import Connection

Body: TypeAlias = bytes | memoryview


class TooLargeError(Exception):
    """A body is larger than the limit."""


class NotHttpError(Exception):
    """The bytes of a body are no HTTP."""


class Request:
    """Head and body of a request. Header names are in lower case; ``length`` is None where the body is chunked."""

    __slots__ = (
        "_arrived",
        "_content",
        "_fault",
        "_most",
        "complete",
        "connection",
        "headers",
        "keep_alive",
        "length",
        "method",
        "received",
        "target",
        "version",
    )

    def __init__(
        self,
        connection: Connection,
        method: str,
        target: str,
        version: str,
        headers: Mapping[str, str],
        *,
        keep_alive: bool,
    ) -> None:
        self.connection = connection
        self.method = method
        self.target = target
        self.version = version
        self.headers = headers
        self.keep_alive = keep_alive
        self.length = None if "transfer-encoding" in headers else int(headers.get("content-length", 0))
        self.received = 0
        self.complete = False
        self._content = bytearray()
        self._most: int | None = None
        self._arrived: asyncio.Future[None] | None = None
        self._fault: Exception | None = None

    @property
    def path(self) -> str:
        """The decoded path without the query, with every slash as it was sent."""
        path = self.target.partition("?")[0]
        if not path.startswith("/"):
            _, slash, rest = path.partition("://")[2].partition("/")
            path = slash + rest
        return unquote(path, errors="replace") if "%" in path else path

    @property
    def query(self) -> dict[str, str]:
        """The values behind the question mark."""
        return dict(parse_qsl(self.target.partition("?")[2]))

    @property
    def expects_continue(self) -> bool:
        """Whether the client waits for ``100 Continue`` before it sends the body."""
        return self.version == "1.1" and not self.complete and self.headers.get("expect", "").lower() == "100-continue"

    async def body(self, most: int) -> Body:
        """Return the whole body.

        Raises :class:`TooLargeError` as soon as more than ``most`` bytes have come, :class:`NotHttpError`, and
        ``ConnectionError`` where the client goes away.
        """
        self._most = most
        self._check()
        if not self.complete and self._fault is None:
            self._arrived = asyncio.get_running_loop().create_future()
            await self._arrived
        if self._fault is not None:
            raise self._fault
        return memoryview(self._content).toreadonly()

    def take(self, part: bytes) -> None:
        """Note the next bytes of the body."""
        if self._fault is None:
            self._content += part
        self.received += len(part)
        self._check()

    def room(self) -> bytearray:
        """Return the memory of the whole body, whose ``length`` is known; it begins with the bytes received so far."""
        memory = bytearray(self.length or 0)
        memory[: self.received] = self._content
        self._content = memory
        return memory

    def finish(self) -> None:
        """Note that the body is complete."""
        self.complete = True
        self._wake()

    def fail(self, fault: Exception) -> None:
        """Raise ``fault`` in the reader of the body."""
        if self._fault is None:
            self._fault = fault
            # The fault is raised, and then holds the frames that hold this request.
            self._content = bytearray()
            self._wake()

    def _check(self) -> None:
        if self._most is not None and self.received > self._most:
            self.fail(TooLargeError())

    def _wake(self) -> None:
        if self._arrived is not None and not self._arrived.done():
            self._arrived.set_result(None)
