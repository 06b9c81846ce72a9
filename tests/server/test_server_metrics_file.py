"""The metrics and failure-event files: the reference's lines, and disks that fail."""

from __future__ import annotations

import errno
import json
import os
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mindfl.errors import StorageError
from mindfl.server import IterationRecord, Visits
from mindfl.server.summary_files import FailureEventFile, LineFile, MetricsFile

GOLDEN = Path(__file__).parents[1] / "golden" / "wire" / "metrics_plain.json"
START = 1_795_333_460_108


def record(**changes: Any) -> IterationRecord:
    values: dict[str, Any] = {
        "iteration": 1,
        "valid": True,
        "reason": "",
        "model": {},
        "loss": 4.1216664,
        "accuracy": 0.75,
        "started": 2,
        "uploads": 2,
        "data_size": 96,
        "eval_data_size": 10,
        "start_ms": START,
        "end_ms": START + 1047,
        "visits": {"startFLJob": Visits(2, 0), "updateModel": Visits(2, 0), "getModel": Visits(0, 2)},
        "refusals": {},
        "durations_ms": (900, 1000),
    }
    return IterationRecord(**values | changes)


def metrics(path: Path, **changes: Any) -> MetricsFile:
    values: dict[str, Any] = {"fl_name": "Lenet", "fl_iteration_num": 2, "instance_name": "i_1", "time_level": "5,15"}
    return MetricsFile(path, **values | changes)


def milliseconds(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1000)


def test_a_line_is_the_references_byte_for_byte(tmp_path: Path) -> None:
    for number, line in enumerate(GOLDEN.read_text().splitlines()):
        expected = json.loads(line)
        visited = expected["clientVisitedInfo"]
        file = metrics(tmp_path / f"{number}.json", instance_name=expected["instanceName"])
        file(
            record(
                iteration=expected["currentIteration"],
                loss=expected["metricsLoss"],
                accuracy=expected["metricsAuc"],
                durations_ms=(900,) * visited["updateModelAcceptClientNum"],
                start_ms=milliseconds(expected["startTime"]),
                end_ms=milliseconds(expected["endTime"]),
                visits={
                    name: Visits(visited[f"{name}AcceptClientNum"], visited[f"{name}RejectClientNum"])
                    for name in ("startFLJob", "updateModel", "getModel")
                },
            )
        )
        assert (tmp_path / f"{number}.json").read_text() == line + "\n"


def test_numbers_are_the_shortest_form_of_their_float32(tmp_path: Path) -> None:
    file = metrics(tmp_path / "m.json")
    line = file.line(record(loss=float(np.float32(0.1)), accuracy=1 / 3))
    assert (json.dumps(line["metricsLoss"]), json.dumps(line["metricsAuc"])) == ("0.1", "0.33333334")


def test_a_failed_iteration_without_any_client(tmp_path: Path) -> None:
    line = metrics(tmp_path / "m.json").line(
        record(valid=False, start_ms=None, uploads=0, durations_ms=(), visits={}), instance_status="disable"
    )
    assert (line["iterationResult"], line["instanceStatus"], line["iterationExecutionTime"]) == ("fail", "disable", 0)
    assert line["startTime"] == line["endTime"]
    assert set(line["clientVisitedInfo"].values()) == {0}


def test_the_instance_is_that_of_the_iteration(tmp_path: Path) -> None:
    """Which may have ended in a server that was killed before it could say so."""
    file = metrics(tmp_path / "m.json", instance_name="of the process")
    assert file.line(record(instance="before"))["instanceName"] == "before"
    assert file.line(record())["instanceName"] == "of the process"


@pytest.mark.parametrize(
    ("durations_ms", "expected"),
    [
        ((), (0, 0, 0)),
        ((59_999,), (1, 1, 1)),
        ((60_000,), (0, 1, 1)),
        ((119_999,), (0, 1, 1)),
        ((120_000,), (0, 0, 1)),
        # Those of a run of the real server with these limits, which counted just so.
        ((5_000, 70_000, 132_000), (1, 2, 3)),
    ],
)
def test_participation_levels_are_minutes(tmp_path: Path, durations_ms: Any, expected: tuple[int, ...]) -> None:
    file = metrics(tmp_path / "m.json", time_level="1,2")
    info = file.line(record(durations_ms=durations_ms))["clientVisitedInfo"]
    assert tuple(info[f"participationTimeLevel{level}"] for level in (1, 2, 3)) == expected


def test_lines_are_added_to_what_is_there_and_folders_are_made(tmp_path: Path) -> None:
    path = tmp_path / "ä b" / "metrics.json"
    metrics(path)(record())
    metrics(path, fl_name="Ä")(record(iteration=2))
    first, second = map(json.loads, path.read_text().splitlines())
    assert (first["currentIteration"], second["currentIteration"], second["flName"]) == (1, 2, "Ä")


def test_after_a_torn_line_the_next_one_stands_alone(tmp_path: Path) -> None:
    path = tmp_path / "m.json"
    path.write_text('{"currentIteration":1}\n{"curr')
    metrics(path)(record(iteration=3))
    assert json.loads(path.read_text().splitlines()[-1])["currentIteration"] == 3
    assert path.read_text().startswith('{"currentIteration":1}\n')


def test_a_full_disk_leaves_whole_lines_and_later_ones_are_written(tmp_path: Path) -> None:
    path = tmp_path / "m.json"
    file = metrics(path)
    file(record())
    before = path.read_bytes()
    with pytest.MonkeyPatch.context() as patch:
        original = os.write

        def write(descriptor: int, content: bytes) -> int:
            if content.startswith(b"{"):
                return original(descriptor, content[:100])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        patch.setattr(os, "write", write)
        with pytest.raises(StorageError, match=r"cannot write .*m\.json: No space left"):
            file(record(iteration=2))
    assert path.read_bytes() == before
    file(record(iteration=3))
    assert [json.loads(line)["currentIteration"] for line in path.read_text().splitlines()] == [1, 3]


def test_an_unusable_path_is_known_at_once(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "file" / "m.json"):
        (tmp_path / "file").touch()
        with pytest.raises(StorageError):
            LineFile(path)


def test_failures_in_a_row_are_told_and_counted_anew(tmp_path: Path) -> None:
    path = tmp_path / "event.txt"
    file = FailureEventFile(path, address="127.0.0.1:6668", failure_times=3)
    assert path.read_text() == ""
    for valid in [False, False, True, False, False, False, False, False, False, False]:
        file(record(valid=valid))
    time = datetime.fromtimestamp((START + 1047) / 1000).isoformat(" ", "milliseconds")
    line = f"nodeRole:SERVER,127.0.0.1:6668,currentTime:{time},event:Iteration failed 3 times continuously;\n"
    assert path.read_text() == line * 2
