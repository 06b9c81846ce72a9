"""From HTTP requests to the coordinator and back: paths, decoding, refusals of what cannot be read."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from mindfl.flatbuf import BrokenBufferError
from mindfl.modes import UploadMode
from mindfl.modes.masked import Masked
from mindfl.protocol import (
    ENDPOINTS,
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
    decode,
    texts,
    weights_bytes,
)
from mindfl.server.clock import Clock
from mindfl.server.http.exchange import BodyLimits, PathFront
from mindfl.server.http.pages import EMPTY_BODY, Reply
from mindfl.server.http.replies import ReplyCache
from mindfl.server.http.request import Body
from mindfl.server.http.request import Request as HttpRequest
from mindfl.server.http.windows import WindowTimer
from mindfl.server.http.workers import Workers
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
"""Header of a request that is sent again because the answer did not come; what was accepted is accepted again."""


def device_paths(prefix: str, mode: UploadMode | type[UploadMode] = Masked) -> dict[str, type[Request]]:
    """Return which request each path takes, for a job with MindSpore Federated's ``client.http_url_prefix``."""
    return {(prefix or "/") + ENDPOINTS[kind]: kind for kind in _PLAIN + mode.served}


class _Done(NamedTuple):
    """The body of an answer, what it must wait for, and when the next window is due."""

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
        largest = weights_bytes(self._coordinator.exchanged) * mode.size
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
            # Lists as long as nobody in the job can mean take long to decode.
            request = decode(body, kind) if kind in _PLAIN or len(body) <= self._longest_secret else None
        except BrokenBufferError:
            request = None
        if request is None:
            response, position = self._invalid(kind), 0
        else:
            response, position = self._job.handle(request, self._clock.now_ms(), repeated=repeated)
        return _Done(self._replies.encode(response), position, self._coordinator.next_deadline())

    def _invalid(self, kind: type[Request]) -> Response:
        """Return the refusal of bytes that are not the table they should be."""
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
            fl_plan_config=self._coordinator.plan,
        )

    async def _expire(self) -> int | None:
        return await self._workers.run(self._tick)

    def _tick(self) -> int | None:
        self._coordinator.tick(self._clock.now_ms())
        return self._coordinator.next_deadline()
