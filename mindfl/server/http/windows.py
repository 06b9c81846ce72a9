"""Ending time windows when they are due."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable


class WindowTimer:
    """Runs ``expire`` at the deadline set last. Belongs to one event loop; times are milliseconds of ``now_ms``."""

    def __init__(self, now_ms: Callable[[], int], expire: Callable[[], Awaitable[int | None]]) -> None:
        self._now_ms = now_ms
        self._expire = expire
        self._deadline: int | None = None
        self._handle: asyncio.TimerHandle | None = None
        self._running: asyncio.Task[None] | None = None

    def set(self, deadline: int | None) -> None:
        """Wake up at ``deadline`` instead of the one before; None: never."""
        if deadline == self._deadline:
            return
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
        self._deadline = deadline
        if deadline is not None:
            seconds = max(deadline - self._now_ms(), 0) / 1000
            self._handle = asyncio.get_running_loop().call_later(seconds, self._due)

    async def stop(self) -> None:
        """Wake up no more; returns when an expiry that is being handled has been."""
        self.set(None)
        if self._running is not None:
            await self._running
            self.set(None)

    def _due(self) -> None:
        self._deadline = self._handle = None
        self._running = asyncio.get_running_loop().create_task(self._run())

    async def _run(self) -> None:
        self.set(await self._expire())
