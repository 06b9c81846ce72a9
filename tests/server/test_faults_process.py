"""Faults of a whole server process, with real clients at work: nothing acknowledged is lost or counted twice."""

from __future__ import annotations

import json
import random
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from urllib.parse import urlsplit

import numpy as np
import pytest
from faults_process import (
    WAIT_S,
    DeviceFleet,
    ServerProcess,
    model_bytes,
    now_ms,
    undisturbed,
    write_job,
)
from free_ports import free_port
from http_requests import Device, head

from mindfl.client import HttpSettings, HttpTransport, JobResult
from mindfl.protocol import (
    Request,
    RequestFLJob,
    RequestGetModel,
    RequestUpdateModel,
    Response,
    ResponseCode,
    ResponseGetModel,
    ResponseUpdateModel,
    encode,
)

CLIENTS = 4
WEIGHTS = {"fc.weight": np.ones((30, 40), np.float32), "fc.bias": np.zeros(30, np.float32)}


def last_model(url: str) -> bytes:
    with HttpTransport(HttpSettings(url=url)) as transport:
        response = transport.send(RequestGetModel(iteration=0), 0)
    assert isinstance(response, ResponseGetModel) and response.feature_map is not None
    return model_bytes(response.feature_map)


def tear(folder: Path, draw: random.Random) -> None:
    """Leave half a record at the end of the journal, as a kill in the middle of a write does."""
    journal = max(folder.glob("state/journal-*"))
    content = journal.read_bytes()
    with journal.open("ab") as file:
        file.write(draw.choice([content[-64:-1], draw.randbytes(draw.randrange(1, 300)), bytes(4096)]))


