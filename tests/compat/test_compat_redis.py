"""The same scripts where a Redis answers at the address in the YAML."""

from __future__ import annotations

import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from compat_cluster import Launch, assert_model, average, scheduler, settings
from free_ports import free_address

from mindfl.protocol import PlainText, RequestFLJob, texts

redis = pytest.importorskip("redis", reason="needs the extra redis")


class Server:
    """A redis-server that keeps what it holds in ``folder``."""

    def __init__(self, folder: Path) -> None:
        self.address = free_address()
        self._folder = folder
        self._start()

    def _start(self) -> None:
        port = self.address.rpartition(":")[2]
        command = ["redis-server", "--port", port, "--bind", "127.0.0.1", "--save", "", "--dir", str(self._folder)]
        command += ["--appendonly", "yes", "--appendfsync", "always"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout
        for line in self.process.stdout:
            if "Ready to accept connections" in line:
                break
        threading.Thread(target=self.process.stdout.read, daemon=True).start()

    def restart(self) -> None:
        self.stop()
        self._start()

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture
def store(tmp_path: Path, folder: Path) -> Iterator[Server]:
    if shutil.which("redis-server") is None:
        pytest.skip("needs redis-server")
    (tmp_path / "redis").mkdir()
    server = Server(tmp_path / "redis")
    settings(folder, clients=3, iterations=2, store=server.address)
    yield server
    server.stop()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_keeper_that_goes_loses_nothing(launch: Launch, folder: Path, store: Server, number: signal.Signals) -> None:
    boss = scheduler(launch)
    assert boss.manage("/state")["error_message"] == "Cannot find cluster info for Lenet"
    keeper, other = launch(), launch()
    assert not (folder / "state").exists()
    assert [node["tcp_address"] for node in boss.manage("/state")["nodes"]] == [keeper.address, other.address]
    for fl_id in "123":
        assert other.start(fl_id).retcode == 200
    assert keeper.update("1", 1) == other.update("2", 1) == 200
    keeper.end(number)
    assert other.update("3", 1) == 200
    assert_model(other.model(1), average(["1", "2", "3"], 1))
    assert "bn.moving_mean" in other.line("iteration 1 True")
    newcomer = launch()
    assert_model(newcomer.model(1), average(["1", "2", "3"], 1))
    for fl_id in "123":
        assert newcomer.start(fl_id).retcode == 200
    for fl_id in "123":
        assert newcomer.update(fl_id, 2) == 200
    assert boss.manage("/state")["cluster_state"] == "CLUSTER_FINISH"


def test_a_redis_that_is_away_for_a_while(launch: Launch, folder: Path, store: Server) -> None:
    keeper, other, boss = launch(), launch(), scheduler(launch)
    for fl_id in "123":
        assert other.start(fl_id).retcode == 200
    assert keeper.update("1", 1) == 200
    store.stop()
    assert boss.manage("/state")["error_message"] == "Failed to access the cache server. Please retry later."
    with ThreadPoolExecutor(1) as threads:
        late = threads.submit(other.update, "2", 1)
        store.restart()
        assert late.result(60) in (200, 300)
    if late.result() == 300:
        assert other.update("2", 1) == 200
    assert other.update("3", 1) == 200
    assert_model(other.model(1), average(["1", "2", "3"], 1))


def test_an_emptied_redis_is_a_new_job(launch: Launch, folder: Path, store: Server) -> None:
    keeper = launch()
    assert keeper.start("1").retcode == 200
    host, port = store.address.split(":")
    redis.Redis(host, int(port)).flushall()
    keeper.line("keeps the job no longer")
    assert keeper.start("1").retcode == 200
    assert keeper.ask(RequestFLJob(fl_id="2", timestamp="1")) == PlainText(texts.START_SCHEMA)
