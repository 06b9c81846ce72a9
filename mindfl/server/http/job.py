"""What the HTTP front asks of a job, and the job that keeps nothing on disk."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Protocol

from mindfl.protocol import Request
from mindfl.server.coordinator import Coordinator
from mindfl.server.durable import Answer


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
        """Whether nothing can be stored just now, because what stores it cannot be reached."""

    @property
    def settled(self) -> int:
        """The position to wait for after a change that is not a device's."""

    def handle(self, request: Request, now_ms: int, *, repeated: bool = False) -> Answer:
        """Answer one request; called from several threads. ``repeated``: see :meth:`Coordinator.handle`."""

    def durable(self, position: int) -> Future[None] | None:
        """Return what to wait for before an answer of ``position`` is sent; None: nothing."""


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
        """Return None: there is nothing to wait for."""
        return None
