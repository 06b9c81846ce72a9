"""The scripts' Redis: away, emptied, without persistence, late."""

from __future__ import annotations

import queue
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from compat_cluster import Launch, Process, assert_model, average, scheduler, settings
from free_ports import free_address
from redis_servers import RedisServer, redis_server

from mindfl.protocol import PlainText, RequestFLJob, texts

SAFEMODE = PlainText(texts.SAFEMODE)


@pytest.fixture(autouse=True)
def three_clients(folder: Path) -> None:
    settings(folder, clients=3, iterations=3)


def start_request(fl_id: str) -> RequestFLJob:
    return RequestFLJob(fl_name="any", fl_id=fl_id, data_size=3, timestamp="1")


def run_iteration(server: Process, number: int) -> None:
    for fl_id in "123":
        assert server.start(fl_id).iteration == number
    for fl_id in "123":
        assert server.update(fl_id, number) == 200


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_leader_that_goes_loses_nothing(
    launch: Launch, folder: Path, store: RedisServer, number: signal.Signals
) -> None:
    boss = scheduler(launch)
    assert boss.manage("/state")["error_message"] == "Cannot find cluster info for Lenet"
    leader, other = launch(), launch()
    assert [node["tcp_address"] for node in boss.manage("/state")["nodes"]] == [leader.address, other.address]
    for fl_id in "123":
        assert other.start(fl_id).retcode == 200
    assert leader.update("1", 1) == other.update("2", 1) == 200
    leader.end(number)
    assert other.update("3", 1) == 200
    assert_model(other.model(1), average(["1", "2", "3"], 1))
    assert "bn.moving_mean" in other.line("iteration 1 True")
    newcomer = launch()
    assert_model(newcomer.model(1), average(["1", "2", "3"], 1))
    run_iteration(newcomer, 2)
    run_iteration(newcomer, 3)
    assert boss.manage("/state")["cluster_state"] == "CLUSTER_FINISH"


@pytest.mark.parametrize("how", ["killed", "hung"])
def test_while_the_redis_is_away_devices_are_told_so_at_once_and_get_the_model(
    launch: Launch, folder: Path, store: RedisServer, how: str
) -> None:
    leader, other, boss = launch(), launch(), scheduler(launch)
    run_iteration(other, 1)
    for fl_id in "123":
        assert other.start(fl_id).retcode == 200
    assert leader.update("1", 2) == 200
    store.stop() if how == "killed" else store.pause()
    with ThreadPoolExecutor(2) as threads:
        in_flight = [threads.submit(server.upload, "2", 2) for server in (leader, other)]
        assert [answer.result(20) for answer in in_flight] == [SAFEMODE, SAFEMODE]
    for server in (leader, other):
        assert server.ask(start_request("9")) == SAFEMODE
        assert server.upload("2", 2) == SAFEMODE
        assert_model(server.model(1), average(["1", "2", "3"], 1))
        assert server.model(2).retcode == 201
    assert boss.manage("/state")["error_message"] == "Failed to access the cache server. Please retry later."
    store.start() if how == "killed" else store.resume()
    leader.line("answers again")
    assert leader.update("2", 2) == other.update("3", 2) == 200
    assert_model(other.model(2), average(["1", "2", "3"], 2))


@pytest.mark.parametrize("how", ["emptied", "restarted"])
def test_a_job_goes_on_at_the_next_iteration_where_its_redis_was_emptied(
    launch: Launch, folder: Path, tmp_path: Path, how: str
) -> None:
    with redis_server(tmp_path / "volatile", kept=False) as store:
        settings(folder, clients=3, iterations=4, store=store.address)
        leader, other = launch(), launch()
        assert any("keeps nothing on disk" in line for line in leader.seen)
        run_iteration(other, 1)
        for fl_id in "123":
            assert other.start(fl_id).retcode == 200
        assert other.update("1", 2) == 200
        store.ask("flushall") if how == "emptied" else store.restart()
        leader.lines("goes on from this server's memory with iteration 3", "iteration 2 False")
        for server in (leader, other):
            assert_model(server.model(2), average(["1", "2", "3"], 1))
        assert other.line("iteration 2 False")
        run_iteration(other, 3)
        assert_model(leader.model(3), average(["1", "2", "3"], 3))


def test_an_emptied_redis_costs_no_iteration_in_which_nobody_had_started(
    launch: Launch, folder: Path, store: RedisServer
) -> None:
    leader = launch()
    run_iteration(leader, 1)
    store.ask("flushall")
    leader.line("goes on from this server's memory with iteration 2")
    run_iteration(leader, 2)
    assert_model(leader.model(2), average(["1", "2", "3"], 2))


def test_another_server_goes_on_where_the_leader_died_and_the_redis_was_emptied(
    launch: Launch, folder: Path, store: RedisServer
) -> None:
    leader, other = launch(), launch()
    run_iteration(other, 1)
    other.line("iteration 1 True")
    leader.process.kill()
    store.ask("flushall")
    other.line("goes on from this server's memory with iteration 3")
    assert_model(other.model(0), average(["1", "2", "3"], 1))
    run_iteration(other, 3)


def test_a_server_that_starts_leaves_an_emptied_redis_to_the_one_that_has_the_model(
    launch: Launch, folder: Path, store: RedisServer
) -> None:
    """The leader is stopped meanwhile, as it notices the loss only after a moment."""
    leader = launch()
    run_iteration(leader, 1)
    leader.process.send_signal(signal.SIGSTOP)
    store.ask("flushall")
    newcomer = Process(folder, "MS_SERVER", free_address())
    assert "holds no job, but 1 server has the job's model" in newcomer.line("waiting until it is there again")
    leader.process.send_signal(signal.SIGCONT)
    leader.line("goes on from this server's memory with iteration 2")
    newcomer.line("started")
    assert_model(newcomer.model(1), average(["1", "2", "3"], 1))
    run_iteration(newcomer, 2)
    assert newcomer.end(signal.SIGTERM) == 0


def test_a_server_waits_for_a_redis_that_comes_late_and_never_begins_a_job_of_its_own(
    folder: Path, tmp_path: Path
) -> None:
    with redis_server(tmp_path / "late") as store:
        settings(folder, clients=3, iterations=3, store=store.address)
        store.stop()
        waiting, ended = (Process(folder, "MS_SERVER", free_address()) for _ in range(2))
        boss = Process(folder, "MS_SCHED", free_address())
        for process in (waiting, ended, boss):
            assert f"the Redis at {store.address} does not answer" in process.line("waiting up to 60 s")
        assert ended.end(signal.SIGTERM) == 0
        with pytest.raises(queue.Empty):
            waiting._lines.get(timeout=0.01)
        store.start()
        waiting.line("started")
        boss.line("ready")
        assert waiting.start("1").iteration == 1
        for process in (waiting, boss):
            assert process.end(signal.SIGTERM) == 0
