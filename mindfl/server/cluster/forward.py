"""Answers of a server that does not keep the job, and of the scheduler: those of the keeper."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING
from urllib.parse import quote

from mindfl.errors import StorageError
from mindfl.server.cluster.line import KeeperLine
from mindfl.server.http.connection import SLICE
from mindfl.server.http.exchange import BodyLimits, PathFront
from mindfl.server.http.front import MANAGEMENT_LIMITS, SAFEMODE, device_paths
from mindfl.server.http.pages import EMPTY_BODY, MESSAGE_TYPE, Reply, failure, json_reply
from mindfl.server.http.request import Body, Request
from mindfl.server.management import CLUSTER_STATES, PATHS, listed
from mindfl.server.state import ServerState

if TYPE_CHECKING:
    from mindfl.server.cluster.redis_store import RedisStore

DEVICE_HOLD_SECONDS = 60.0
"""A device waits for a keeper this long; the reference's device gives an answer 90 s."""
_SCHEDULER_HOLD_SECONDS = 5.0
_SHARED = 4

_UNREACHABLE = failure(400, "Failed to access the cache server. Please retry later.", content_type=MESSAGE_TYPE)


class DeviceForward(PathFront):
    """Passes the requests of devices on, body by body. Belongs to one event loop.

    Where nobody keeps the job for a minute, or the Redis is away, devices are told what the reference tells them then.
    """

    def __init__(self, line: KeeperLine, *, prefix: str, model_bytes: int) -> None:
        self._quoted = {path: quote(path) for path in device_paths(prefix)}
        super().__init__(self._quoted, BodyLimits.for_model(model_bytes))
        self._line = line
        self._recent: list[Reply] = []

    async def answer(self, path: str, body: Body, request: Request) -> Reply:
        """Return the keeper's answer to one message."""
        if not body:
            return EMPTY_BODY
        found = await self._line.ask(self._quoted[path], body, hold_seconds=DEVICE_HOLD_SECONDS)
        return SAFEMODE if found is None else self._shared(found)

    def _shared(self, reply: Reply) -> Reply:
        """Return a recent answer that is the same, so that thousands of clients that read slowly hold one model."""
        if len(reply.body) <= SLICE:
            return reply
        for recent in self._recent:
            if recent == reply:
                return recent
        self._recent = [reply, *self._recent[: _SHARED - 1]]
        return reply


class ManagementForward(PathFront):
    """Passes what is asked of the management on, and answers what it can while nobody keeps the job."""

    def __init__(self, line: KeeperLine, store: RedisStore, fl_name: str) -> None:
        super().__init__(PATHS, MANAGEMENT_LIMITS)
        self._line = line
        self._store = store
        self._fl_name = fl_name

    async def answer(self, path: str, body: Body, request: Request) -> Reply:
        """Return the answer to one request."""
        try:
            nodes = await asyncio.to_thread(self._store.nodes)
        except StorageError:
            return _UNREACHABLE
        reply = await self._line.ask(path, body, hold_seconds=_SCHEDULER_HOLD_SECONDS if nodes else 0.0)
        if reply is not None:
            return reply
        try:
            return await asyncio.to_thread(self._without_keeper, path, listed(nodes))
        except StorageError:
            return _UNREACHABLE

    def _without_keeper(self, path: str, nodes: list[dict[str, str]]) -> Reply:
        last = self._store.keeper()
        if last is None:
            return failure(400, f"Cannot find cluster info for {self._fl_name}", content_type=MESSAGE_TYPE)
        shown: dict[str, object] = {"code": "0", "nodes": nodes} if nodes else {"code": "0"}
        if path == "/state":
            state = CLUSTER_STATES[ServerState(last.progress.state)]
            return json_reply(200, {**shown, "message": "Get cluster state successful.", "cluster_state": state})
        if path == "/queryInstance":
            return json_reply(200, {**shown, "message": "Query Instance successful.", "result": last.settings})
        return _UNREACHABLE
