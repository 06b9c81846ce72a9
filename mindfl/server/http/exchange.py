"""Common to all fronts: refused methods, unknown paths, and limits on the size of one body and of all together."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import AsyncIterator, Container
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from mindfl.server.http.connection import FIRST_READ
from mindfl.server.http.limits import patience
from mindfl.server.http.pages import Reply, error_page, not_found
from mindfl.server.http.request import Body, Request, TooLargeError


class BodyMemory:
    """``limit`` bytes, lent to request bodies in the order in which they ask. Belongs to one event loop."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._lent = 0
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @property
    def lent(self) -> int:
        """Bytes lent now."""
        return self._lent

    def available(self, size: int) -> bool:
        """Whether :meth:`lend` would give ``size`` bytes at once. More than the limit is lent when nothing else is."""
        return not self._waiting and (self._lent + size <= self._limit or self._lent == 0)

    @asynccontextmanager
    async def lend(self, size: int) -> AsyncIterator[None]:
        """Hold ``size`` bytes inside the context; waits until they are there."""
        if self.available(size):
            self._lent += size
        else:
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append((size, turn))
            try:
                await turn
            except asyncio.CancelledError:
                if turn.done() and not turn.cancelled():
                    self._give_back(size)
                raise
        try:
            yield
        finally:
            self._give_back(size)

    def _give_back(self, size: int) -> None:
        self._lent -= size
        while self._waiting:
            wanted, turn = self._waiting[0]
            if self._lent and self._lent + wanted > self._limit:
                return
            self._waiting.popleft()
            if not turn.cancelled():
                self._lent += wanted
                turn.set_result(None)


_METHODS = frozenset({"GET", "POST", "HEAD", "PUT", "DELETE"})
"""Methods that the reference's server accepts; it treats them all alike."""
_VERSIONS = frozenset({"1.0", "1.1"})


class PathFront(ABC):
    """Answers requests for ``paths``, whose bodies keep to ``limits``. Belongs to one event loop."""

    def __init__(self, paths: Container[str], limits: BodyLimits) -> None:
        self._paths = paths
        self._bodies = BodyReader(limits)

    async def __call__(self, request: Request) -> Reply:
        """Return the answer to one HTTP request.

        Raises :class:`TooLargeError`, :class:`NotHttpError`, and ``ConnectionError`` where none must be sent.
        """
        if request.version not in _VERSIONS:
            return error_page(400)
        if request.method not in _METHODS:
            return error_page(501)
        path = request.path
        if path not in self._paths:
            return not_found(path)
        async with self._bodies.read(request) as body:
            return await self.answer(path, body, request)

    @abstractmethod
    async def answer(self, path: str, body: Body, request: Request) -> Reply:
        """Return the answer to ``body``, which was sent to one of the paths."""


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
    async def read(self, request: Request) -> AsyncIterator[Body]:
        """Yield the whole body; its bytes count as held until the context ends.

        Raises :class:`TooLargeError` as soon as the body is known to be too large, :class:`NotHttpError` if it
        breaks off HTTP, and ``ConnectionError`` where the client goes away or stalls.
        """
        announced = request.length
        size = self._limits.largest if announced is None else announced
        if size > self._limits.largest:
            raise TooLargeError
        connection = request.connection
        async with AsyncExitStack() as stack:
            if size > FIRST_READ:
                memory = self._usual if size <= self._limits.usual else self._larger
                if not memory.available(size):
                    connection.hold()
                await stack.enter_async_context(memory.lend(size))
            connection.admit(request, patience(self._limits.usual if announced is None else announced))
            yield await request.body(size)
