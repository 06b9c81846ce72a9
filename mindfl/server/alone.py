"""A server that keeps its job by itself."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Sequence

from mindfl.errors import StorageError
from mindfl.server.clock import Clock
from mindfl.server.data_rate import Counted
from mindfl.server.http import HttpService, Job, ManagementFront
from mindfl.server.management import Management
from mindfl.server.state import Progress


class Alone:
    """Serves ``job``. Belongs to one event loop, in which it must be made.

    ``counted`` wraps what answers devices, of which at most ``most_connections`` are connected at a time. See
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
    def progress(self) -> Progress:
        """How far the job is."""
        return Progress.of(self._coordinator)

    async def start(
        self, sockets: Sequence[socket.socket], manage_sockets: Sequence[socket.socket], tls: ssl.SSLContext | None
    ) -> None:
        """Accept requests."""
        front = self._counted(self._service.front)
        await self._service.serve(front, sockets, tls, most_connections=self._most_connections)
        self._service.front.watch_windows()
        await self._service.serve(ManagementFront(self._management, self._service.workers), manage_sockets, tls)

    async def stop(self) -> None:
        """Finish what is in flight."""
        await self._service.stop()
