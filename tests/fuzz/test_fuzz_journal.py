"""State folders, damaged: the job continues with a state that it once had, or the folder is refused."""

from __future__ import annotations

import json
import struct
import tempfile
import threading
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from fuzz_budget import fuzz
from fuzz_mutations import changed
from hypothesis import given
from hypothesis import strategies as st

from mindfl.errors import StorageError
from mindfl.protocol import Request, RequestFLJob, RequestGetModel, RequestUpdateModel
from mindfl.server import Coordinator, ServerConfig
from mindfl.server.durable import DurableJob
from mindfl.server.iteration import Clock
from mindfl.server.segment import HEAD_SIZE, HEADER_SIZE, Record, Segment
from mindfl.server.snapshot import MAGIC

INITIAL = {"fc.weight": np.ones((3, 4), np.float32), "fc.bias": np.zeros(2, np.float32)}
CONFIG = ServerConfig(fl_iteration_num=5, start_fl_job_threshold=3, update_model_ratio=0.6)
SNAPSHOT = "snapshot"
_PREFIX = "journal-"

#: iteration, who started and uploaded in it, and the model so far
State = tuple[int, tuple[str, ...], tuple[str, ...], bytes]
Files = dict[str, bytes]


def _state(coordinator: Coordinator) -> State:
    current = coordinator.job.current
    model = b"".join(values.tobytes() for _, values in sorted(coordinator.model.items()))
    return coordinator.iteration, tuple(sorted(current.started)), tuple(sorted(current.uploaded)), model


def _requests() -> list[Request]:
    """Return those of two iterations and a half."""
    requests: list[Request] = []
    for iteration in (1, 2, 3):
        for fl_id in "abc":
            requests.append(RequestFLJob(fl_name="x", fl_id=fl_id, data_size=ord(fl_id), timestamp="0"))
        for fl_id in "ab" if iteration < 3 else "c":
            values = np.random.default_rng((ord(fl_id), iteration)).normal(0, 9, 14).astype(np.float32)
            weights = {"fc.weight": values[:12], "fc.bias": values[12:]}
            requests.append(RequestUpdateModel(fl_id=fl_id, iteration=iteration, feature_map=weights, timestamp="0"))
    return requests


def _seed() -> tuple[Files, list[State]]:
    """Return a folder as a kill leaves it, and every state that its job had.

    The first snapshot is still there, and a journal of three files after it: snapshots are held back until the end.
    """
    with tempfile.TemporaryDirectory() as folder:
        clock = Clock()
        job = DurableJob(folder, CONFIG, INITIAL, clock=clock)
        hold = threading.Event()
        job._saver.submit(hold.wait)
        states = [_state(job.coordinator)]
        for request in _requests():
            _, position = job.handle(request, clock.now_ms())
            durable = job.durable(position)
            if durable:
                durable.result(60)
            states.append(_state(job.coordinator))
        files = {path.name: path.read_bytes() for path in Path(folder).iterdir()}
        hold.set()
        job.close()
    return files, states


SEED, STATES = _seed()
KEPT = {name: content for name, content in SEED.items() if name.startswith((_PREFIX, SNAPSHOT))}


def _open(files: Files) -> State | None:
    """Return the state that a server continues with, after some more requests; None where it refuses the folder."""
    with tempfile.TemporaryDirectory() as folder:
        for name, content in files.items():
            Path(folder, name).write_bytes(content)
        clock = Clock()
        try:
            job = DurableJob(folder, CONFIG, INITIAL, clock=clock)
        except StorageError as error:
            assert "\n" not in error.line()
            return None
        try:
            state = _state(job.coordinator)
            for request in (_requests()[0], RequestGetModel(iteration=0)):
                job.handle(request, clock.now_ms())
        finally:
            job.close()
        return state


def test_the_seed_is_read() -> None:
    assert len([name for name in KEPT if name.startswith(_PREFIX)]) == 3
    assert _open(KEPT) == STATES[-1]


@fuzz(100)
@given(data=st.data())
def test_damaged_files(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(KEPT)))
    assert _open({**KEPT, name: data.draw(changed(KEPT[name], most=3))}) in (None, *STATES)


