"""No server begins a job in an empty Redis as long as another one lives that has its model."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis_servers import YAML as SETTINGS
from redis_servers import RedisServer, redis_server

from mindfl.server.settings import read_settings

pytest.importorskip("redis", reason="needs the extra redis")

from mindfl.server.cluster import redis_store as redis_store_module
from mindfl.server.cluster.redis_store import RedisStore

YAML = SETTINGS.replace("Lenet", "é")
CHANNEL = "mindfl:é:holders"


@pytest.fixture
def redis(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RedisServer]:
    monkeypatch.setattr(redis_store_module, "_YOUNG_SECONDS", 0)
    with redis_server(tmp_path / "redis", kept=False) as server:
        yield server


@pytest.fixture
def store(redis: RedisServer, tmp_path: Path) -> RedisStore:
    path = tmp_path / "fl.yaml"
    path.write_text(YAML.replace("REDIS", redis.address))
    return RedisStore(read_settings(path))


def await_holders(redis: RedisServer, number: int) -> None:
    deadline = time.monotonic() + 120
    while redis.ask("pubsub", "numsub", CHANNEL) != [CHANNEL.encode(), number]:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_newcomer_leaves_an_empty_redis_to_those_who_have_the_model(
    redis: RedisServer, store: RedisStore, caplog: pytest.LogCaptureFixture
) -> None:
    store.hold()
    store.hold()
    redis.ask("flushall")
    for _ in range(2):
        assert store.claim(newcomer=True) is None
    assert [record.getMessage() for record in caplog.records] == [
        f"the Redis at {redis.address} holds no job, but 1 server has the job's model: waiting until it is there again"
    ]
    holder = store.claim()
    assert holder is not None and store.claim(newcomer=True) is None
    holder.close()
    store.leave()
    await_holders(redis, 0)
    assert store.claim(newcomer=True) is not None


def test_a_newcomer_takes_a_job_whose_leader_is_gone(redis: RedisServer, store: RedisStore) -> None:
    first = store.claim(newcomer=True)
    assert first is not None
    store.hold()
    first.save([b"a job"])
    first.close()
    assert store.claim(newcomer=True) is not None


def test_who_has_the_model_says_so_again_to_a_redis_that_was_restarted(redis: RedisServer, store: RedisStore) -> None:
    store.hold()
    redis.restart()
    await_holders(redis, 1)
    assert store.claim(newcomer=True) is None
    store.leave()


def test_a_redis_that_has_just_begun_is_left_to_the_servers_that_knew_it(
    redis: RedisServer, store: RedisStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_store_module, "_YOUNG_SECONDS", 3600)
    assert store.claim(newcomer=True) is None
    redis.ask("set", "mindfl:é:snapshot", "a job")
    assert store.claim(newcomer=True) is not None


def test_where_subscriptions_are_forbidden_a_warning_says_what_may_happen(
    redis: RedisServer, store: RedisStore, caplog: pytest.LogCaptureFixture
) -> None:
    redis.ask("acl", "setuser", "default", "-subscribe", "-pubsub|numsub")
    store.hold()
    assert "the Redis permits no subscription to mindfl:é:holders" in caplog.text
    assert store.claim(newcomer=True) is not None
    store.leave()
