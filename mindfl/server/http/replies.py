"""Bodies of answers that hold a model: made once and sent to every client that gets the same answer."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass

from mindfl.protocol import (
    CompressFeatureMap,
    FLPlan,
    Response,
    ResponseFLJob,
    ResponseGetModel,
    Weights,
    encode_response,
)

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