@fuzz(30)
@given(names=st.sets(st.sampled_from(sorted(KEPT)), min_size=1), swapped=st.booleans())
def test_missing_and_swapped_files(names: set[str], swapped: bool) -> None:
    if swapped:
        order = sorted(names)
        files = {**KEPT, **dict(zip(order, [KEPT[name] for name in order[1:] + order[:1]], strict=True))}
    else:
        files = {name: content for name, content in KEPT.items() if name not in names}
    assert _open(files) in (None, *STATES)


def _parse(content: bytes) -> tuple[bytes, list[tuple[int, bytes]]]:
    """Return the salt of a journal's file, and its records as (kind, payload)."""
    salt = content[HEADER_SIZE - 12 : HEADER_SIZE - 4]
    records, at = [], HEADER_SIZE
    while at < len(content):
        length, kind = struct.unpack_from("<QB", content, at + 8)
        records.append((kind, content[at + HEAD_SIZE : at + HEAD_SIZE + length]))
        at += HEAD_SIZE + length
    return salt, records


def _build(content: bytes, records: list[tuple[int, bytes]]) -> bytes:
    """Return the file with other records, all their checksums right."""
    segment = Segment(Path(), 0, _parse(content)[0])
    parts = [content[:HEADER_SIZE]]
    for kind, payload in records:
        parts += [segment.head(Record.of(kind, [payload])), payload]
    return b"".join(parts)


def test_a_file_is_rebuilt_as_it_was() -> None:
    for name, content in KEPT.items():
        if name.startswith(_PREFIX):
            assert _build(content, _parse(content)[1]) == content


@fuzz(120)
@given(data=st.data())
def test_records_that_nobody_wrote_with_checksums_that_are_right(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(name for name in KEPT if name.startswith(_PREFIX))))
    records = _parse(KEPT[name])[1]
    at = data.draw(st.integers(0, len(records) - 1))
    kind, payload = records[at]
    match data.draw(st.sampled_from(["payload", "payload", "payload", "kind", "gone", "twice", "moved"])):
        case "payload":
            records[at] = kind, data.draw(changed(payload)) if payload else b"x"
        case "kind":
            records[at] = data.draw(st.integers(0, 9) | st.sampled_from([254, 255])), payload
        case "gone":
            del records[at]
        case "twice":
            records.insert(at, records[at])
        case "moved":
            records.append(records.pop(at))
    _open({**KEPT, name: _build(KEPT[name], records)})


_BEGIN = len(MAGIC) + 8
_LENGTH = struct.unpack_from("<Q", SEED[SNAPSHOT], len(MAGIC))[0]
_HEAD: dict[str, Any] = json.loads(SEED[SNAPSHOT][_BEGIN : _BEGIN + _LENGTH])
_ODD = st.sampled_from([None, True, -1, 0, 1.5, 2**70, "", "zz", "\ud800", [], [0, 0], [7], ["x"], {}, {"a": 1}])


def _snapshot(head: bytes, models: bytes) -> bytes:
    body = MAGIC + struct.pack("<Q", len(head)) + head + models
    return body + struct.pack("<I", zlib.crc32(body))


@fuzz(80)
@given(data=st.data())
def test_snapshots_that_nobody_wrote_with_a_checksum_that_is_right(data: st.DataObject) -> None:
    head, models = dict(_HEAD), SEED[SNAPSHOT][_BEGIN + _LENGTH : -4]
    key = data.draw(st.sampled_from(sorted(head)))
    match data.draw(st.sampled_from(["value", "value", "gone", "text", "models", "length"])):
        case "value":
            head[key] = data.draw(_ODD)
        case "gone":
            del head[key]
        case "models":
            models = data.draw(changed(models))
        case "text":
            _open({**KEPT, SNAPSHOT: _snapshot(data.draw(changed(json.dumps(head).encode())), models)})
            return
        case "length":
            body = MAGIC + struct.pack("<Q", data.draw(st.integers(0, 2**64 - 1))) + models
            _open({**KEPT, SNAPSHOT: body + struct.pack("<I", zlib.crc32(body))})
            return
    _open({**KEPT, SNAPSHOT: _snapshot(json.dumps(head).encode(), models)})
