"""Jobs that survive their server: recovery, snapshots, full disks."""

from __future__ import annotations

import logging
import os
import shutil
import struct
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mindfl.errors import MindflError, StorageError
from mindfl.protocol import (
    ClientShare,
    GetShareSecrets,
    PlainText,
    RequestExchangeKeys,
    RequestFLJob,
    RequestGetModel,
    RequestShareSecrets,
    RequestUpdateModel,
    SendReconstructSecret,
)
from mindfl.server import Coordinator, IterationRecord, ServerConfig, ServerState
from mindfl.server.aggregate import FeatureLayout
from mindfl.server.durable import DurableJob
from mindfl.server.events import (
    Buffer,
    CohortSet,
    Disabled,
    Enabled,
    EventCodec,
    KeysPublished,
    Renewed,
    Resumed,
    SharesDeposited,
    SharesGiven,
    SharesRevealed,
    Started,
    Uploaded,
    UploadedWords,
    WindowEnded,
)
from mindfl.server.iteration import Clock, Device, UploadReport
from mindfl.server.storage import FolderStorage

CONFIG = ServerConfig(
    fl_iteration_num=9,
    start_fl_job_threshold=3,
    update_model_ratio=0.6,
    start_fl_job_time_window=3000,
    update_model_time_window=4000,
    global_iteration_time_window=6000,
)
INITIAL = {"fc.weight": np.ones((20, 30), np.float32), "fc.bias": np.zeros(20, np.float32)}


class Times:
    """A monotonic and a wall clock set by hand, in ms."""

    def __init__(self) -> None:
        self.mono = 5_000
        self.wall = 1_795_333_460_000

    def clock(self) -> Clock:
        return Clock(lambda: self.mono * 1_000_000, lambda: self.wall * 1_000_000)

    def pass_ms(self, ms: int) -> None:
        self.mono += ms
        self.wall += ms


class Server:
    """A job in a folder, with the time in hand."""

    def __init__(self, folder: Path, times: Times | None = None, config: ServerConfig = CONFIG, **changes: Any) -> None:
        self.folder = folder
        self.times = times or Times()
        self.clock = self.times.clock()
        self.records: list[IterationRecord] = []
        callback = {"on_iteration_end": self.records.append, **changes}
        self.job = DurableJob(folder, config, INITIAL, clock=self.clock, **callback)
        self.coordinator = self.job.coordinator

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.job.close()

    def ask(self, request: RequestFLJob | RequestUpdateModel | RequestGetModel) -> Any:
        response, position = self.job.handle(request, self.clock.now_ms())
        future = self.job.durable(position)
        if future:
            future.result(60)
        return response

    def start(self, fl_id: str) -> Any:
        return self.ask(RequestFLJob(fl_name="x", fl_id=fl_id, data_size=ord(fl_id[0]), timestamp="0"))

    def upload(self, fl_id: str, iteration: int = 1) -> Any:
        return self.ask(upload(fl_id, iteration))

    def get(self, iteration: int) -> Any:
        return self.ask(RequestGetModel(iteration=iteration))

    def iterate(self, iteration: int) -> None:
        for fl_id in "ab":
            assert self.start(fl_id).retcode == 200
            assert self.upload(fl_id, iteration).retcode == 200

    def crash(self, to: Path) -> Path:
        """Copy the folder to ``to``, as a kill -9 would leave it now."""
        self.settle()
        return Path(shutil.copytree(self.folder, to))

    def settle(self) -> None:
        """Wait for the work in the background."""
        self.job._saver.submit(int).result(60)

    def tick(self) -> None:
        self.coordinator.tick(self.clock.now_ms())


def upload(fl_id: str, iteration: int) -> RequestUpdateModel:
    generator = np.random.default_rng((ord(fl_id), iteration))
    weights = {name: generator.normal(0, 50, values.size).astype(np.float32) for name, values in INITIAL.items()}
    return RequestUpdateModel(
        fl_name="x", fl_id=fl_id, iteration=iteration, feature_map=weights, timestamp="0", upload_loss=ord(fl_id) / 7
    )


