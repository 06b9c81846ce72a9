"""From a server that does not keep the job, or the scheduler, to the one that does."""

from __future__ import annotations

import asyncio
import io
import ssl
from collections.abc import Callable

import aiohttp
from yarl import URL

from mindfl.server.cluster.store import KeeperRecord
from mindfl.server.http.front import REPEATED
from mindfl.server.http.pages import Reply
from mindfl.server.refusal import StoreDownError

TOKEN = "mindfl-token"
"""Header that shows that a request comes from a server of the job, or its scheduler."""
REFUSED = 403
"""Status of an answer to a request that shows another token."""

_CONNECTIONS = 64
_CONNECT_SECONDS = 5.0
_ANSWER_SECONDS = 60.0
_PAUSE_SECONDS = 0.05
_OWN_HEADERS = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")


class KeeperLine:
    """Sends requests to whoever keeps the job, and holds them while nobody does. Belongs to one event loop.

    ``find`` returns where the keeper is now, or None. ``lost`` is called whenever one that was found does not answer.
    At most 64 requests are under way at once, the others wait.
    """

    def __init__(
        self,
        find: Callable[[], KeeperRecord | None],
        *,
        lost: Callable[[], None] | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._find = find
        self._lost = lost
        self._keeper: KeeperRecord | None = None
        self._finding = asyncio.Lock()
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=_CONNECTIONS, ssl=tls or True),
            timeout=aiohttp.ClientTimeout(sock_connect=_CONNECT_SECONDS, sock_read=_ANSWER_SECONDS),
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=_OWN_HEADERS,
            auto_decompress=False,
        )

    async def ask(self, path: str, body: bytes | memoryview = b"", *, hold_seconds: float) -> Reply | None:
        """Return the keeper's answer to ``body`` at ``path`` (quoted), or None where there was none to be had: at once
        where nobody can say who keeps the job.

        A request whose answer did not come is sent again, marked so that whatever the keeper accepted is accepted
        again, to the same keeper or the next one, for ``hold_seconds``.
        """
        clock = asyncio.get_running_loop().time
        deadline = clock() + hold_seconds
        headers: dict[str, str] = {}
        while True:
            try:
                keeper = await self._found()
            except StoreDownError:
                return None
            if keeper is not None:
                try:
                    reply = await self._send(keeper, path, body, headers)
                    if reply.status != REFUSED:
                        return reply
                except aiohttp.ClientConnectorError:
                    pass
                except (aiohttp.ClientError, asyncio.TimeoutError, OSError):
                    headers = {REPEATED: "1"}
                self._lose(keeper)
            if clock() >= deadline:
                return None
            await asyncio.sleep(_PAUSE_SECONDS)

    async def close(self) -> None:
        """End every connection."""
        await self._session.close()

    async def _found(self) -> KeeperRecord | None:
        async with self._finding:
            if self._keeper is None:
                found = await asyncio.to_thread(self._find)
                self._keeper = found if found is not None and found.url else None
            return self._keeper

    def _lose(self, keeper: KeeperRecord) -> None:
        if self._keeper is keeper:
            self._keeper = None
            if self._lost is not None:
                self._lost()

    async def _send(self, keeper: KeeperRecord, path: str, body: bytes | memoryview, headers: dict[str, str]) -> Reply:
        async with self._session.post(
            URL(keeper.url + path, encoded=True),
            data=io.BytesIO(body),
            headers={TOKEN: keeper.token, **headers},
            allow_redirects=False,
        ) as response:
            content = await response.read()
            return Reply(response.status, content, response.headers.get("Content-Type", ""), response.reason or "")