class Drama:
    """A job whose server is ended again and again while its clients train."""

    def __init__(self, folder: Path, seed: int, iterations: int = 20) -> None:
        self.folder = folder
        self.draw = random.Random(seed)
        self.iterations = iterations
        self.recoveries: list[float] = []
        self.port = free_port()
        write_job(folder, clients=CLIENTS, iterations=iterations, weights=WEIGHTS)

    def play(self, ends: list[str]) -> None:
        """End the server in each of the ways ``ends`` at a drawn instant; check what comes out."""
        server = self._server()
        try:
            with DeviceFleet(server.url, range(CLIENTS)) as fleet:
                for number, end in enumerate(ends):
                    self._wait(fleet, len(ends) - number)
                    self._end(server, end)
                    server = self._server()
                    self.recoveries.append(server.ready_s)
                fleet.join()
            assert fleet.results == dict.fromkeys(range(CLIENTS), JobResult(self.iterations, ResponseCode.SUCCEED))
            assert last_model(server.url) == undisturbed(CLIENTS, self.iterations, WEIGHTS)
            assert server.end(signal.SIGTERM) == 0
        finally:
            server.__exit__()
        self._check_files()

    def _wait(self, fleet: DeviceFleet, ends_left: int) -> None:
        """Wait for an instant that leaves enough of the job for the ends still to come."""
        done = fleet.progress.count
        steps_left = 2 * CLIENTS * self.iterations - done
        assert fleet.progress.wait_for(done + self.draw.randrange(1, max(2, steps_left // (ends_left + 2))))
        # Not waited for: the instant of the end is drawn at random.
        time.sleep(self.draw.uniform(0, 0.005))

    def _server(self) -> ServerProcess:
        return ServerProcess(self.folder, "--state_dir", "state", port=self.port)

    def _end(self, server: ServerProcess, end: str) -> None:
        code = server.end(signal.SIGTERM if end == "stop" else signal.SIGKILL)
        assert code == (0 if end == "stop" else -signal.SIGKILL)
        if end == "torn":
            tear(self.folder, self.draw)

    def _check_files(self) -> None:
        """Each iteration is reported, and with each client's upload counted once."""
        lines = [json.loads(line) for line in (self.folder / "metrics.json").read_text().splitlines()]
        assert {line["currentIteration"] for line in lines} == set(range(1, self.iterations + 1))
        for line in lines:
            assert line["iterationResult"] == "success"
            assert line["clientVisitedInfo"]["updateModelAcceptClientNum"] == CLIENTS
        for errors in self.folder.glob("stderr-*"):
            assert "Traceback" not in errors.read_text("utf-8")


@pytest.mark.parametrize("ends", [["kill"] * 3, ["stop", "torn"]], ids="-".join)
def test_a_server_that_ends_while_clients_train(tmp_path: Path, ends: list[str]) -> None:
    drama = Drama(tmp_path, seed=len(ends))
    drama.play(ends)
    print(f"recovered in {', '.join(f'{seconds:.2f}' for seconds in drama.recoveries)} s, start of Python included")


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10))
def test_a_server_killed_ten_times_in_each_of_ten_jobs(tmp_path: Path, seed: int) -> None:
    drama = Drama(tmp_path, seed=100 + seed, iterations=60)
    drama.play(["kill", "torn"] * 5)
    times = drama.recoveries
    print(
        f"{len(times)} recoveries: median {median(times):.2f} s, longest {max(times):.2f} s, start of Python included"
    )


# One upload at a time.


def start(number: int) -> RequestFLJob:
    return RequestFLJob(fl_name="x", fl_id=f"id {number}", data_size=1, timestamp=str(now_ms()))


def upload(number: int, iteration: int = 1) -> RequestUpdateModel:
    weights = {name: np.full(values.size, number, np.float32) for name, values in WEIGHTS.items()}
    return RequestUpdateModel(fl_id=f"id {number}", iteration=iteration, feature_map=weights, timestamp=str(now_ms()))


def ask(server: ServerProcess, request: Request) -> Response:
    with Device(server.url) as device:
        return device.ask(request)


def code(server: ServerProcess, request: Request) -> int:
    """Return the retcode of the answer; 0 for one of plain text."""
    return getattr(ask(server, request), "retcode", 0)


def test_a_kill_in_the_middle_of_an_upload(tmp_path: Path) -> None:
    """What arrived of it is gone, what was acknowledged before is not; sent again it counts once."""
    write_job(tmp_path, clients=2, iterations=1, weights=WEIGHTS)
    with ServerProcess(tmp_path, "--state_dir", "state") as first, Device(first.url) as device:
        for number in (1, 2):
            assert code(first, start(number)) == 200
        assert code(first, upload(1)) == 200
        body = encode(upload(2))
        device.send(head("/updateModel", len(body), headers="Expect: 100-continue\r\n"))
        assert device.socket.recv(100).startswith(b"HTTP/1.1 100")
        device.send(body[: len(body) // 2])
        first.end(signal.SIGKILL)
        assert device.closed()
    with ServerProcess(tmp_path, "--state_dir", "state") as second:
        assert "1 of its uploads were read back" in second.said()
        assert [code(second, upload(number)) for number in (1, 2, 2)] == [300, 200, 0]
        assert set(np.frombuffer(last_model(second.url), np.float32).tolist()) == {1.5}


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "small"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("mounting a small file system needs root")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_disk_that_fills_up_and_has_room_again(tmp_path: Path, small_disk: Path) -> None:
    write_job(tmp_path, clients=2, iterations=2, weights=WEIGHTS)
    state = ("--state_dir", str(small_disk / "state"))
    with ServerProcess(tmp_path, *state) as first:
        for number in (1, 2):
            assert code(first, start(number)) == 200
        assert code(first, upload(1)) == 200
        filler = (small_disk / "filler").open("wb", buffering=0)
        with filler, pytest.raises(OSError, match="No space"):
            while filler.write(bytes(512)):
                pass
        refused = ask(first, upload(2))
        assert isinstance(refused, ResponseUpdateModel) and refused.retcode == 300
        assert "its disk may be full" in (refused.reason or "")
        assert 0 < int(refused.next_req_time or 0) - now_ms() <= 3_600_000 + 60_000
        assert code(first, RequestGetModel(iteration=1)) == 201
        for _ in range(5):
            assert code(first, upload(2)) == 300
        (small_disk / "filler").unlink()
        assert code(first, upload(2)) == 200
        first.end(signal.SIGKILL)
        told = [line for line in first.said().splitlines() if str(small_disk) in line]
        assert len(told) == 2 and "Traceback" not in first.said()
        assert "No space left on device" in told[0] and "devices are refused until there is room" in told[0]
        assert told[1].endswith("state can be written again, after 6 failures")
    with ServerProcess(tmp_path, *state) as second:
        assert code(second, start(1)) == 200
        assert set(np.frombuffer(last_model(second.url), np.float32).tolist()) == {1.5}


def test_a_server_killed_before_it_is_ready_leaves_nothing_that_stops_the_next(tmp_path: Path) -> None:
    """The kill comes while the state folder is being made: its files appear one after the other."""
    write_job(tmp_path, clients=1, iterations=1, weights=WEIGHTS)
    port = free_port()
    command = ServerProcess.command("--state_dir", "state", port=port)
    for name in ("lock", "snapshot", "journal-*"):
        process = subprocess.Popen(
            command, cwd=tmp_path, env=ServerProcess.environment(tmp_path), stdout=subprocess.DEVNULL
        )
        deadline = time.monotonic() + WAIT_S
        while not list(tmp_path.glob(f"state/{name}")):
            assert time.monotonic() < deadline, f"no {name} was made"
            time.sleep(0.0002)
        process.kill()
        process.wait()
    with ServerProcess(tmp_path, "--state_dir", "state", port=port) as server:
        assert code(server, start(1)) == 200
        assert code(server, upload(1)) == 200


def test_connections_left_open_do_not_keep_the_port(tmp_path: Path) -> None:
    """Devices hold connections to a server that was killed; the next one listens on the same port at once."""
    write_job(tmp_path, clients=1, iterations=1, weights=WEIGHTS)
    port = free_port()
    with ServerProcess(tmp_path, "--state_dir", "state", port=port) as first:
        place = urlsplit(first.url)
        idle = [socket.create_connection((place.hostname, port), WAIT_S) for _ in range(20)]
        assert code(first, start(1)) == 200
        first.end(signal.SIGKILL)
    with ServerProcess(tmp_path, "--state_dir", "state", port=port) as second:
        assert code(second, upload(1)) == 200
    for connection in idle:
        connection.close()


def test_a_torn_end_that_was_cut_off_is_told_in_one_line(tmp_path: Path) -> None:
    write_job(tmp_path, clients=2, iterations=1, weights=WEIGHTS)
    with ServerProcess(tmp_path, "--state_dir", "state") as first:
        assert code(first, start(1)) == 200
        assert code(first, upload(1)) == 200
        first.end(signal.SIGKILL)
        assert "torn" not in first.said()
    (journal,) = (tmp_path / "state").glob("journal-*")
    with journal.open("ab") as file:
        file.write(b"\x01" * 123)
    with ServerProcess(tmp_path, "--state_dir", "state") as second:
        told = [line for line in second.said().splitlines() if "torn" in line]
        assert len(told) == 1 and "journal in state" in told[0] and "last 123 bytes" in told[0]
        assert "a damaged disk or a shortened file may" in told[0]
        assert "1 of its uploads were read back" in second.said()
