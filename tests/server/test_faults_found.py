"""What fuzzing found, each as an ordinary test."""

from __future__ import annotations

import io
import json
import struct
import warnings
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest

from mindfl.errors import ModelFormatError, StorageError
from mindfl.protocol import RequestFLJob, RequestUpdateModel, ResponseUpdateModel
from mindfl.server import Coordinator, ServerConfig
from mindfl.server.durable import DurableJob
from mindfl.server.events import Event, EventCodec, Started, Uploaded
from mindfl.server.initial import initial_weights
from mindfl.server.iteration import Clock, Device, UploadReport
from mindfl.server.journal import Journal
from mindfl.server.segment import HEADER_SIZE, Record
from mindfl.server.storage import StateFolder

INITIAL = {"w": np.ones((3, 4), np.float32)}
CONFIG = ServerConfig(fl_iteration_num=2, start_fl_job_threshold=2)


def npy(header: str, content: bytes = bytes(8)) -> bytes:
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header) + 1) + header.encode() + b"\n" + content


@pytest.mark.parametrize(
    "member",
    [
        pytest.param(npy("{'descr': '<f4', 'fortran_order': False, 'shape': (2,"), id="a header that does not end"),
        pytest.param(npy("{'descr': '<f4', 'fortran_order': False, 'shape': (10**30,)}"), id="a header that computes"),
        pytest.param(
            npy(f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({10**30},)}}"), id="more than an int64 can count"
        ),
        pytest.param(b"no array", id="a member that is no array"),
    ],
)
def test_an_archive_with_a_damaged_array_is_named(tmp_path: Path, member: bytes) -> None:
    path = tmp_path / "model.npz"
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("w.npy", member)
    path.write_bytes(file.getvalue())
    with pytest.raises(ModelFormatError, match=r"model\.npz"):
        initial_weights(path)


def test_a_plain_array_under_the_name_of_an_archive_is_named(tmp_path: Path) -> None:
    path = tmp_path / "model.npz"
    with path.open("wb") as file:
        np.save(file, np.ones(3, np.float32))
    with pytest.raises(ModelFormatError, match=r"model\.npz"):
        initial_weights(path)


@pytest.mark.parametrize(
    "change",
    [
        {"models": None},
        {"models": [5]},
        {"models": "x"},
        {"job": "zz"},
        {"begun_with": None},
        {"iteration": None},
        {"iteration": -1},
        {"iteration": 1.0},
        {"position": 1.5},
        {"position": 2**70},
        {"config": {"fl_iteration_num": "x"}},
    ],
    ids=str,
)
def test_a_snapshot_that_nobody_wrote_is_named_though_its_checksum_is_right(
    tmp_path: Path, change: dict[str, object]
) -> None:
    DurableJob(tmp_path / "s", CONFIG, INITIAL, clock=Clock()).close()
    path = tmp_path / "s" / "snapshot"
    content = path.read_bytes()
    (length,) = struct.unpack_from("<Q", content, 8)
    head = json.dumps({**json.loads(content[16 : 16 + length]), **change}).encode()
    body = content[:8] + struct.pack("<Q", len(head)) + head + content[16 + length : -4]
    path.write_bytes(body + struct.pack("<I", zlib.crc32(body)))
    with pytest.raises(StorageError) as caught:
        DurableJob(tmp_path / "s", CONFIG, INITIAL, clock=Clock())
    assert str(tmp_path / "s") in caught.value.line()


def journal_of(folder: Path, events: list[Event]) -> None:
    """Write a job's journal with these events, all of them flushed."""
    job = DurableJob(folder, CONFIG, INITIAL, clock=Clock())
    identity, codec = job.origin.job, EventCodec(job.coordinator.job.layout)
    job.close()
    for old in folder.glob("journal-*"):
        old.unlink()
    held = StateFolder(folder)
    journal = Journal(held, identity, 0, lambda *record: None)
    for event in events:
        future = journal.durable(journal.append(Record.of(*codec.encode(event))))
        assert future is None or future.result(60) is None
    journal.close()
    held.close()


STARTS: list[Event] = [Started(0, fl_id, Device(1, 0)) for fl_id in "ab"]
UPLOAD = Uploaded(0, "a", UploadReport(1.0, 0.5), {"w": np.ones(12, np.float32)})
NAN = Uploaded(0, "a", UploadReport(1.0, 0.5), {"w": np.full(12, np.nan, np.float32)})


def test_the_events_of_these_tests_can_be_replayed(tmp_path: Path) -> None:
    journal_of(tmp_path / "s", [*STARTS, UPLOAD])
    job = DurableJob(tmp_path / "s", CONFIG, INITIAL, clock=Clock())
    assert (job.coordinator.iteration, job.recovery.uploads) == (1, 1)
    job.close()


@pytest.mark.parametrize(
    ("events", "what"),
    [
        ([UPLOAD], "an upload of a, which did not start"),
        ([*STARTS, UPLOAD, UPLOAD], "two uploads of a in one iteration"),
        ([*STARTS, NAN], "an upload of a with NaN"),
    ],
)
def test_events_that_cannot_follow_one_another_are_a_fault_of_the_folder(
    tmp_path: Path, events: list[Event], what: str
) -> None:
    """The checksums are right; what they say cannot have happened, and must not be counted."""
    journal_of(tmp_path / "s", events)
    with pytest.raises(StorageError, match=f"does not go with its snapshot: {what}"):
        DurableJob(tmp_path / "s", CONFIG, INITIAL, clock=Clock())


def test_a_record_that_is_gone_without_a_trace_is_noticed(tmp_path: Path) -> None:
    """The notes about what was flushed speak of more than there is."""
    journal_of(tmp_path / "s", [*STARTS, UPLOAD])
    (path,) = (tmp_path / "s").glob("journal-*")
    content = path.read_bytes()
    salt = content[HEADER_SIZE - 12 : HEADER_SIZE - 4]
    second = content.index(salt, HEADER_SIZE + 1)
    path.write_bytes(content[:HEADER_SIZE] + content[second:])
    with pytest.raises(StorageError, match="is damaged at byte"):
        DurableJob(tmp_path / "s", CONFIG, INITIAL, clock=Clock())


def test_a_signalling_nan_is_refused_without_a_warning() -> None:
    job = Coordinator(CONFIG, INITIAL)
    job.handle(RequestFLJob(fl_name="x", fl_id="a", data_size=1, timestamp="0"), 0)
    values = np.full(12, 0x7F800001, np.uint32).view(np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        answer = job.handle(RequestUpdateModel(fl_id="a", iteration=1, feature_map={"w": values}, timestamp="0"), 0)
    assert isinstance(answer, ResponseUpdateModel) and answer.retcode == 400
