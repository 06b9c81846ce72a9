"""Forwards requests to the leader, from the job's other servers and its scheduler."""

from __future__ import annotations

import asyncio
import io
import ssl
from collections.abc import Callable
from typing import TYPE_CHECKING
from urllib.parse import quote

import aiohttp
from yarl import URL

from mindfl.errors import StorageError
from mindfl.server.cluster.store import LeaderRecord
from mindfl.server.http.connection import SLICE
from mindfl.server.http.exchange import BodyLimits, PathFront
from mindfl.server.http.front import MANAGEMENT_LIMITS, REPEATED, SAFEMODE, device_paths
from mindfl.server.http.pages import EMPTY_BODY, MESSAGE_TYPE, Reply, failure, json_reply
from mindfl.server.http.request import Body, Request
from mindfl.server.management import CLUSTER_STATES, PATHS, listed
from mindfl.server.refusal import StoreDownError
from mindfl.server.state import ServerState

if TYPE_CHECKING:
    from mindfl.server.cluster.redis_store import RedisStore


TOKEN = "mindfl-token"
"""Header of requests from a server of the job, or its scheduler."""
REFUSED = 403
"""Status of the answer to another token."""

_CONNECTIONS = 64
_CONNECT_SECONDS = 5.0
_ANSWER_SECONDS = 60.0
_PAUSE_SECONDS = 0.05
_OWN_HEADERS = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")


class LeaderLine:
    """Forwards requests to the leader; queues them while there is none. Belongs to one event loop.

    ``find`` returns where the leader is now, or None. ``lost`` is called whenever one that was found does not answer.
    At most 64 requests are under way at once, the others wait.
    """

    def __init__(
        self,
        find: Callable[[], LeaderRecord | None],
        *,
        lost: Callable[[], None] | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._find = find
        self._lost = lost
        self._leader: LeaderRecord | None = None
        self._finding = asyncio.Lock()
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=_CONNECTIONS, ssl=tls or True),
            timeout=aiohttp.ClientTimeout(sock_connect=_CONNECT_SECONDS, sock_read=_ANSWER_SECONDS),
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=_OWN_HEADERS,
            auto_decompress=False,
        )

    async def ask(self, path: str, body: bytes | memoryview = b"", *, hold_seconds: float) -> Reply | None:
        """Return the leader's answer to ``body`` at ``path`` (quoted), or None where no answer came: at once
        where the leader cannot be looked up.

        A request whose answer did not come is sent again, marked so that whatever the leader accepted is accepted
        again, to the same leader or the next one, for ``hold_seconds``.
        """
        clock = asyncio.get_running_loop().time
        deadline = clock() + hold_seconds
        headers: dict[str, str] = {}
        while True:
            try:
                leader = await self._found()
            except StoreDownError:
                return None
            if leader is not None:
                try:
                    reply = await self._send(leader, path, body, headers)
                    if reply.status != REFUSED:
                        return reply
                except aiohttp.ClientConnectorError:
                    pass
                except (aiohttp.ClientError, asyncio.TimeoutError, OSError):
                    headers = {REPEATED: "1"}
                self._lose(leader)
            if clock() >= deadline:
                return None
            await asyncio.sleep(_PAUSE_SECONDS)

    async def close(self) -> None:
        """End every connection."""
        await self._session.close()

    async def _found(self) -> LeaderRecord | None:
        async with self._finding:
            if self._leader is None:
                found = await asyncio.to_thread(self._find)
                self._leader = found if found is not None and found.url else None
            return self._leader

    def _lose(self, leader: LeaderRecord) -> None:
        if self._leader is leader:
            self._leader = None
            if self._lost is not None:
                self._lost()

    async def _send(self, leader: LeaderRecord, path: str, body: bytes | memoryview, headers: dict[str, str]) -> Reply:
        async with self._session.post(
            URL(leader.url + path, encoded=True),
            data=io.BytesIO(body),
            headers={TOKEN: leader.token, **headers},
            allow_redirects=False,
        ) as response:
            content = await response.read()
            return Reply(response.status, content, response.headers.get("Content-Type", ""), response.reason or "")


DEVICE_HOLD_SECONDS = 60.0
"""A device waits for a leader this long; the reference's device gives an answer 90 s."""
_SCHEDULER_HOLD_SECONDS = 5.0
_SHARED = 4

_UNREACHABLE = failure(400, "Failed to access the cache server. Please retry later.", content_type=MESSAGE_TYPE)


class DeviceForward(PathFront):
    """Forwards the requests of clients to the leader. Belongs to one event loop.

    Without a leader for a minute, or without the Redis, clients get the reference's safemode text.
    """

    def __init__(self, line: LeaderLine, *, prefix: str, model_bytes: int) -> None:
        self._quoted = {path: quote(path) for path in device_paths(prefix)}
        super().__init__(self._quoted, BodyLimits.for_model(model_bytes))
        self._line = line
        self._recent: list[Reply] = []

    async def answer(self, path: str, body: Body, request: Request) -> Reply:
        """Return the leader's answer to one message."""
        if not body:
            return EMPTY_BODY
        found = await self._line.ask(self._quoted[path], body, hold_seconds=DEVICE_HOLD_SECONDS)
        return SAFEMODE if found is None else self._shared(found)

    def _shared(self, reply: Reply) -> Reply:
        """Return the equal recent answer, so that thousands of slow readers share one model in memory."""
        if len(reply.body) <= SLICE:
            return reply
        for recent in self._recent:
            if recent == reply:
                return recent
        self._recent = [reply, *self._recent[: _SHARED - 1]]
        return reply


class ManagementForward(PathFront):
    """Forwards requests of the management; without a leader it answers those that the Redis can answer."""

    def __init__(self, line: LeaderLine, store: RedisStore, fl_name: str) -> None:
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
            return await asyncio.to_thread(self._without_leader, path, listed(nodes))
        except StorageError:
            return _UNREACHABLE

    def _without_leader(self, path: str, nodes: list[dict[str, str]]) -> Reply:
        last = self._store.leader()
        if last is None:
            return failure(400, f"Cannot find cluster info for {self._fl_name}", content_type=MESSAGE_TYPE)
        shown: dict[str, object] = {"code": "0", "nodes": nodes} if nodes else {"code": "0"}
        if path == "/state":
            state = CLUSTER_STATES[ServerState(last.progress.state)]
            return json_reply(200, {**shown, "message": "Get cluster state successful.", "cluster_state": state})
        if path == "/queryInstance":
            return json_reply(200, {**shown, "message": "Query Instance successful.", "result": last.settings})
        return _UNREACHABLE
