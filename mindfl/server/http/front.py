"""From HTTP requests to the coordinator or the management and back: paths, decoding, bodies of answers."""

from __future__ import annotations

import asyncio
import threading
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from mindfl.errors import MindflError
from mindfl.modes import UploadMode
from mindfl.modes.masked_modes import Masked
from mindfl.protocol import (
    ENDPOINTS,
    CompressFeatureMap,
    FLPlan,
    GetClientList,
    GetExchangeKeys,
    GetShareSecrets,
    ReconstructSecret,
    Request,
    RequestExchangeKeys,
    RequestFLJob,
    RequestGetModel,
    RequestShareSecrets,
    RequestUpdateModel,
    Response,
    ResponseCode,
    ResponseExchangeKeys,
    ResponseFLJob,
    ResponseGetModel,
    ResponseShareSecrets,
    ResponseUpdateModel,
    ReturnClientList,
    ReturnExchangeKeys,
    ReturnShareSecrets,
    SendReconstructSecret,
    Weights,
    decode,
    encode_response,
    texts,
    weights_bytes,
)
from mindfl.protocol.flatbuf import BrokenBufferError
from mindfl.server.http.exchange import BodyLimits, PathFront
from mindfl.server.http.pages import EMPTY_BODY, MESSAGE_TYPE, Reply, failure, json_reply
from mindfl.server.http.request import Body
from mindfl.server.http.request import Request as HttpRequest
from mindfl.server.http.workers import Workers
from mindfl.server.iteration import Clock
from mindfl.server.management import PATHS, Management
from mindfl.server.refusal import StoreDownError

_PLAIN: tuple[type[Request], ...] = (RequestFLJob, RequestUpdateModel, RequestGetModel)
#: of one device's share with its id, and of all the rest, a certificate chain included
_SHARE_BYTES, _KEYS_BYTES = 1024, 256 * 1024
_INVALID = "The schema of {table} is invalid."

#: the answers to secure requests that cannot be read; two of them have no room for a reason
_EMPTY_ANSWERS: dict[type[Request], Callable[..., Response]] = {
    RequestExchangeKeys: ResponseExchangeKeys,
    GetExchangeKeys: lambda reason, **common: ReturnExchangeKeys(**common),
    RequestShareSecrets: ResponseShareSecrets,
    GetShareSecrets: lambda reason, **common: ReturnShareSecrets(**common),
    GetClientList: partial(ReturnClientList, clients=()),
    SendReconstructSecret: ReconstructSecret,
}

SAFEMODE = Reply(200, texts.SAFEMODE.encode())
"""The answer to a request that cannot be stored, or passed on, just now."""

REPEATED = "mindfl-repeated"
"""Header of a request that is sent again because no answer came; an accepted request is accepted again."""


def device_paths(prefix: str, mode: UploadMode | type[UploadMode] = Masked) -> dict[str, type[Request]]:
    """Return which request each path takes, for a job with MindSpore Federated's ``client.http_url_prefix``."""
    return {(prefix or "/") + ENDPOINTS[kind]: kind for kind in _PLAIN + mode.served}


class _Done(NamedTuple):
    """The body of an answer, the position it must wait for, and when the next window is due."""

    content: bytes
    position: int
    deadline: int | None


