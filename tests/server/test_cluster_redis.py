"""A job in a Redis: what a leader that was replaced, or an answer that was lost, must not change."""

from __future__ import annotations

import logging
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from queue import Queue
from typing import Any

import numpy as np
import pytest
from http_requests import MODEL, get, start, update

from mindfl.errors import StorageError
from mindfl.protocol import PlainText, ResponseGetModel, texts
from mindfl.server import ServerConfig
from mindfl.server.durable import DurableJob
from mindfl.server.iteration import Clock
from mindfl.server.refusal import StoreDownError

redis = pytest.importorskip("redis", reason="needs the extra redis")

from mindfl.server.cluster.redis_storage import RedisStorage  # noqa: E402

CONFIG = ServerConfig(fl_iteration_num=9, start_fl_job_threshold=2)
PREFIX = "mindfl:é:"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    if shutil.which("redis-server") is None:
        pytest.skip("needs redis-server")
    path = str(tmp_path_factory.mktemp("redis") / "socket")
    command = ["redis-server", "--port", "0", "--unixsocket", path, "--save", "", "--appendonly", "no"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(path).parent) as process:
        assert process.stdout
        for line in process.stdout:
            if "eady to accept connections" in line:
                break
        yield path
        process.kill()


@pytest.fixture
def client(server: str) -> Iterator[Any]:
    made = redis.Redis(unix_socket_path=server)
    made.flushall()
    yield made
    made.close()


def storage(client: Any, token: str) -> RedisStorage:
    client.set(PREFIX + "leader", token)
    return RedisStorage(client, PREFIX, token, "the Redis")


def job(client: Any, token: str) -> DurableJob:
    clock = Clock()
    return DurableJob(storage(client, token), CONFIG, MODEL, clock=clock, as_stored=True)


def test_a_job_goes_on_from_a_redis(client: Any) -> None:
    first = job(client, "a")
    for fl_id in "ab":
        first.handle(start(fl_id), 0)
    first.handle(update("a"), 0)
    assert first.durable(10**9) is None
    first.close()
    assert client.get(PREFIX + "leader") is None
    second = job(client, "b")
    assert second.recovery.uploads == 1
    second.handle(update("b"), 0)
    assert second.coordinator.iteration == 2
    second.close()
    third = job(client, "c")
    answer = third.handle(get(1), 0).response
    assert isinstance(answer, ResponseGetModel) and answer.feature_map is not None
    assert answer.feature_map["b"].tolist() == [3.0] * 3
    third.close()


def test_the_journal_holds_one_iteration(client: Any) -> None:
    running = job(client, "a")
    for iteration in range(1, 8):
        for fl_id in "ab":
            running.handle(start(fl_id), 0)
        for fl_id in "ab":
            running.handle(update(fl_id, iteration), 0)
    running._saver.submit(int).result(60)
    assert client.llen(PREFIX + "journal") == 0
    running.close()
    assert job(client, "b").coordinator.iteration == 8


def test_a_replaced_leader_changes_nothing(client: Any) -> None:
    old = job(client, "old")
    for fl_id in "ab":
        old.handle(start(fl_id), 0)
    new = job(client, "new")
    assert old.handle(update("a"), 0).response == PlainText(texts.SAFEMODE)
    failed = old.durable(0)
    assert failed is not None
    with pytest.raises(StorageError, match="another server leads the job now"):
        failed.result()
    with pytest.raises(StorageError, match="another server leads the job now"):
        old._storage.save([b"x"])
    before = client.get(PREFIX + "snapshot")
    old.close()
    assert client.get(PREFIX + "leader") == b"new" and client.get(PREFIX + "snapshot") == before
    assert new.coordinator.iteration == 1 and new.durable(0) is None
    new.close()


def test_what_is_sent_twice_is_appended_once(client: Any) -> None:
    place = storage(client, "a")
    for _ in range(2):
        place.append(0, b"first")
    for _ in range(2):
        place.append(1, b"second")
    assert list(place.records(0)) == [b"first", b"second"] and list(place.records(1)) == [b"second"]
    with pytest.raises(StorageError):
        place.append(0, b"another history")
    place.close()


def test_a_job_that_is_said_to_go_on_does(client: Any) -> None:
    """A client that reads this may send at once."""
    place = storage(client, "a")
    place.save([b"a job"])
    said: Queue[tuple[str, bool]] = Queue()

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if " at 127.0.0.1:" not in record.getMessage():  # a server of another test, whose Redis is gone
                said.put((record.getMessage(), place.away))

    listener = Listener()
    logging.getLogger("mindfl.server").addHandler(listener)
    try:
        place._lose_touch(StoreDownError("the Redis does not answer"))
        line, away = said.get(timeout=120)
        assert "devices are told to wait" in line and away
        assert said.get(timeout=120) == ("the Redis answers again: the job goes on", False)
    finally:
        logging.getLogger("mindfl.server").removeHandler(listener)
    place.append(0, b"first")
    place.close()


def test_long_journals_are_read_whole(client: Any) -> None:
    place = storage(client, "a")
    for number in range(200):
        place.append(number, b"%d" % number)
    place.drop_before(50)
    assert [int(entry) for entry in place.records(60)] == list(range(60, 200))
    place.drop_before(20)
    assert len(list(place.records(50))) == 150
    with pytest.raises(StorageError, match="lacks what came before position 50"):
        list(place.records(49))
    place.close()


def test_damage_is_named(client: Any) -> None:
    first = job(client, "a")
    first.handle(start("a"), 0)
    first.close()
    client.rpush(PREFIX + "journal", b"\x00\x00\x00\x00\x00damaged")
    with pytest.raises(StorageError, match="record 2 of the journal is damaged"):
        job(client, "b")
    client.set(PREFIX + "snapshot", np.arange(9).tobytes())
    with pytest.raises(StorageError, match="the snapshot is damaged"):
        job(client, "b")