def model_bytes(coordinator: Coordinator) -> bytes:
    return b"".join(values.tobytes() for _, values in sorted(coordinator.model.items()))


def test_the_same_iteration_goes_on_with_every_upload_counted_once(tmp_path: Path) -> None:
    with Server(tmp_path / "undisturbed") as server:
        server.iterate(1)
        server.iterate(2)
        expected, expected_record = model_bytes(server.coordinator), server.records[1]
    with Server(tmp_path / "état 状态") as server:
        server.iterate(1)
        server.start("b")
        server.start("a")
        server.upload("b", 2)
        crashed = server.crash(tmp_path / f"crash {len(list(tmp_path.iterdir()))}")

    with Server(crashed) as server:
        assert (server.coordinator.iteration, server.records) == (2, [])
        assert (server.job.recovery.events, server.job.recovery.uploads, server.job.recovery.cut) == (3, 1, 0)
        again = server.upload("b", 2)
        assert (again.retcode, again.reason) == (300, "Updating metadata of UpdateModelClientList failed for fl id b")
        assert server.start("a").reason == "Updating device metadata failed for fl id a"
        assert server.get(1).retcode == 200
        assert server.get(2).retcode == 201
        assert server.upload("a", 2).retcode == 200
        assert model_bytes(server.coordinator) == expected
        (record,) = server.records
    assert (record.iteration, record.uploads, record.data_size) == (2, 2, ord("a") + ord("b"))
    assert (record.loss, record.started) == (expected_record.loss, expected_record.started)


def test_three_models_and_the_refusal_of_latecomers_survive(tmp_path: Path) -> None:
    with Server(tmp_path / "s") as server:
        for iteration in range(1, 6):
            server.iterate(iteration)
        before = [server.get(iteration).feature_map["fc.bias"].tolist() for iteration in (5, 4, 3)]
    with Server(tmp_path / "s") as server:
        assert [server.get(iteration).feature_map["fc.bias"].tolist() for iteration in (5, 4, 3)] == before
        assert server.upload("c", 5).reason == "Current amount for updateModel is enough. Please retry later."
        assert server.job.recovery.uploads == 0


def test_a_finished_job_stays_finished_and_serves_its_model(tmp_path: Path) -> None:
    config = replace(CONFIG, fl_iteration_num=1)
    with Server(tmp_path / "s", config=config) as server:
        server.iterate(1)
    with Server(tmp_path / "s", config=config) as server:
        assert server.coordinator.state is ServerState.FINISHED
        assert isinstance(server.start("a"), PlainText)
        assert server.get(1).retcode == 200


def test_switches_new_instances_and_failed_iterations_survive(tmp_path: Path) -> None:
    times = Times()
    with Server(tmp_path / "s", times, instance="first") as server:
        server.start("a")
        times.pass_ms(3000)
        server.tick()
        server.coordinator.job.disable(server.clock.now_ms())
        crashed = server.crash(tmp_path / f"crash {len(list(tmp_path.iterdir()))}")
    with Server(crashed, times) as server:
        assert (server.coordinator.iteration, server.coordinator.state) == (3, ServerState.DISABLED)
        assert server.coordinator.job.instance == "first"
        server.coordinator.job.enable()
        crashed = server.crash(tmp_path / f"crash {len(list(tmp_path.iterdir()))}")
    with Server(crashed, times) as server:
        assert server.coordinator.state is ServerState.RUNNING
        server.iterate(3)
        trained = model_bytes(server.coordinator)
        server.coordinator.job.new_instance(replace(CONFIG, fl_iteration_num=2), "second", server.clock.now_ms())
        crashed = server.crash(tmp_path / f"crash {len(list(tmp_path.iterdir()))}")
    with Server(crashed, times) as server:
        assert (server.coordinator.iteration, server.coordinator.job.instance) == (1, "second")
        assert server.coordinator.config.fl_iteration_num == 2
        assert model_bytes(server.coordinator) == trained
        server.iterate(1)
    with Server(crashed, times) as server:
        assert (server.coordinator.iteration, server.coordinator.job.instance) == (2, "second")


