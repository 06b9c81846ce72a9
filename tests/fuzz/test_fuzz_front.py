"""Jobs behind a real socket, given changed messages and changed HTTP: always an answer, never an internal error.

The model holds exactly the uploads that were answered with 200.
"""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.client import HTTPException, HTTPResponse
from urllib.parse import urlsplit

import numpy as np
from fuzz_budget import fuzz
from fuzz_mutations import changed
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from mindfl.protocol import (
    ENDPOINTS,
    REQUESTS,
    PlainText,
    Request,
    RequestFLJob,
    RequestGetModel,
    RequestUpdateModel,
    UnsupervisedEvalItem,
    UnsupervisedEvalItems,
    decode,
    decode_response,
    encode,
)
from mindfl.server import Coordinator, IterationRecord, ServerConfig
from mindfl.server.http import BackgroundServer

INITIAL = {"fc.weight": np.arange(6, dtype=np.float32), "fc.bias": np.zeros(2, np.float32)}
SERVED: tuple[type[Request], ...] = (RequestFLJob, RequestUpdateModel, RequestGetModel)
EMPTY = b'{"code":"1","error_message":"Get post message failed"}'
WAIT_S = 120.0


@dataclass
class Account:
    """What a job should have come to, by what was answered with 200."""

    sizes: dict[str, int] = field(default_factory=dict)
    uploads: list[tuple[int, dict[str, NDArray[np.float32]]]] = field(default_factory=list)
    expected: list[list[tuple[int, dict[str, NDArray[np.float32]]]]] = field(default_factory=list)

    def note(self, body: bytes, kind: type[Request], iteration_ended: bool) -> None:
        """Book a request that was accepted."""
        request = decode(body, kind)
        if isinstance(request, RequestFLJob):
            self.sizes[request.fl_id or ""] = request.data_size
        if isinstance(request, RequestUpdateModel):
            weights = {name: values.copy() for name, values in (request.feature_map or {}).items()}
            self.uploads.append((self.sizes[request.fl_id or ""], weights))
        if iteration_ended:
            self.expected.append(self.uploads)
            self.sizes, self.uploads = {}, []


class Job:
    """A job behind a socket, and a log of what must not happen."""

    def __init__(self) -> None:
        config = ServerConfig(fl_iteration_num=3, start_fl_job_threshold=3, update_model_ratio=0.6)
        self.records: list[IterationRecord] = []
        self.coordinator = Coordinator(config, INITIAL, on_iteration_end=self.records.append)
        self.account: Account | None = Account()
        self.url = ""

    def post(self, head: bytes, body: bytes, kind: type[Request] | None, *, changed_head: bool = False) -> None:
        """Send one request on a connection of its own and check what comes back."""
        if changed_head:
            # It may carry a request that is accepted, or half of one: no accounts from here on.
            self.account = None
        with self._connection() as connection:
            with suppress(ConnectionError):  # a refusal may come, and the door close, before all is sent
                connection.sendall(head + body)
                if changed_head:  # which may announce more than will ever come
                    connection.shutdown(socket.SHUT_WR)
            answer = _answer(connection)
        if answer is None:
            return
        status, content = answer
        assert status in (200, 400, 404, 413, 500, 501), status
        assert status != 500 or content == EMPTY
        if status == 200 and kind is not None:
            self._check(body, kind, content)

    def ask(self, request: Request) -> bytes:
        """Send a good request; return the answer's body."""
        body = encode(request)
        with self._connection() as connection:
            connection.sendall(head_of(ENDPOINTS[type(request)], body) + body)
            answer = _answer(connection)
        assert answer is not None and answer[0] == 200
        return answer[1]

    def _connection(self) -> socket.socket:
        place = urlsplit(self.url)
        return socket.create_connection((place.hostname, place.port or 0), WAIT_S)

    def _check(self, body: bytes, kind: type[Request], content: bytes) -> None:
        response = decode_response(content, kind)
        if isinstance(response, PlainText):
            return
        assert response.retcode in (200, 201, 300, 400)
        if response.retcode == 200 and self.account is not None:
            ended = len(self.records) > len(self.account.expected)
            self.account.note(body, kind, ended)

    def check_models(self) -> None:
        """Compare the models with the averages of what was accepted."""
        if self.account is None:
            return
        assert len(self.records) == len(self.account.expected)
        before = {name: values.reshape(-1) for name, values in INITIAL.items()}
        for record, uploads in zip(self.records, self.account.expected, strict=True):
            assert record.uploads == len(uploads) == 2
            for name, values in record.model.items():
                parts = [(size, weights[name].astype(float)) for size, weights in uploads if name in weights]
                total = sum(size for size, _ in parts)
                average = sum(values for _, values in parts) / total if parts else before[name]
                np.testing.assert_allclose(values, average, rtol=1e-6, atol=1e-12)
            before = dict(record.model)


def _answer(connection: socket.socket) -> tuple[int, bytes] | None:
    """Return status and body; None where the connection is closed without an answer."""
    response = HTTPResponse(connection, method="POST")
    try:
        response.begin()
        while response.status == 100:
            response.begin()
        return response.status, response.read()
    except (HTTPException, ConnectionError):
        return None


def head_of(path: str, body: bytes, more: str = "") -> bytes:
    return f"POST /{path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n{more}\r\n".encode()


