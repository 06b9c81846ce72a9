"""The management address over HTTP."""

from __future__ import annotations

from mindfl.errors import MindflError
from mindfl.server.http.exchange import BodyLimits, PathFront
from mindfl.server.http.pages import MESSAGE_TYPE, Reply, failure, json_reply
from mindfl.server.http.request import Body, Request
from mindfl.server.http.workers import Workers
from mindfl.server.management import PATHS, Management

MANAGEMENT_LIMITS = BodyLimits(usual=64 * 1024, largest=2**20, together=2**20)


class ManagementFront(PathFront):
    """Answers people and scripts. Belongs to one event loop."""

    def __init__(self, management: Management, workers: Workers) -> None:
        super().__init__(PATHS, MANAGEMENT_LIMITS)
        self._management = management
        self._workers = workers

    async def answer(self, path: str, body: Body, request: Request) -> Reply:
        """Return the answer to one request."""
        reply = await self._workers.run(lambda: self._reply(path, bytes(body)))
        await self._workers.durable(self._workers.job.settled)
        return reply

    def _reply(self, path: str, body: bytes) -> Reply:
        try:
            return json_reply(200, self._management.answer(path, body))
        except MindflError as error:
            return failure(400, str(error), content_type=MESSAGE_TYPE)