def test_cohorts_of_any_size_survive(tmp_path: Path) -> None:
    with Server(tmp_path / "s") as server:
        server.coordinator.job.set_cohort(0, server.clock.now_ms())
        server.iterate(2)
        server.coordinator.job.set_cohort(5, server.clock.now_ms())
        for fl_id in "abc":  # three of five are 0.6
            assert server.start(fl_id).retcode == 200
        assert server.upload("a", 3).retcode == server.upload("b", 3).retcode == 200
        before, records = model_bytes(server.coordinator), server.records
        copy = server.crash(tmp_path / "copy")
    assert [(record.valid, record.uploads) for record in records] == [(True, 0), (True, 2)]
    assert all(np.array_equal(records[0].model[name], INITIAL[name].reshape(-1)) for name in INITIAL)

    with Server(copy) as again:
        assert (again.coordinator.iteration, model_bytes(again.coordinator)) == (3, before)
        assert again.start("d").retcode == again.start("e").retcode == 200
        assert again.start("f").retcode != 200, "five may start"
        assert again.upload("c", 3).retcode == 200
        assert (again.coordinator.iteration, again.records[-1].uploads) == (4, 3)


@pytest.mark.parametrize("step", [-600_000, 600_000])
def test_downtime_and_a_stepped_clock_are_not_counted_in_the_windows(tmp_path: Path, step: int) -> None:
    times = Times()
    with Server(tmp_path / "s", times) as server:
        for fl_id in "abc":
            server.start(fl_id)
        times.pass_ms(1000)
        server.upload("a")
    times.mono = 77
    times.wall += step
    with Server(tmp_path / "s", times) as server:
        for _ in range(2):
            times.pass_ms(1999)
            server.tick()
        assert server.records == []
        crashed = server.crash(tmp_path / f"crash {len(list(tmp_path.iterdir()))}")
        times.pass_ms(2)
        server.tick()
        assert [record.valid for record in server.records] == [False]
    with Server(crashed, times) as server:
        assert server.upload("b").retcode == 200
        assert [record.valid for record in server.records] == [True]


@pytest.mark.parametrize("step", [-600_000, 600_000])
def test_a_clock_step_while_running_ends_nothing_and_reaches_the_devices(tmp_path: Path, step: int) -> None:
    times = Times()
    with Server(tmp_path / "s", times) as server:
        for fl_id in "abc":
            server.start(fl_id)
        times.wall += step
        times.pass_ms(100)
        server.tick()
        refused = server.start("d")
        assert server.coordinator.iteration == 1
        assert int(refused.next_req_time) == times.wall - 100 + 6000 + 1000
        assert server.upload("a").retcode == server.upload("b").retcode == 200
        assert server.records[0].end_ms == times.wall


def test_the_clock_follows_the_monotonic_one() -> None:
    times = Times()
    clock = times.clock()
    begin = clock.now_ms()
    assert begin == times.wall
    times.pass_ms(10)
    times.wall += 12_345
    assert clock.now_ms() == begin + 10
    assert clock.wall_ms(begin + 20) == times.wall + 10


def test_an_upload_waits_for_the_disk_and_so_does_the_model_it_completes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go = threading.Event()
    flush = os.fdatasync

    def slow_flush(file: int) -> None:
        assert go.wait(60)
        flush(file)

    with Server(tmp_path / "s") as server:
        server.iterate(1)
        monkeypatch.setattr(os, "fdatasync", slow_flush)
        for fl_id in "ab":
            start = RequestFLJob(fl_name="x", fl_id=fl_id, data_size=1, timestamp="0")
            answer = server.job.handle(start, server.clock.now_ms())
            assert server.job.durable(answer.position) is None
        waiting = []
        for request in (upload("a", 2), upload("b", 2), RequestGetModel(iteration=2)):
            answer = server.job.handle(request, server.clock.now_ms())
            waiting.append(server.job.durable(answer.position))
        assert answer.response.retcode == 200
        assert all(future is not None and not future.done() for future in waiting)
        go.set()
        for future in waiting:
            assert future is not None
            future.result(60)


