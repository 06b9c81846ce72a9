"""Requests to the leader that are held, repeated, and answered once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest
from http_requests import MODEL, coordinator, get, start, update

from mindfl.protocol import ResponseFLJob, ResponseGetModel, ResponseUpdateModel
from mindfl.server import Coordinator, ServerConfig
from mindfl.server.cluster.forward import TOKEN, DeviceForward, LeaderLine
from mindfl.server.cluster.store import LeaderRecord
from mindfl.server.http import Listeners, listen
from mindfl.server.http.front import REPEATED
from mindfl.server.http.pages import Reply
from mindfl.server.http.request import Request
from mindfl.server.http.sockets import Address, bound_address
from mindfl.server.state import JobProgress

NOBODY = LeaderRecord("http://127.0.0.1:1", "secret", "", JobProgress("running", 1, 1), {})


class StandIn:
    """A leader that loses the connection ``losses`` times after it has read a request, then answers."""

    def __init__(self, losses: int = 0) -> None:
        self.losses = losses
        self.seen: list[tuple[str, bytes, str | None, str | None]] = []

    async def __call__(self, request: Request) -> Reply:
        request.connection.admit(request, 30)
        body = bytes(await request.body(10_000_000))
        self.seen.append((request.target, body, request.headers.get(TOKEN), request.headers.get(REPEATED)))
        if len(self.seen) <= self.losses:
            raise ConnectionResetError
        return Reply(200, b"answer", "application/json", "Client")


def with_line(leader: StandIn, body: Callable[[LeaderLine, list[LeaderRecord | None]], Awaitable[None]]) -> None:
    async def run() -> None:
        sockets = listen(Address("127.0.0.1", 0), "address")
        listeners = Listeners()
        await listeners.serve(leader, sockets)
        records: list[LeaderRecord | None] = [replace(NOBODY, url=f"http://{bound_address(sockets[0])}")]
        # The last one stays.
        line = LeaderLine(lambda: records.pop(0) if len(records) > 1 else records[0])
        try:
            await asyncio.wait_for(body(line, records), 30)
        finally:
            await line.close()
            await listeners.stop()

    asyncio.run(run())


def test_a_request_is_passed_on_with_the_token() -> None:
    leader = StandIn()

    async def body(line: LeaderLine, _: object) -> None:
        reply = await line.ask("/f%C3%A9d/getModel", b"body", hold_seconds=0)
        assert reply is not None
        assert (reply.status, reply.reason, reply.body) == (200, "Client", b"answer")
        assert reply.content_type.startswith("application/json")

    with_line(leader, body)
    assert leader.seen == [("/f%C3%A9d/getModel", b"body", "secret", None)]


def test_a_lost_request_is_sent_again_and_says_so() -> None:
    leader = StandIn(losses=2)

    async def body(line: LeaderLine, _: object) -> None:
        reply = await line.ask("/x", b"body", hold_seconds=20)
        assert reply is not None and reply.body == b"answer"

    with_line(leader, body)
    assert [repeated for *_, repeated in leader.seen] == [None, "1", "1"]


def test_a_request_is_held_until_there_is_a_leader() -> None:
    leader = StandIn()

    async def body(line: LeaderLine, records: list[LeaderRecord | None]) -> None:
        records[:0] = [None, replace(NOBODY, url=""), NOBODY]
        reply = await line.ask("/x", b"", hold_seconds=20)
        assert reply is not None and reply.body == b"answer"

    with_line(leader, body)
    assert leader.seen == [("/x", b"", "secret", None)]


def test_a_request_is_given_up_in_the_end() -> None:
    async def body(line: LeaderLine, records: list[LeaderRecord | None]) -> None:
        records[:] = [None]
        assert await line.ask("/x", b"", hold_seconds=0.01) is None
        records[:] = [NOBODY]
        assert await line.ask("/x", b"", hold_seconds=0.01) is None

    with_line(StandIn(), body)


def test_a_process_that_took_the_leaders_port_is_not_believed() -> None:
    async def foreign(request: Request) -> Reply:
        return Reply(403, b"")

    async def body(line: LeaderLine, _: object) -> None:
        assert await line.ask("/x", b"", hold_seconds=0.01) is None

    with_line(foreign, body)  # type: ignore[arg-type]


def test_a_model_is_held_once_for_all_its_readers() -> None:
    async def run() -> None:
        line = LeaderLine(lambda: None)
        front = DeviceForward(line, prefix="", model_bytes=28)
        try:
            large = [front._shared(reply) for reply in _replies(100_000)]
            assert large[0].body is large[1].body is large[2].body
        finally:
            await line.close()

    asyncio.run(run())


def _replies(size: int) -> list[Reply]:
    return [Reply(200, bytes(bytearray(size))) for _ in range(3)]


@pytest.fixture
def job() -> Coordinator:
    return coordinator(clients=2)


def test_what_was_accepted_is_accepted_again_when_repeated(job: Coordinator) -> None:
    def started(repeated: bool) -> ResponseFLJob:
        response = job.handle(start("a"), 0, repeated=repeated)
        assert isinstance(response, ResponseFLJob)
        return response

    def updated(fl_id: str, repeated: bool) -> ResponseUpdateModel:
        response = job.handle(update(fl_id), 0, repeated=repeated)
        assert isinstance(response, ResponseUpdateModel)
        return response

    assert [started(False).retcode, started(False).retcode] == [200, 300]
    again = started(True)
    assert (again.retcode, again.is_selected, again.feature_map) == (200, True, job.model)
    job.handle(start("b"), 0)
    assert started(True).retcode == 200, "also where the quota is full"
    assert updated("c", True).retcode == 300
    accepted = updated("a", False)
    assert (updated("a", False).retcode, updated("a", True).retcode) == (300, 200)
    assert updated("a", True).reason == accepted.reason
    assert updated("b", True).retcode == 200
    assert job.iteration == 2 and job.model["b"].tolist() == [3.0] * 3
    # The iteration is closed, so the one answer that counts is the one that got lost.
    assert [updated("a", True).retcode, updated("b", True).retcode] == [200, 200]
    assert [updated("a", False).retcode, updated("c", True).retcode] == [300, 300]


def test_constant_weights_keep_their_values_and_are_not_in_getmodel() -> None:
    config = ServerConfig(fl_iteration_num=2, start_fl_job_threshold=1)
    job = Coordinator(config, MODEL, constant={"b"})
    begun = job.handle(start(), 0)
    assert isinstance(begun, ResponseFLJob) and begun.feature_map is not None and list(begun.feature_map) == ["a", "b"]
    job.handle(update(), 0)
    assert job.model["b"].tolist() == MODEL["b"].tolist() and job.model["a"].tolist() == [3.0] * 4
    once, twice = job.handle(get(1), 0), job.handle(get(1), 0)
    assert isinstance(once, ResponseGetModel) and isinstance(twice, ResponseGetModel)
    assert once.feature_map is not None and list(once.feature_map) == ["a"]
    assert once.feature_map is twice.feature_map, "so that it is encoded once"