@contextmanager
def served() -> Iterator[Job]:
    """Serve a job; fail where the server logs an error or one of its threads dies."""
    faults: list[str] = []

    class Faults(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            faults.append(record.getMessage())

    handler, hook = Faults(logging.ERROR), threading.excepthook
    logging.getLogger().addHandler(handler)
    threading.excepthook = lambda arguments: faults.append(repr(arguments.exc_value))
    job = Job()
    try:
        with BackgroundServer(job.coordinator) as server:
            job.url = server.url
            yield job
            assert job.ask(RequestGetModel(iteration=0))
    finally:
        logging.getLogger().removeHandler(handler)
        threading.excepthook = hook
    assert faults == []


IDS = st.sampled_from(["a", "b", "c", "d", "\N{SNOWMAN}", ""])
SIZES = st.sampled_from([1, 2, 7, 65535]) | st.integers(-1, 65536)
NUMBERS = st.floats(width=32, min_value=-(2.0**36), max_value=2.0**36) | st.just(float("nan"))


@st.composite
def uploads(draw: st.DrawFn) -> RequestUpdateModel:
    """Draw uploads, most of them as they should be."""
    names = draw(st.sampled_from([*[list(INITIAL)] * 6, ["fc.bias"], [], ["fc.bias", "other"]]))
    generator = np.random.default_rng(draw(st.integers(0, 99)))
    weights = {name: generator.normal(0, 9, INITIAL.get(name, np.ones(1)).size).astype("<f4") for name in names}
    if names and draw(st.integers(0, 9)) == 0:
        weights[names[0]][0] = draw(NUMBERS)
    items = UnsupervisedEvalItems(
        eval_items=(UnsupervisedEvalItem(eval_name="DirectClassifierResult", eval_data=np.ones(62, "<f4")),)
    )
    return RequestUpdateModel(
        fl_name="any",
        fl_id=draw(IDS),
        iteration=draw(st.sampled_from([1, 1, 1, 2, 3, -1])),
        feature_map=weights,
        timestamp="1",
        upload_loss=draw(st.sampled_from([1.0, 0.0, float("inf")])) if draw(st.integers(0, 5)) == 0 else 1.0,
        unsupervised_eval_items=items,
    )


REQUEST: st.SearchStrategy[Request] = st.one_of(
    st.builds(RequestFLJob, fl_name=st.just("any"), fl_id=IDS, data_size=SIZES, timestamp=st.just("1")),
    st.builds(RequestFLJob, fl_name=st.just("any"), fl_id=IDS, data_size=st.integers(1, 9), timestamp=st.just("1")),
    uploads(),
    uploads(),
    st.builds(RequestGetModel, iteration=st.integers(-1, 5)),
)


@dataclass(frozen=True)
class Step:
    """One request; ``kind`` is what its body is read as, None where its path is no endpoint that is served."""

    head: bytes
    body: bytes
    kind: type[Request] | None
    changed_head: bool = False


PATHS: dict[type[Request], str] = {kind: ENDPOINTS[kind] for kind in SERVED}


@st.composite
def steps(draw: st.DrawFn) -> Step:
    """Draw requests, half of them as they should be."""
    request = draw(REQUEST)
    body, kind = encode(request), type(request)
    match draw(st.sampled_from(["good", "good", "good", "good", "body", "body", "path", "head"])):
        case "body":
            body = draw(changed(body))
        case "path":
            path = draw(st.sampled_from([*REQUESTS, "", "%", "startFLJob/", "getModel?x=%00"]))
            served = next((kind for kind, name in PATHS.items() if name == path.partition("?")[0]), None)
            return Step(head_of(path, body), body, served)
        case "head":
            head = draw(changed(head_of(PATHS[kind], body, "Expect: 100-continue\r\n")))
            return Step(head, body, None, changed_head=True)
    return Step(head_of(PATHS[kind], body), body, kind)


def good_iteration(number: int) -> list[Request]:
    """Return what two devices send that complete an iteration."""
    requests: list[Request] = []
    for fl_id in "ab":
        requests.append(RequestFLJob(fl_name="any", fl_id=fl_id, data_size=ord(fl_id), timestamp="1"))
    for fl_id in "ab":
        values = np.random.default_rng((number, ord(fl_id))).normal(0, 99, 8).astype(np.float32)
        weights = {"fc.weight": values[:6], "fc.bias": values[6:]}
        requests.append(RequestUpdateModel(fl_id=fl_id, iteration=number, feature_map=weights, timestamp="1"))
    return requests


@st.composite
def jobs(draw: st.DrawFn) -> list[Step]:
    """Draw the requests of up to three iterations, with others in between."""
    sent = []
    for iteration in range(draw(st.integers(0, 3))):
        for request in good_iteration(iteration + 1):
            sent += draw(st.lists(steps(), max_size=2))
            body = encode(request)
            sent.append(Step(head_of(PATHS[type(request)], body), body, type(request)))
    return sent + draw(st.lists(steps(), max_size=6))


@fuzz(50)
@given(sent=jobs())
def test_changed_messages_and_heads(sent: list[Step]) -> None:
    with served() as job:
        for step in sent:
            job.post(step.head, step.body, step.kind, changed_head=step.changed_head)
        job.check_models()
        assert all(np.isfinite(values).all() for values in job.coordinator.model.values())


@fuzz(60)
@given(head=changed(head_of("getModel", encode(RequestGetModel(iteration=0)), "Connection: keep-alive\r\n"), most=8))
def test_changed_heads(head: bytes) -> None:
    with served() as job:
        job.post(head, encode(RequestGetModel(iteration=0)), None, changed_head=True)