def test_the_folder_holds_one_iteration_of_uploads(tmp_path: Path) -> None:
    with Server(tmp_path / "s") as server:
        for iteration in range(1, 8):
            server.iterate(iteration)
    assert sorted(path.name[:4] for path in (tmp_path / "s").iterdir()) == ["jour", "lock", "rese", "snap"]
    size = sum(path.stat().st_size for path in (tmp_path / "s").glob("journal-*"))
    assert size < 3000


def test_an_iteration_whose_snapshot_was_not_written_is_reported_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise StorageError("no snapshot today")

    with Server(tmp_path / "s") as server:
        server.iterate(1)
        expected = model_bytes(server.coordinator)
        server.iterate(2)
    with monkeypatch.context() as patch, Server(tmp_path / "t") as server:
        patch.setattr("mindfl.server.storage.FolderStorage.save", fail)
        server.iterate(1)
        server.start("a")
        crashed = server.crash(tmp_path / f"crash {len(list(tmp_path.iterdir()))}")
    with Server(crashed) as server:
        assert [record.iteration for record in server.records] == [1]
        assert model_bytes(server.coordinator) == expected
        assert server.start("a").retcode == 300
        server.start("b")
        server.upload("a", 2)
        server.upload("b", 2)
    with Server(crashed) as server:
        assert (server.job.recovery.uploads, server.coordinator.iteration) == (0, 3)


def test_snapshots_that_fail_are_told_of_and_when_they_are_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise StorageError("no snapshot today")

    with Server(tmp_path / "s") as server:
        with monkeypatch.context() as patch:
            patch.setattr(FolderStorage, "save", fail)
            server.iterate(1)
            server.settle()
        server.iterate(2)
        server.settle()
    assert caplog.messages == [
        "no snapshot today [E-STORAGE]",
        f"{tmp_path / 's'} takes snapshots again, after 1 failure",
    ]


def test_a_job_is_closed_after_the_snapshot_that_is_being_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    began, closed = threading.Event(), threading.Event()
    save, close = FolderStorage.save, FolderStorage.close

    def slow_save(storage: FolderStorage, parts: Sequence[Buffer]) -> None:
        began.set()
        order.append("early" if closed.wait(0.3) else "in time")
        save(storage, parts)

    def noted_close(storage: FolderStorage) -> None:
        closed.set()
        close(storage)

    with Server(tmp_path) as server:
        monkeypatch.setattr(FolderStorage, "save", slow_save)
        monkeypatch.setattr(FolderStorage, "close", noted_close)
        server.iterate(1)
        assert began.wait(60)
    assert order == ["in time"]
    assert closed.is_set()


@pytest.mark.parametrize(
    ("config", "weights", "named"),
    [
        (replace(CONFIG, client_epoch_num=3), INITIAL, "client_epoch_num 1 -> 3"),
        (CONFIG, {**INITIAL, "fc.bias": np.full(20, 2, np.float32)}, "the initial model"),
        (CONFIG, {"fc.weight": np.ones((20, 30), np.float32)}, "the initial model"),
    ],
)
def test_a_folder_is_not_taken_for_another_jobs(
    tmp_path: Path, config: ServerConfig, weights: dict[str, Any], named: str
) -> None:
    with Server(tmp_path / "s") as server:
        server.iterate(1)
    with pytest.raises(StorageError, match=f"was begun differently: {named}$"):
        DurableJob(tmp_path / "s", config, weights, clock=Clock())
    Server(tmp_path / "s").job.close()


def test_a_second_server_on_the_folder_is_refused(tmp_path: Path) -> None:
    with Server(tmp_path / "s"), pytest.raises(StorageError, match=f"in use by the process {os.getpid()}"):
        Server(tmp_path / "s")


def test_a_damaged_or_missing_snapshot_is_named(tmp_path: Path) -> None:
    with Server(tmp_path / "s") as server:
        server.iterate(1)
    snapshot = tmp_path / "s" / "snapshot"
    content = snapshot.read_bytes()
    for broken in (b"", content[:5], content[:-1], content[:100] + b"?" + content[101:], content + b"0"):
        snapshot.write_bytes(broken)
        with pytest.raises(StorageError, match="snapshot is damaged or of another version"):
            Server(tmp_path / "s")
    snapshot.unlink()
    with pytest.raises(StorageError, match="snapshot is missing"):
        Server(tmp_path / "s")
    snapshot.write_bytes(content)
    Server(tmp_path / "s").job.close()