class DeviceFront(PathFront):
    """Answers the requests of devices for one job. Belongs to one event loop; the job's work is done by ``workers``.

    ``prefix`` is MindSpore Federated's ``client.http_url_prefix``: put before the endpoint as it is, "/" if empty.
    """

    def __init__(self, workers: Workers, *, prefix: str, clock: Clock) -> None:
        self._job = workers.job
        self._coordinator = workers.job.coordinator
        mode = self._coordinator.config.mode
        self._kinds = device_paths(prefix, mode)
        largest = weights_bytes(self._coordinator.job.exchanged) * mode.size
        super().__init__(self._kinds, BodyLimits.for_model(largest))
        self._longest_secret = _KEYS_BYTES + _SHARE_BYTES * self._coordinator.config.start_fl_job_threshold
        self._workers = workers
        self._clock = clock
        self._replies = ReplyCache()
        self._windows = WindowTimer(clock.now_ms, self._expire)

    def watch_windows(self) -> None:
        """End windows when they are due, also those of a job that was under way before."""
        self._windows.set(self._coordinator.next_deadline())

    async def stop(self) -> None:
        """End no more windows."""
        await self._windows.stop()

    async def answer(self, path: str, body: Body, request: HttpRequest) -> Reply:
        """Return the answer to one message."""
        if not body:
            return EMPTY_BODY
        kind, repeated = self._kinds[path], REPEATED in request.headers
        if self._job.away and kind is not RequestGetModel:
            return SAFEMODE
        # The last of these takes the masks out of the sum.
        heavy = kind is SendReconstructSecret
        done = await self._workers.handle(len(body), lambda: self._done(kind, body, repeated), heavy=heavy)
        self._windows.set(done.deadline)
        try:
            await self._workers.durable(done.position)
        except StoreDownError:
            return SAFEMODE
        return Reply(200, done.content)

    def _done(self, kind: type[Request], body: Body, repeated: bool) -> _Done:
        try:
            # Lists longer than any client of the job sends take long to decode.
            request = decode(body, kind) if kind in _PLAIN or len(body) <= self._longest_secret else None
        except BrokenBufferError:
            request = None
        if request is None:
            response, position = self._invalid(kind), 0
        else:
            response, position = self._job.handle(request, self._clock.now_ms(), repeated=repeated)
        return _Done(self._replies.encode(response), position, self._coordinator.next_deadline())

    def _invalid(self, kind: type[Request]) -> Response:
        """Return the refusal of bytes that are no table of this ``kind``."""
        code, reason = ResponseCode.REQUEST_ERROR, _INVALID.format(table=kind.__name__)
        if kind is RequestUpdateModel:
            return ResponseUpdateModel(retcode=code, reason=reason, next_req_time="")
        if kind in _EMPTY_ANSWERS:
            now = str(self._clock.wall_ms(self._clock.now_ms()))
            return _EMPTY_ANSWERS[kind](
                retcode=code, reason=reason, iteration=self._coordinator.iteration, next_req_time=now
            )
        if kind is RequestGetModel:
            return ResponseGetModel(retcode=code, reason=reason, iteration=self._coordinator.iteration, timestamp="")
        return ResponseFLJob(
            retcode=code,
            reason=reason,
            iteration=self._coordinator.iteration,
            next_req_time="",
            fl_plan_config=self._coordinator.job.plan,
        )

    async def _expire(self) -> int | None:
        return await self._workers.run(self._tick)

    def _tick(self) -> int | None:
        self._coordinator.tick(self._clock.now_ms())
        return self._coordinator.next_deadline()


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


_KEPT = 4
_STALE_MS = 500


@dataclass(frozen=True, slots=True, eq=False)
class _Body:
    model: Weights | tuple[CompressFeatureMap, ...]
    plan: FLPlan | None
    retry_ms: int
    content: bytes


class ReplyCache:
    """Encodes responses. May be used by several threads.

    The retry time in a kept body may be up to half a second behind that of the response it is sent for, which is still
    ahead of now: the coordinator leaves a second.
    """

    def __init__(self) -> None:
        self._bodies: OrderedDict[tuple[object, ...], _Body] = OrderedDict()
        self._lock = threading.Lock()

    def encode(self, response: Response) -> bytes:
        """Return the body of ``response``."""
        if not isinstance(response, (ResponseFLJob, ResponseGetModel)):
            return encode_response(response)
        model = response.feature_map if response.feature_map is not None else response.compress_feature_map
        if model is None:
            return encode_response(response)
        compression = response.download_compress_type
        key = (type(response), response.retcode, response.reason, response.iteration, compression)
        plan, time = None, response.timestamp
        if isinstance(response, ResponseFLJob):
            plan, time = response.fl_plan_config, response.next_req_time
        retry_ms = int(time or 0)
        with self._lock:
            kept = self._bodies.get(key)
        if kept is not None and kept.model is model and kept.plan is plan and kept.retry_ms >= retry_ms - _STALE_MS:
            return kept.content
        body = _Body(model, plan, retry_ms, encode_response(response))
        with self._lock:
            self._bodies[key] = body
            self._bodies.move_to_end(key)
            if len(self._bodies) > _KEPT:
                self._bodies.popitem(last=False)
        return body.content


MANAGEMENT_LIMITS = BodyLimits(usual=64 * 1024, largest=2**20, together=2**20)


class ManagementFront(PathFront):
    """Answers requests of the management address. Belongs to one event loop."""

    def __init__(self, management: Management, workers: Workers) -> None:
        super().__init__(PATHS, MANAGEMENT_LIMITS)
        self._management = management
        self._workers = workers

    async def answer(self, path: str, body: Body, request: HttpRequest) -> Reply:
        """Return the answer to one request."""
        reply = await self._workers.run(lambda: self._reply(path, bytes(body)))
        await self._workers.durable(self._workers.job.settled)
        return reply

    def _reply(self, path: str, body: bytes) -> Reply:
        try:
            return json_reply(200, self._management.answer(path, body))
        except MindflError as error:
            return failure(400, str(error), content_type=MESSAGE_TYPE)
