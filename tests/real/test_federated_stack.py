"""Starting, watching and ending the processes of a real stack. The programs themselves are stand-ins."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from mindfl.errors import OptionError, ProtocolError, SimulationError
from mindfl.real import FederatedConfig, FederatedServer, FederatedState, federated_processes
from mindfl.real.process_registry import ProcessRegistry

WEIGHTS = {"fc.weight": np.arange(6, dtype=np.float32).reshape(2, 3), "file": np.ones(1, np.float64)}

Maker = Callable[..., FederatedServer]


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """A work folder whose name has a blank and a letter beyond ASCII."""
    return tmp_path / "a jöb"


@pytest.fixture
def make(standins: Path, work: Path) -> Iterator[Maker]:
    """Return a function that makes a server with stand-ins; they are ended at the end."""
    made: list[FederatedServer] = []

    def build(report: Callable[[str], None] = lambda text: None, **values: Any) -> FederatedServer:
        config = FederatedConfig(
            fl_name="Lenet é",
            iterations=3,
            clients=2,
            epochs=1,
            batch_size=32,
            learning_rate=0.01,
            python=standins,
            **values,
        )
        made.append(FederatedServer(work, config, WEIGHTS, report=report))
        return made[-1]

    yield build
    for server in made:
        server.stop()
    ProcessRegistry(work).end()


def eventually(condition: Callable[[], bool]) -> bool:
    """Wait for something that another process does."""
    deadline = time.monotonic() + 60
    while not (done := condition()) and time.monotonic() < deadline:
        time.sleep(0.02)
    return done


def gone(*pids: int) -> bool:
    """Tell whether these processes have ended."""

    def ended(pid: int) -> bool:
        try:
            return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return True

    return eventually(lambda: all(map(ended, pids)))


def told(server: FederatedServer, index: int) -> dict[str, Any]:
    """Return what a server was started with."""
    content: dict[str, Any] = json.loads((server.folder / f"server_{index}" / "told.json").read_text())
    return content


def test_starts_everything_and_ends_it(make: Maker, work: Path) -> None:
    lines: list[str] = []
    with make(lines.append, server_num=3, http_url_prefix="/fed") as server:
        ports = [int(address.rpartition(":")[2]) for address in server.addresses]
        state, pids = server.state(), server.pids
        running = ProcessRegistry(work).running()

    assert ports == list(range(ports[0], ports[0] + 3))
    assert server.urls == [f"http://127.0.0.1:{port}/fed" for port in ports]
    assert state == FederatedState("running", ("127.0.0.1:1",), 0, 3)
    assert list(pids) == ["real redis", "real scheduler", "real server 0", "real server 1", "real server 2"]
    assert set(pids.values()) <= {record.pid for record in running}
    assert gone(*pids.values(), *(record.pid for record in running))
    assert not ProcessRegistry(work).running()
    assert lines == ["starting Redis", "starting 3 real servers"]
    assert 'event {"name": "stopping"}' in (server.folder / "server_2.log").read_text()


def test_every_server_is_told_the_job(make: Maker) -> None:
    with make(server_num=2, tcp_server_ip="127.0.0.2") as server:
        first, second = told(server, 0), told(server, 1)

    assert first["weights"] == {
        "fc.weight": ["float32", [[0, 1, 2], [3, 4, 5]]],
        "file": ["float32", [1]],
    }
    assert second["weights"] == first["weights"]
    assert [first["http"], second["http"]] == server.addresses
    assert first["tcp_ip"] == "127.0.0.2"
    assert not Path(server.folder, "server_0", first["checkpoints"]).exists()
    assert first["passwords"] is None
    assert server.cert_path is None


def test_with_tls(make: Maker) -> None:
    pytest.importorskip("cryptography")
    server = make(tls=True, manage_address=None)
    with server:
        redis = (server.folder / "redis" / "told").read_text().splitlines()
        passwords = told(server, 0)["passwords"]
        command = " ".join(psutil.Process(server.pids["real server 0"]).cmdline())

    assert server.url.startswith("https://127.0.0.1:")
    assert server.cert_path == server.folder / "tls" / "ca.crt"
    assert "BEGIN CERTIFICATE" in server.cert_path.read_text()
    assert redis[redis.index("--port") + 1] == "0"
    assert (server.folder / "redis" / redis[redis.index("--tls-cert-file") + 1]).exists()
    assert len(passwords) == 2
    assert all(passwords)
    assert not any(password in command for password in passwords)
    settings = (server.folder / "fl.yaml").read_text()
    assert "enable_ssl: true" in settings
    assert str(server.folder / "redis" / "tls" / "client.key").encode("unicode_escape").decode()[-20:] in settings


def test_without_a_scheduler(make: Maker) -> None:
    with make(manage_address=None) as server:
        assert "real scheduler" not in server.pids
        assert server.manage_url == ""
        with pytest.raises(SimulationError, match="no scheduler"):
            server.state()


def test_iterations_are_counted_as_they_end(make: Maker) -> None:
    with make() as server:
        [worker] = psutil.Process(server.pids["real server 0"]).children()
        worker.send_signal(signal.SIGUSR1)
        assert eventually(lambda: server.ended == {1: True})
        worker.send_signal(signal.SIGUSR1)
        assert eventually(lambda: server.state().completed == 2)


def test_scheduler_that_refuses_is_quoted(make: Maker) -> None:
    with make() as server, pytest.raises(ProtocolError, match="refused disableFLS: no such thing"):
        server.manage("disableFLS")


@pytest.mark.parametrize(
    ("folder", "fault", "named"),
    [
        (
            "server_0",
            "weights of another shape",
            "the real server 0 ended with code 1: RuntimeError: weights of another",
        ),
        ("server_1", "Http server starting failed.", "the real server 1 ended with code 1: its port is in use"),
    ],
)
def test_a_server_that_fails_ends_everything(
    make: Maker, work: Path, monkeypatch: pytest.MonkeyPatch, folder: str, fault: str, named: str
) -> None:
    monkeypatch.setenv("STANDIN_FAULTS", json.dumps({folder: fault}))
    server = make(server_num=2)

    with pytest.raises(SimulationError) as caught:
        server.start()

    assert named in str(caught.value)
    assert f"{folder}.log" in caught.value.hint
    assert gone(*server.pids.values())
    assert not ProcessRegistry(work).running()


def test_a_server_that_is_never_ready(make: Maker, work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STANDIN_FAULTS", json.dumps({"server_0": "silent"}))
    monkeypatch.setattr(federated_processes, "START_SECONDS", 3.0)
    monkeypatch.setattr(federated_processes, "START_SECONDS_EACH", 0.0)

    with pytest.raises(SimulationError, match="the real server 0 was not ready in time"):
        make(manage_address=None).start()

    assert not ProcessRegistry(work).running()


def test_a_redis_that_fails(make: Maker, standins: Path) -> None:
    (standins.parent / "redis-server").write_text("#!/bin/sh\necho '# Failed to configure TLS'\nexit 1\n")

    with pytest.raises(SimulationError, match="the real redis ended with code 1: # Failed to configure TLS"):
        make().start()


def test_no_redis(make: Maker, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(SimulationError, match="no redis-server") as caught:
        make().start()

    assert "--redis_address" in caught.value.hint


def test_port_in_use_is_said_before_anything_starts(make: Maker) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        server = make(http_address=address)

        with pytest.raises(OptionError, match=f"http_address: cannot listen on {address}: the address is in use"):
            server.start()

    assert server.pids == {}


def test_bad_settings_are_said_before_anything_starts(make: Maker) -> None:
    server = make(settings={"round.start_fl_job_threshold": 5, "encrypt.encrypt_type": "ROT13"})

    with pytest.raises(OptionError, match="ROT13"):
        server.start()

    assert server.pids == {}


@pytest.mark.parametrize("role", ["real redis", "real scheduler", "real server 1"])
def test_a_process_that_dies_is_noticed(make: Maker, role: str) -> None:
    with make(server_num=2) as server:
        [worker] = psutil.Process(server.pids[role]).children()
        worker.kill()

        assert gone(server.pids[role])
        with pytest.raises(SimulationError, match=f"the {role} was ended by signal 9"):
            server.state()


def test_what_a_process_watches_cannot_outlive_it(make: Maker) -> None:
    with make() as server:
        workers = [psutil.Process(pid).children()[0].pid for pid in server.pids.values()]
        for pid in server.pids.values():
            os.kill(pid, signal.SIGKILL)

        assert gone(*workers)


def test_stop_is_idempotent_and_a_server_starts_once(make: Maker) -> None:
    server = make()
    server.stop()
    server.start()
    server.stop()
    server.stop()

    with pytest.raises(SimulationError, match="started once"):
        server.start()


def test_one_stack_in_a_folder(make: Maker) -> None:
    with make() as first:
        with pytest.raises(SimulationError, match=r"another run is working in .*federated"):
            make().start()

        first.check()


def test_next_run_replaces_what_the_last_one_wrote_and_nothing_else(make: Maker) -> None:
    with make(server_num=2) as first:
        (first.folder / "notes.txt").write_text("mine")
        (first.folder / "server_0" / "metrics.json").write_text("of the first run")

    with make() as second:
        assert sorted(path.name for path in second.folder.iterdir()) == [
            *(".lock", "fl.yaml", "model.npz", "notes.txt", "redis", "redis.log"),
            *("scheduler", "scheduler.log", "server_0", "server_0.log"),
        ]
        assert not (second.folder / "server_0" / "metrics.json").exists()


def test_what_a_killed_run_left_is_ended(make: Maker, work: Path) -> None:
    left = ProcessRegistry(work).start(
        [sys.executable, "-c", "import time; time.sleep(600)"], role="real server 0", log=work / "left.log"
    )
    other = ProcessRegistry(work).start(
        [sys.executable, "-c", "import time; time.sleep(600)"], role="java client 0", log=work / "other.log"
    )
    lines: list[str] = []

    with make(lines.append):
        assert left.wait(60) is not None
        assert other.poll() is None

    assert lines[0] == "warning: ending 1 process of a run in this folder that was killed"


KILLED = """
import os, signal, sys, threading
import numpy as np
from mindfl.real import FederatedConfig, FederatedServer

config = FederatedConfig(
    fl_name="x", iterations=1, clients=1, epochs=1, batch_size=1, learning_rate=0.1, server_num=2, python=sys.argv[2]
)
server = FederatedServer(sys.argv[1], config, {"w": np.ones(1, np.float32)})
starting = threading.Thread(target=server.start)  # the end of this thread is not the end of the process
starting.start()
starting.join()
print(*server.pids.values(), flush=True)
signal.pause()
"""


def test_everything_ends_with_the_process_that_started_it(standins: Path, work: Path) -> None:
    command = [sys.executable, "-c", KILLED, str(work), str(standins)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout
        pids = [int(word) for word in parent.stdout.readline().split()]
        workers = [psutil.Process(pid).children()[0].pid for pid in pids]
        assert len(pids) == 4

        parent.kill()

    assert gone(*pids, *workers)


def test_redis_of_ones_own_that_does_not_answer(make: Maker) -> None:
    pytest.importorskip("redis")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    server = make(redis_address=address)

    with pytest.raises(SimulationError, match=f"the Redis at {address} cannot be used") as caught:
        server.start()

    assert "start it first" in caught.value.hint
    assert server.pids == {}