# Faults of real disks.


def mounted(folder: Path, options: str) -> Iterator[Path]:
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("mounting a small file system needs root")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    yield from mounted(tmp_path / "small", "size=256k")


@pytest.fixture
def read_only_disk(tmp_path: Path) -> Iterator[Path]:
    yield from mounted(tmp_path / "fixed", "ro")


def fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file:
        try:
            while file.write(bytes(512)):
                pass
        except OSError:
            pass


def test_a_full_disk_refuses_uploads_and_loses_none(small_disk: Path, tmp_path: Path) -> None:
    with Server(small_disk / "s") as server:
        server.iterate(1)
        for fl_id in "abc":
            server.start(fl_id)
        server.upload("a", 2)
        fill(small_disk / "filler")
        refused = server.upload("b", 2)
        assert refused.retcode == 300
        assert "its disk may be full" in refused.reason
        with_room = server.crash(tmp_path / "elsewhere")
        (small_disk / "filler").unlink()
        assert server.upload("b", 2).retcode == 200
        expected = model_bytes(server.coordinator)
        assert server.records[-1].uploads == 2
    with Server(with_room) as server:
        assert server.job.recovery.uploads == 1
        server.upload("b", 2)
        assert model_bytes(server.coordinator) == expected


def test_a_disk_filled_by_its_own_uploads_is_free_again_after_the_iteration(
    small_disk: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The end of the window and the snapshot need space too: space is set aside for them."""
    caplog.set_level(logging.WARNING)
    config = replace(CONFIG, start_fl_job_threshold=100, update_model_ratio=1.0)
    devices = [chr(ord("A") + index) for index in range(100)]
    times = Times()
    with Server(small_disk / "s", times, config) as server:
        for iteration in (1, 2, 3):
            refused = 0
            for fl_id in devices:
                if server.start(fl_id).retcode == 200:
                    refused += server.upload(fl_id, iteration).retcode == 300
            assert 0 < refused < 100
            times.pass_ms(6000)
            server.tick()
            assert server.coordinator.iteration == iteration + 1
            server.settle()
    with Server(small_disk / "s", times, config) as server:
        assert (server.coordinator.iteration, server.job.recovery.uploads) == (4, 0)


def test_the_snapshot_is_written_though_the_disk_has_become_full(small_disk: Path) -> None:
    filler = small_disk / "filler"
    with Server(small_disk / "s", on_iteration_end=lambda _: fill(filler)) as server:
        server.iterate(1)
        expected = model_bytes(server.coordinator)
        server.settle()
        crashed = server.folder
    with Server(crashed) as server:
        assert (server.coordinator.iteration, server.job.recovery.uploads) == (2, 0)
        assert model_bytes(server.coordinator) == expected
        fill(small_disk / "more")  # what the recovery has freed
        assert server.start("a" * 5000).retcode == 300  # more than is left of any block
        filler.unlink()
        server.iterate(2)


def test_a_new_job_on_a_full_disk_says_so(small_disk: Path) -> None:
    fill(small_disk / "filler")
    with pytest.raises(StorageError, match=r"(cannot|No space)") as caught:
        Server(small_disk / "s")
    assert "disk is full" in caught.value.line()


def test_a_read_only_folder_is_named(read_only_disk: Path) -> None:
    for folder in (read_only_disk, read_only_disk / "new"):
        with pytest.raises(StorageError, match="Read-only file system") as caught:
            Server(folder)
        assert str(folder) in str(caught.value)


# The bytes of events.

names = st.text(max_size=20)
times = st.integers(-(2**63), 2**63 - 1)
raw = st.binary(max_size=40)
shares = st.lists(st.builds(ClientShare, fl_id=names, share=raw, index=st.integers(0, 2**31 - 1)), max_size=4).map(
    tuple
)
published = st.builds(RequestExchangeKeys, fl_id=names, iteration=st.integers(0, 9), c_pk=raw, s_pk=raw, pw_salt=raw)
small_events = st.one_of(
    st.builds(Started, times, names, st.builds(Device, st.integers(1, 65535), st.integers(0, 2**31 - 1))),
    st.builds(WindowEnded, times, names),
    st.builds(CohortSet, times, st.integers(0, 2**32 - 1)),
    st.builds(Disabled, times),
    st.just(Enabled()),
    st.builds(Resumed, times),
    st.builds(KeysPublished, times, st.binary(min_size=16, max_size=16), published),
    st.builds(SharesDeposited, times, st.builds(RequestShareSecrets, fl_id=names, encrypted_shares=shares)),
    st.builds(SharesGiven, times, st.builds(GetShareSecrets, fl_id=names, iteration=st.integers(0, 9))),
    st.builds(SharesRevealed, times, st.builds(SendReconstructSecret, fl_id=names, reconstruct_secret_shares=shares)),
    st.builds(Renewed, times, names, st.builds(replace, st.just(CONFIG), fl_iteration_num=st.integers(1, 10**6))),
)
LENGTHS = {f"w{index:02}": index + 1 for index in range(11)}


@given(small_events)
def test_events_come_back_from_their_bytes(event: Any) -> None:
    codec = EventCodec(FeatureLayout(LENGTHS))
    kind, parts = codec.encode(event)
    assert codec.decode(kind, b"".join(parts)) == event


@pytest.mark.parametrize("fl_id", ["", "ü 状态", "half a pair \ud800", "\udfff"])
def test_any_text_is_kept_as_an_id(fl_id: str) -> None:
    codec = EventCodec(FeatureLayout(LENGTHS))
    started = Started(-1, fl_id, Device(1, 0))
    kind, parts = codec.encode(started)
    assert codec.decode(kind, b"".join(parts)) == started
    kind, parts = codec.encode(Uploaded(7, fl_id, UploadReport(0.5, 1.0), {"w03": np.arange(4, dtype=np.float32)}))
    back = codec.decode(kind, b"".join(parts))
    assert isinstance(back, Uploaded) and back.fl_id == fl_id and back.content["w03"].tolist() == [0, 1, 2, 3]


@given(times, names, st.floats(allow_nan=False), st.sets(st.sampled_from(sorted(LENGTHS)), min_size=1), st.randoms())
def test_uploads_come_back_from_their_bytes(now_ms: int, fl_id: str, loss: float, sent: set[str], order: Any) -> None:
    codec = EventCodec(FeatureLayout(LENGTHS))
    keys = order.sample(sorted(sent), len(sent))
    weights = {name: np.linspace(-1, len(keys), LENGTHS[name], dtype=np.float32) for name in keys}
    kind, parts = codec.encode(Uploaded(now_ms, fl_id, UploadReport(loss, -loss), weights))
    back = codec.decode(kind, b"".join(parts))
    assert isinstance(back, Uploaded)
    assert (back.now_ms, back.fl_id, back.upload) == (now_ms, fl_id, UploadReport(loss, -loss))
    assert {name: values.tobytes() for name, values in back.content.items()} == {
        name: values.tobytes() for name, values in weights.items()
    }


@given(times, names, st.integers(0, 2**64 - 1))
def test_words_come_back_from_their_bytes(now_ms: int, fl_id: str, first: int) -> None:
    layout = FeatureLayout(LENGTHS)
    codec = EventCodec(layout)
    words = np.arange(layout.size, dtype=np.uint64) * np.uint64(2**57) + np.uint64(first)
    kind, parts = codec.encode(UploadedWords(now_ms, fl_id, UploadReport(0.5, 0.25), words))
    back = codec.decode(kind, b"".join(parts))
    assert isinstance(back, UploadedWords)
    assert (back.now_ms, back.fl_id, back.upload) == (now_ms, fl_id, UploadReport(0.5, 0.25))
    assert np.array_equal(back.content, words)


@given(st.integers(0, 13), st.binary(max_size=60))
def test_foreign_bytes_are_no_event(kind: int, payload: bytes) -> None:
    with suppress(ValueError, LookupError, TypeError, struct.error, MindflError):
        EventCodec(FeatureLayout(LENGTHS)).decode(kind, payload)
