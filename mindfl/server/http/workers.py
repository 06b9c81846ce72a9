"""Runs the work of requests, in the event loop or in threads, and waits until its result is durable."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol, TypeVar

from mindfl.errors import StorageError
from mindfl.protocol import Request
from mindfl.server.coordinator import Coordinator
from mindfl.server.durable import Answer
from mindfl.server.refusal import StoreDownError


class Job(Protocol):
    """A coordinator whose answers may have to wait for the disk; :class:`mindfl.server.durable.DurableJob` is one."""

    @property
    def coordinator(self) -> Coordinator:
        """The state machine."""

    @property
    def prompt(self) -> bool:
        """Whether :meth:`handle` never waits for a network, so that an event loop may call it."""

    @property
    def away(self) -> bool:
        """Whether nothing can be stored just now, because the storage cannot be reached."""

    @property
    def settled(self) -> int:
        """The position to wait for after a change that is not a device's."""

    def handle(self, request: Request, now_ms: int, *, repeated: bool = False) -> Answer:
        """Answer one request; called from several threads. ``repeated``: see :meth:`Coordinator.handle`."""

    def durable(self, position: int) -> Future[None] | None:
        """Return a future to wait for before an answer of ``position`` is sent; None: send it at once."""


class VolatileJob:
    """A job that lives in memory only."""

    prompt = True
    away = False
    settled = 0

    def __init__(self, coordinator: Coordinator) -> None:
        self.coordinator = coordinator

    def handle(self, request: Request, now_ms: int, *, repeated: bool = False) -> Answer:
        """Answer one request."""
        return Answer(self.coordinator.handle(request, now_ms, repeated=repeated), 0)

    def durable(self, position: int) -> Future[None] | None:
        """Return None: answers are sent at once."""
        return None


LIGHT_BYTES = 2**20
"""Messages up to this size are handled in the event loop: a LeNet's upload takes half a millisecond, and to hand it to
a thread and back takes longer while both compete for the interpreter."""
_MOST_THREADS = 4
_Result = TypeVar("_Result")


class Workers:
    """Runs the work of ``job``. Belongs to one event loop. ``failure`` is done once nothing can be made durable."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self._heavy = 0
        self.failure: asyncio.Future[StorageError] = asyncio.get_running_loop().create_future()
        self._threads = ThreadPoolExecutor(min(_MOST_THREADS, max(2, os.cpu_count() or 1)), "mindfl-server")

    async def handle(self, size: int, work: Callable[[], _Result], *, heavy: bool = False) -> _Result:
        """Run ``work`` on a message of ``size`` bytes in the event loop or in a thread, and return its result.

        ``heavy``: it may take seconds, and others that need the job have to wait for it; the event loop must not.
        """
        if not heavy:
            inline = size <= LIGHT_BYTES and self.job.prompt and not self._heavy
            return work() if inline else await self.run(work)
        self._heavy += 1
        try:
            return await self.run(work)
        finally:
            self._heavy -= 1

    async def run(self, work: Callable[[], _Result]) -> _Result:
        """Run ``work`` in one of the threads, and return its result."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    async def durable(self, position: int) -> None:
        """Return when all before ``position`` is durable.

        Raises ``ConnectionError`` where that has become impossible, so that no answer may be sent, and
        :class:`StoreDownError` where another server leads the job now, or the storage cannot be reached.
        """
        waiting = self.job.durable(position)
        if waiting is None:
            return
        try:
            await asyncio.wrap_future(waiting)
        except StorageError as error:
            if not self.failure.done():
                self.failure.set_result(error)
            if isinstance(error, StoreDownError):
                raise
            raise ConnectionResetError("the server cannot store anything any more") from None

    def close(self) -> None:
        """Finish the work that has begun."""
        self._threads.shutdown()
