"""What the keeper of a job answers to the job's other servers."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Awaitable, Callable
from dataclasses import replace

from mindfl.server.cluster.feed import PATH, STATE_PATH, IterationFeed, News, Position
from mindfl.server.cluster.line import REFUSED, TOKEN
from mindfl.server.coordinator import Coordinator
from mindfl.server.http.front import DeviceFront
from mindfl.server.http.management_front import ManagementFront
from mindfl.server.http.pages import Reply, error_page
from mindfl.server.http.request import Request
from mindfl.server.management import PATHS
from mindfl.server.snapshot import Origin, Snapshot
from mindfl.server.state import Progress


class KeeperFront:
    """Answers requests that show ``token``: those of devices, of the management, and for the ends of iterations.

    ``changed`` is called after each request of the management. Belongs to one event loop.
    """

    def __init__(
        self,
        token: str,
        devices: DeviceFront,
        management: ManagementFront,
        feed: IterationFeed,
        coordinator: Coordinator,
        changed: Callable[[], Awaitable[None]],
    ) -> None:
        self._token = token.encode()
        self._devices = devices
        self._management = management
        self._feed = feed
        self._coordinator = coordinator
        self._changed = changed

    async def __call__(self, request: Request) -> Reply:
        """Return the answer to one HTTP request."""
        if not hmac.compare_digest(request.headers.get(TOKEN, "").encode(errors="replace"), self._token):
            return error_page(REFUSED)
        path = request.path
        if path == PATH:
            return await self._news(request)
        if path == STATE_PATH:
            return Reply(200, await asyncio.to_thread(self._state))
        if path not in PATHS:
            return await self._devices(request)
        reply = await self._management(request)
        await self._changed()
        return reply

    def _state(self) -> bytes:
        """Return the job between two iterations, with its latest model alone."""
        state = self._coordinator.snapshot()
        newest = replace(state, models={state.iteration - 1: state.models[state.iteration - 1]}, counted={})
        return b"".join(Snapshot(Origin(bytes(16), state.config, ""), 0, newest).parts())

    async def _news(self, request: Request) -> Reply:
        query = request.query
        known = Position(query["instance"], int(query["iteration"])) if "instance" in query else None
        record = await self._feed.after(known)
        coordinator = self._coordinator
        newest = Position(coordinator.instance, coordinator.iteration - 1)
        news = News(Progress.of(coordinator), newest, record)
        return Reply(200, await asyncio.to_thread(news.encode, coordinator.layout))
