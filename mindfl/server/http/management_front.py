"""The management address over HTTP."""

from __future__ import annotations

from aiohttp import web

from mindfl.errors import MindflError
from mindfl.server.http.exchange import BodyLimits, BodyReader, Front, request_path, ruled_out
from mindfl.server.http.pages import MESSAGE_TYPE, Reply, failure, json_reply, not_found
from mindfl.server.http.workers import Workers
from mindfl.server.management import PATHS, Management

MANAGEMENT_LIMITS = BodyLimits(usual=64 * 1024, largest=2**20, together=2**20)


class ManagementFront(Front):
    """Answers people and scripts. Belongs to one event loop."""

    def __init__(self, management: Management, workers: Workers) -> None:
        self._management = management
        self._workers = workers
        self._bodies = BodyReader(MANAGEMENT_LIMITS)

    async def reply(self, request: web.BaseRequest) -> Reply:
        """Return the answer to one HTTP request."""
        refused = ruled_out(request)
        if refused is not None:
            return refused
        path = request_path(request)
        if path not in PATHS:
            return not_found(path)
        async with self._bodies.read(request) as body:
            reply = await self._workers.run(lambda: self._answer(path, body))
        await self._workers.durable(self._workers.job.settled)
        return reply

    def _answer(self, path: str, body: bytes) -> Reply:
        try:
            return json_reply(200, self._management.answer(path, body))
        except MindflError as error:
            return failure(400, str(error), content_type=MESSAGE_TYPE)
