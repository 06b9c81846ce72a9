"""``mindfl server start --cluster`` and ``mindfl server scheduler``, each in a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
from redis_servers import YAML, RedisServer, redis_server

Start = Callable[..., tuple[subprocess.Popen[str], str]]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RedisServer]:
    with redis_server(tmp_path / "redis") as server:
        yield server


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, store: RedisServer) -> Iterator[Start]:
    """Return a function that runs `mindfl server ...` and returns the process and the URL it prints."""
    (tmp_path / "fl.yaml").write_text(YAML.replace("REDIS", store.address))
    np.savez(tmp_path / "model.npz", w=np.zeros((2, 3), np.float32))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MINDFL_CACHE", str(tmp_path / "cache"))
    running: list[subprocess.Popen[str]] = []

    def run(*arguments: str) -> tuple[subprocess.Popen[str], str]:
        command = [sys.executable, "-m", "mindfl", "server", *arguments, "--config", "fl.yaml"]
        running.append(
            subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ}, cwd=tmp_path
            )
        )
        line = running[-1].stdout.readline()
        assert line.startswith("ready http://"), (line, running[-1].stderr.read())
        return running[-1], line.split()[1]

    yield run
    for each in running:
        each.kill()
        each.communicate()


SERVER = ("start", "--cluster", "--model", "model.npz", "--http_server_address", "127.0.0.1:0", "--quiet")


def get(url: str, path: str) -> dict[str, Any]:
    connection = HTTPConnection(urlsplit(url).netloc, timeout=20)
    connection.request("GET", path)
    value: dict[str, Any] = json.loads(connection.getresponse().read())
    connection.close()
    return value


def test_servers_and_scheduler_find_each_other(start: Start, mindfl: Callable[..., Any]) -> None:
    boss, boss_url = start("scheduler", "--manage_address", "127.0.0.1:0")
    assert get(boss_url, "/state")["error_message"] == "Cannot find cluster info for Lenet"
    first, first_url = start(*SERVER)
    second, second_url = start(*SERVER, "--manage_address", "127.0.0.1:0")
    nodes = [node["tcp_address"] for node in get(boss_url, "/state")["nodes"]]
    assert nodes == [urlsplit(url).netloc for url in (first_url, second_url)]
    listed = json.loads(mindfl("server", "status", "--json").out)
    assert {(each["pid"], each["state"], each["iteration"]) for each in listed} == {
        (first.pid, "running", 1),
        (second.pid, "running", 1),
    }
    (manage_url,) = [each["manage_url"] for each in listed if each["manage_url"]]
    assert get(manage_url, "/disableFLS")["code"] == "0"
    assert get(boss_url, "/state")["cluster_state"] == "CLUSTER_DISABLE"
    first.send_signal(signal.SIGTERM)
    assert first.communicate(timeout=30) == ("", "") and first.returncode == 0
    assert get(boss_url, "/state")["cluster_state"] == "CLUSTER_DISABLE"
    assert mindfl("server", "stop").out == f"stopped {second_url}\n"
    assert second.wait(30) == 0
    assert second.communicate() == ("", "")
    assert "nodes" not in get(boss_url, "/state")
    boss.send_signal(signal.SIGINT)
    assert boss.communicate(timeout=30) == ("", "mindfl: error: interrupted [E-INTERRUPTED]\n")
    assert boss.returncode == 130


@pytest.mark.parametrize(
    ("change", "arguments", "reason"),
    [
        (
            ("type: redis", "type: embedded"),
            [],
            "servers of one job meet in a Redis, and distributed_cache.type is embedded",
        ),
        (("", ""), ["--state_dir", "state"], "--state_dir is for one server"),
        (("num: 3", "num: 5"), [], "the job Lenet runs with other settings: fl_iteration_num 3 -> 5"),
    ],
)
def test_servers_that_cannot_share_the_job_are_told_why(
    start: Start, mindfl: Callable[..., Any], change: tuple[str, str], arguments: list[str], reason: str
) -> None:
    start(*SERVER)
    text = Path("fl.yaml").read_text()
    Path("other.yaml").write_text(text.replace(*change) if change[0] else text)
    assert reason in mindfl("server", *SERVER, "--config", "other.yaml", *arguments).error()


def test_without_its_redis_a_cluster_waits_and_then_ends(
    store: RedisServer, start: Start, mindfl: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from mindfl.server.cluster import store as place

    monkeypatch.setattr(place, "WAIT_SECONDS", 0.0)
    store.stop()
    assert f"the Redis at {store.address} does not answer" in mindfl("server", *SERVER, "--config", "fl.yaml").error()
    assert not list(Path().glob("*state*"))


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--manage_address", "here"], "--manage_address must be host:port"),
        (["--password_file", "missing"], "cannot read missing"),
    ],
)
def test_a_scheduler_that_cannot_run_says_so_in_one_line(
    start: Start, mindfl: Callable[..., Any], arguments: list[str], reason: str
) -> None:
    assert reason in mindfl("server", "scheduler", "--config", "fl.yaml", *arguments).error()
