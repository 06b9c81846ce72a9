"""The files of ``data_rate_dir``: the real server's lines, whole, also when the disk is full or the server stops."""

from __future__ import annotations

import json
import logging
import signal
import threading
from contextlib import nullcontext
from datetime import datetime, timedelta
from http.client import HTTPConnection
from itertools import chain
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
from faults_process import ServerProcess, write_job
from redis_servers import RedisServer, redis_server

from mindfl.errors import StorageError
from mindfl.protocol import RequestFLJob, RequestGetModel, encode
from mindfl.server import summary_files
from mindfl.server.summary_files import MOST_LINES, DataRate, LineFile

# Two lines that MindSpore Federated 0.1.0 wrote, for three startFLJob and one updateModel.
RECORDED = """\
{"receive":252,"send":1440,"time":"2026-11-22 14:55:22"}
{"receive":228,"send":76,"time":"2026-11-22 14:55:27"}
"""


class Time:
    """A clock set by hand."""

    def __init__(self, text: str) -> None:
        self.now = datetime.fromisoformat(text)

    def __call__(self) -> datetime:
        return self.now

    def pass_s(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


def test_lines_are_those_of_the_real_server(tmp_path: Path) -> None:
    time = Time("2026-11-22 14:55:22.100")
    rate = DataRate(tmp_path / "ä b", "127.0.0.1:39219", time)
    for _ in range(3):
        rate.count(84, 480)
        time.pass_s(0.1)
    time.pass_s(5)
    rate.count(228, 76)
    rate.close()
    assert (tmp_path / "ä b" / "2026-11-22_flow_server127.0.0.1:39219.json").read_text() == RECORDED


def test_a_second_that_is_not_over_is_written_later_and_midnight_begins_a_file(tmp_path: Path) -> None:
    time = Time("2026-12-31 23:59:58")
    rate = DataRate(tmp_path, "s", time)
    for _ in range(3):
        rate.count(1, 2)
        rate.write()
        rate.count(10, 20)
        time.pass_s(1)
    rate.close()
    files = {path.name: path.read_text().splitlines() for path in tmp_path.iterdir()}
    assert {name: len(lines) for name, lines in files.items()} == {
        "2026-12-31_flow_servers.json": 2,
        "2027-01-01_flow_servers.json": 1,
    }
    assert all(
        json.loads(line) | {"time": ""} == {"receive": 11, "send": 22, "time": ""} for line in chain(*files.values())
    )


def test_nothing_is_written_where_nothing_came(tmp_path: Path) -> None:
    DataRate(tmp_path, "s").close()
    assert list(tmp_path.iterdir()) == []


def test_threads_lose_nothing(tmp_path: Path) -> None:
    rate = DataRate(tmp_path, "s")

    def work() -> None:
        for _ in range(2000):
            rate.count(1, 3)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        rate.write()
    rate.close()
    lines = [json.loads(line) for path in tmp_path.iterdir() for line in path.read_text().splitlines()]
    assert (sum(line["receive"] for line in lines), sum(line["send"] for line in lines)) == (8000, 24000)
    assert len({line["time"] for line in lines}) == len(lines)


def test_a_full_disk_is_told_once_and_made_up_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    time = Time("2026-11-22 10:00:00")
    rate = DataRate(tmp_path, "s", time)

    def full(self: LineFile, line: str) -> None:
        raise StorageError(f"cannot write {self.path}: no space left on device")

    with monkeypatch.context() as patch, caplog.at_level(logging.WARNING, "mindfl.server"):
        patch.setattr(LineFile, "append", full)
        for _ in range(3):
            rate.count(1, 1)
            time.pass_s(1)
            rate.write()
    assert len(caplog.records) == 1 and "no space left" in caplog.text
    rate.close()
    (path,) = tmp_path.iterdir()
    assert len(path.read_text().splitlines()) == 3


def test_what_is_kept_for_a_full_disk_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    time = Time("2026-11-22 00:00:00")
    rate = DataRate(tmp_path, "s", time)
    monkeypatch.setattr(summary_files, "LineFile", lambda path: (_ for _ in ()).throw(StorageError("full")))
    for _ in range(MOST_LINES + 50):
        rate.count(1, 1)
        time.pass_s(1)
    rate.write()
    monkeypatch.undo()
    rate.close()
    (path,) = tmp_path.iterdir()
    lines = path.read_text().splitlines()
    assert len(lines) == MOST_LINES and json.loads(lines[-1])["time"] == "2026-11-22 01:00:49"


def test_a_folder_that_cannot_be_is_known_at_start(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="file"):
        DataRate(tmp_path / "file" / "rates", "s")


@pytest.mark.parametrize("shared", [False, True], ids=["alone", "cluster"])
def test_a_server_counts_every_message_and_nothing_else(tmp_path: Path, shared: bool) -> None:
    with redis_server(tmp_path / "redis") if shared else nullcontext() as store:
        _count_every_message(tmp_path, store)


def _count_every_message(tmp_path: Path, store: RedisServer | None) -> None:
    arguments = ["--cluster"] if store else ["--state_dir", "state"]
    write_job(tmp_path, clients=2, iterations=1, weights={"w": np.zeros(100, np.float32)})
    settings = (tmp_path / "fl.yaml").read_text()
    settings = settings.replace("127.0.0.1:6379", store.address if store else "127.0.0.1:1")
    (tmp_path / "fl.yaml").write_text(settings.replace("event.txt}", "event.txt, data_rate_dir: ./rates}"))
    received = sent = 0
    with ServerProcess(tmp_path, *arguments) as server:
        start = encode(RequestFLJob(fl_name="x", fl_id="a", data_size=1, timestamp="0"))
        messages = [
            ("startFLJob", start, True),
            ("startFLJob", start, True),
            ("getModel", encode(RequestGetModel(iteration=1)), True),
            ("startFLJob", b"no message at all", True),
            ("nowhere", start, False),
            ("getModel", b"", False),
        ]
        connection = HTTPConnection(urlsplit(server.url).netloc, timeout=60)
        for path, body, counts in messages:
            connection.request("POST", f"/{path}", body)
            reply = connection.getresponse()
            content = reply.read()
            assert (reply.status == 200) is counts
            received += len(body) if counts else 0
            sent += len(content) if counts else 0
        connection.request("POST", "/getModel", iter([messages[2][1]]), encode_chunked=True)
        content = connection.getresponse().read()
        received, sent = received + len(messages[2][1]), sent + len(content)
        connection.close()
        assert server.end(signal.SIGTERM) == 0
        said = server.said()
    assert "data_rate" not in said and "Traceback" not in said
    (path,) = (tmp_path / "rates").iterdir()
    assert path.name.endswith(f"_flow_server{urlsplit(server.url).netloc}.json")
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert (sum(line["receive"] for line in lines), sum(line["send"] for line in lines)) == (received, sent)
