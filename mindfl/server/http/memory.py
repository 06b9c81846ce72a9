"""A bound on the bytes that request bodies hold at once, whatever the number of clients."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


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
