"""Transports between a client's flow and a coordinator, and the loop that runs a flow."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from mindfl.client.flow import Effect, Flow, IterationDone, Send, Wait
from mindfl.errors import ProtocolError
from mindfl.protocol import (
    ClientPublicKeys,
    ClientShare,
    Request,
    RequestExchangeKeys,
    RequestShareSecrets,
    RequestUpdateModel,
    Response,
    ResponseFLJob,
    ResponseGetModel,
    ReturnClientList,
    ReturnExchangeKeys,
    ReturnShareSecrets,
    SendReconstructSecret,
    weights_bytes,
)

ResultT = TypeVar("ResultT")
#: of a quantised weight: its smallest and its largest value
_BOUNDS_BYTES = 8
_SIGN_BYTES = 4


class Handler(Protocol):
    """Answers requests; :class:`mindfl.server.Coordinator` is one."""

    def handle(self, request: Request, now_ms: int) -> Response:
        """Answer one request, made at ``now_ms`` milliseconds since the epoch."""


class Transport(Protocol):
    """Sends a request to a coordinator and returns the response."""

    def send(self, request: Request, now_ms: int) -> Response:
        """Return the response. Raises :class:`mindfl.errors.TransportError` if there is none."""


@dataclass(frozen=True, slots=True)
class Traffic:
    """Requests and bytes exchanged so far.

    Bytes count the encoded values of weights in either direction, and the keys and shares of secure aggregation,
    without framing.
    """

    requests: int = 0
    bytes_up: int = 0
    bytes_down: int = 0

    def __add__(self, other: Traffic) -> Traffic:
        return Traffic(
            self.requests + other.requests, self.bytes_up + other.bytes_up, self.bytes_down + other.bytes_down
        )

    def __sub__(self, earlier: Traffic) -> Traffic:
        return Traffic(
            self.requests - earlier.requests, self.bytes_up - earlier.bytes_up, self.bytes_down - earlier.bytes_down
        )


class MeteredTransport(Transport, Protocol):
    """A transport that counts."""

    @property
    def traffic(self) -> Traffic:
        """Requests and bytes exchanged so far."""


class TrafficMeter:
    """Counts exchanges. Threads may share it."""

    def __init__(self) -> None:
        self._traffic = Traffic()
        self._lock = threading.Lock()

    @property
    def traffic(self) -> Traffic:
        """Requests and bytes counted so far."""
        return self._traffic

    def count(self, request: Request, response: Response) -> None:
        """Count one exchange."""
        up = _content_bytes(request) if isinstance(request, RequestUpdateModel) else _secret_bytes(request)
        down = (
            _content_bytes(response)
            if isinstance(response, ResponseFLJob | ResponseGetModel)
            else _secret_bytes(response)
        )
        with self._lock:
            self._traffic += Traffic(1, up, down)


def _content_bytes(message: RequestUpdateModel | ResponseFLJob | ResponseGetModel) -> int:
    """Return the bytes that the values in ``message`` take on the wire, compressed or not."""
    size = weights_bytes(message.feature_map)
    for entry in message.compress_feature_map or ():
        size += (0 if entry.compress_data is None else entry.compress_data.nbytes) + _BOUNDS_BYTES
    if isinstance(message, RequestUpdateModel) and message.index_array is not None:
        size += message.index_array.nbytes + _SIGN_BYTES
    return size


def _secret_bytes(message: object) -> int:
    """Return the bytes that keys, shares and lists of clients in ``message`` take."""
    if isinstance(message, RequestExchangeKeys):
        return _key_bytes(message) + len(message.ind_iv or b"")
    if isinstance(message, ReturnExchangeKeys):
        return sum(len(keys.fl_id or "") + _key_bytes(keys) for keys in message.remote_publickeys or ())
    if isinstance(message, RequestShareSecrets | ReturnShareSecrets):
        return _share_bytes(message.encrypted_shares)
    if isinstance(message, SendReconstructSecret):
        return _share_bytes(message.reconstruct_secret_shares)
    if isinstance(message, ReturnClientList):
        return sum(map(len, message.clients or ()))
    return 0


def _key_bytes(keys: RequestExchangeKeys | ClientPublicKeys) -> int:
    return sum(len(part or b"") for part in (keys.c_pk, keys.s_pk, keys.pw_iv, keys.pw_salt))


def _share_bytes(shares: Sequence[ClientShare] | None) -> int:
    return sum(len(share.fl_id or "") + len(share.share or b"") for share in shares or ())


class InProcessTransport:
    """Calls the coordinator directly. All clients and threads of a process may share it."""

    def __init__(self, coordinator: Handler) -> None:
        self._coordinator = coordinator
        self._meter = TrafficMeter()

    def send(self, request: Request, now_ms: int) -> Response:
        """Return the coordinator's response."""
        response = self._coordinator.handle(request, now_ms)
        self._meter.count(request, response)
        return response

    @property
    def traffic(self) -> Traffic:
        """Requests and bytes exchanged so far."""
        return self._meter.traffic


@dataclass(frozen=True, slots=True)
class Finished(Generic[ResultT]):
    """A flow ended with this result."""

    result: ResultT


def advance(
    flow: Flow[ResultT], transport: Transport, now_ms: Callable[[], int]
) -> Wait | IterationDone | Finished[ResultT]:
    """Run ``flow``, exchanging messages over ``transport``, until it must wait, ends an iteration, or is finished.

    Call it again to continue. Errors of the transport are raised inside the flow; the flow's own errors propagate.
    """
    try:
        effect = next(flow)
        while isinstance(effect, Send):
            effect = _exchange(flow, transport, effect.request, now_ms())
    except StopIteration as end:
        return Finished(end.value)
    return effect


def _exchange(flow: Flow[ResultT], transport: Transport, request: Request, now_ms: int) -> Effect:
    try:
        response = transport.send(request, now_ms)
    except ProtocolError as error:
        return flow.throw(error)
    return flow.send(response)


def run(
    flow: Flow[ResultT], transport: Transport, now_ms: Callable[[], int], sleep_ms: Callable[[int], None]
) -> ResultT:
    """Run ``flow`` to its end, waiting with ``sleep_ms``, and return its result."""
    while True:
        step = advance(flow, transport, now_ms)
        if isinstance(step, Finished):
            return step.result
        if isinstance(step, Wait):
            sleep_ms(step.ms)
