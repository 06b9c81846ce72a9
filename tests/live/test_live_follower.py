"""What the live page is told of a run folder: once, in order, and of the run that is there."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from stand_in_runs import StandInRun

from mindfl.live.readers import RunReader
from mindfl.live.run_follower import LOG_BYTES, ROUNDS_KEPT, RunFollower


def told(follower: RunFollower, reader: RunReader) -> list[tuple[str, str, Any]]:
    """Return (kind, id, value) of the events that bring ``reader`` up to date."""
    follower.poll()
    found = []
    while events := reader.events(follower):
        for event in b"".join(events).decode().split("\n\n")[:-1]:
            fields = dict(line.split(": ", 1) for line in event.split("\n"))
            found.append((fields["event"], fields.get("id", ""), json.loads(fields["data"])))
    return found


def rounds(events: list[tuple[str, str, Any]]) -> list[int]:
    return [value["iteration"] for kind, _, value in events if kind == "row"]


def test_a_reader_gets_each_round_once_and_the_history_to_the_last_digit(tmp_path: Path) -> None:
    run = StandInRun(tmp_path / "läuft hier", clients=7, drawn=3).begin()
    written = [run.round() for _ in range(40)]
    follower, reader = RunFollower(run.folder), RunReader()
    first = told(follower, reader)
    assert [kind for kind, _, _ in first[:2]] == ["begin", "run"]
    assert rounds(first) == list(range(1, 41))
    written.append(run.round())
    rows = [value for kind, _, value in [*first, *told(follower, reader)] if kind == "row"]
    names: list[str] = []
    for row, wanted in zip(rows, written, strict=True):
        names[row["first_name"] :] = row["names"] or names[row["first_name"] :]
        who = range(len(row["values"])) if row["who"] is None else row["who"]
        assert {names[client]: value for client, value in zip(who, row["values"], strict=True)} == wanted.accuracies
        assert tuple(row["participants"]) == wanted.participants
        assert (row["avg"], row["loss"], row["bytes_up"]) == (wanted.avg, wanted.loss, wanted.bytes_up)
        assert row["epsilon"] is None
    assert told(follower, reader) == []


def test_a_lost_connection_goes_on_where_it_was(tmp_path: Path) -> None:
    run = StandInRun(tmp_path).begin()
    for _ in range(5):
        run.round()
    follower = RunFollower(tmp_path)
    last_id = [number for kind, number, _ in told(follower, RunReader()) if kind == "row"][2]
    assert rounds(told(follower, RunReader(last_id))) == [4, 5]
    for strange in ("another:2", "2", ":", "x:y", f"{last_id}9999", "é:٣"):
        assert rounds(told(follower, RunReader(strange))) == [1, 2, 3, 4, 5], strange


def test_half_a_line_waits_for_its_rest(tmp_path: Path) -> None:
    run = StandInRun(tmp_path).begin()
    run.round()
    follower, reader = RunFollower(tmp_path), RunReader()
    told(follower, reader)
    whole = run.files.jsonl.read_bytes().replace(b'"iteration": 1', b'"iteration": 2')
    with run.files.jsonl.open("ab", buffering=0) as file:
        file.write(whole[:100])
        assert told(follower, reader) == []
        file.write(whole[100:])
    assert rounds(told(follower, reader)) == [2]


@pytest.mark.parametrize("how", ["overwrite", "shortened in place", "removed", "written over in place"])
def test_a_run_that_replaces_another_is_shown_from_its_beginning(tmp_path: Path, how: str) -> None:
    folder = tmp_path / "run"
    run = StandInRun(folder, clients=3).begin()
    for _ in range(3):
        run.round()
    follower, reader = RunFollower(folder), RunReader()
    assert rounds(told(follower, reader)) == [1, 2, 3]
    if how == "overwrite":
        other = StandInRun(folder, clients=4).begin()
        other.round()
    elif how == "shortened in place":
        content = run.files.jsonl.read_bytes()
        os.truncate(run.files.jsonl, content.index(b"\n") + 1)
    elif how == "removed":
        run.files.jsonl.unlink()
    else:
        content = run.files.jsonl.read_bytes()
        with run.files.jsonl.open("r+b") as file:
            file.write(content.replace(b"writer", b"WRITER"))
        os.utime(run.files.jsonl, ns=(1, 1))
    again = told(follower, reader)
    assert again[0][0] == "begin"
    assert rounds(again) == {"overwrite": [1], "shortened in place": [1], "removed": []}.get(how, [1, 2, 3])


@pytest.mark.parametrize(
    ("lives", "ends", "state"),
    [(True, False, "training"), (False, False, "stopped"), (False, True, "ended")],
    ids=["training", "stopped", "ended"],
)
def test_the_state_of_a_run(tmp_path: Path, lives: bool, ends: bool, state: str) -> None:
    run = StandInRun(tmp_path / "run").begin(lives=lives)
    if ends:
        run.end()
    follower = RunFollower(run.folder)
    follower.poll()
    assert follower.header["state"] == state


def test_a_run_that_was_interrupted_has_stopped_before_its_end(tmp_path: Path) -> None:
    """Ctrl-C, and an error of a client, leave a whole folder with fewer rounds than were asked for."""
    run = StandInRun(tmp_path / "run").begin()
    run.round()
    run.end(asked=20)
    follower = RunFollower(run.folder)
    follower.poll()
    assert follower.header["state"] == "stopped"
    card = run.folder / "result.json"
    card.write_text(json.dumps({**json.loads(card.read_text()), "stopped": "EarlyStopping"}))
    follower.poll()
    assert follower.header["state"] == "ended"


def test_a_job_that_failed_has_stopped_though_its_process_lives(tmp_path: Path) -> None:
    run = StandInRun(tmp_path / "run").begin(lives=True)
    follower = RunFollower(run.folder)
    assert run.lock is not None
    run.lock.close()  # an exception in a notebook
    follower.poll()
    assert follower.header["state"] == "stopped"


def test_a_folder_without_a_run_and_one_that_goes(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    follower, reader = RunFollower(folder), RunReader()
    (state,) = [value["state"] for kind, _, value in told(follower, reader) if kind == "run"]
    assert state == "waiting"
    folder.rmdir()
    assert [value["state"] for kind, _, value in told(follower, reader) if kind == "run"] == ["missing"]


def test_lines_that_are_no_rounds_are_left_out_and_counted(tmp_path: Path) -> None:
    run = StandInRun(tmp_path, clients=2).begin()
    run.round()
    bad = ["", "[]", "nonsense", '{"avg": 1}', '{"iteration": 3, "accuracies": {"a": "<b>"}}', "[" * 100_000]
    bad += [
        '{"iteration": 3, "participants": ["x"]}',
        '{"iteration": -1}',
        '{"iteration": true}',
    ]
    good = [
        '{"iteration": 2, "loss": NaN, "avg": Infinity}',
        '{"iteration": 4, "accuracies": {"</script>\\u2028": 0.5}}',
    ]
    with run.files.jsonl.open("a") as file:
        file.write("\n".join([*bad, *good]) + "\n")
    follower = RunFollower(tmp_path)
    events = told(follower, RunReader())
    assert rounds(events) == [1, 2, 4]
    assert [value["problems"] for kind, _, value in events if kind == "run"] == [
        [f"history.jsonl: {len(bad)} lines are no history entry, left out"]
    ]
    third = [value for kind, _, value in events if kind == "row"][1]
    assert (third["loss"], third["avg"]) == (None, None)


def test_the_timeline_keeps_the_latest_rounds(tmp_path: Path) -> None:
    StandInRun(tmp_path).begin()
    entry = {"seconds": 0.5, "uploads": 2, "clients": 4, "loss": 1.0}
    path = tmp_path / "timeline.jsonl"
    path.write_text("".join(json.dumps({"iteration": number, **entry}) + "\n" for number in range(1, 100)) + "null\n")
    follower, reader = RunFollower(tmp_path), RunReader()
    (first,) = [value for kind, _, value in told(follower, reader) if kind == "timeline"]
    assert first["begins"] and [each["iteration"] for each in first["entries"]] == list(range(100 - ROUNDS_KEPT, 100))
    with path.open("a") as file:
        file.write(json.dumps({"iteration": 100, **entry}) + "\n")
    ((_, _, more),) = told(follower, reader)
    assert more == {"begins": False, "entries": [{"iteration": 100, **entry}]}


def test_the_end_of_a_log(tmp_path: Path) -> None:
    run = StandInRun(tmp_path / "run").begin()
    lines = "".join(f"line {number} é\n" for number in range(20_000))
    run.log(3, lines)
    follower = RunFollower(run.folder)
    text, size = follower.log(3) or ("", 0)
    assert size == len(lines.encode()) and LOG_BYTES - 40 < len(text.encode()) <= LOG_BYTES
    assert lines.endswith(text) and text.startswith("line ")
    assert follower.log(4) is None


def test_a_log_outside_the_folder_is_not_shown(tmp_path: Path) -> None:
    run = StandInRun(tmp_path / "run").begin()
    (tmp_path / "client.log").write_text("secret")
    (run.folder / "client_1").symlink_to(tmp_path)
    (run.folder / "client_2").mkdir()
    (run.folder / "client_2" / "client.log").symlink_to(tmp_path / "client.log")
    follower = RunFollower(run.folder)
    assert follower.log(1) is None and follower.log(2) is None


def test_hostile_files_reach_the_page_as_json_that_a_browser_reads(tmp_path: Path) -> None:
    run = StandInRun(tmp_path, clients=2).begin()
    with run.files.jsonl.open("a") as file:
        file.write('{"iteration": 1, "avg": 1e999, "accuracies": {"a": -1e999}, "metrics": {"x": 1e999, "y": 1}}\n')
    entries = ['"seconds": 1e999, "uploads": 1', '"seconds": 1, "uploads": "<b>"', '"seconds": 1, "uploads": 1']
    rest = f', "clients": 1, "loss": 1e999, "x": {"[" * 900}{"]" * 900}}}\n'
    (tmp_path / "timeline.jsonl").write_text("".join(f'{{"iteration": 1, {entry}{rest}' for entry in entries))
    settings = '{"settings": {"iterations": 1e999}, "data": {"users": "<b>"}, "began": 1e999, "ended": [[]]}'
    (tmp_path / "config.json").write_text(settings)
    (tmp_path / "result.json").write_bytes(b"\xff{")
    follower, reader = RunFollower(tmp_path), RunReader()
    follower.poll()

    def refused(name: str) -> Any:
        raise ValueError(f"no browser reads {name}")

    data = [event.split(b"data: ")[1] for event in reader.events(follower)]
    _, header, row, timeline = (json.loads(each, parse_constant=refused) for each in data)
    assert (row["avg"], row["values"], row["metrics"]) == (None, [None], {"y": 1})
    assert timeline["entries"] == [{"iteration": 1, "seconds": 1, "uploads": 1, "clients": 1, "loss": None}]
    assert [header[name] for name in ("iterations", "clients", "began", "ended")] == [None] * 4
    assert header["problems"] == [
        "result.json is damaged: it holds no JSON object",
        "timeline.jsonl: 2 lines are no entry of a timeline, left out",
    ]


def test_pipes_and_links_that_lead_nowhere_hold_up_nothing(tmp_path: Path) -> None:
    (tmp_path / "client_0").mkdir()
    (tmp_path / "client_1").symlink_to("client_1")
    for name in ("config.json", "clients.csv", "client_0/client.log"):
        os.mkfifo(tmp_path / name)
    follower = RunFollower(tmp_path)
    follower.poll()
    assert follower.header["problems"] == ["config.json is damaged: it holds no JSON object"]
    assert follower.log(0) is None and follower.log(1) is None


def test_a_round_that_cannot_be_read_is_told_and_read_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    StandInRun(tmp_path).begin().round()
    follower = RunFollower(tmp_path)
    follower.poll()
    reader = RunReader()

    def denied(offset: int) -> bytes:
        raise PermissionError(13, "Permission denied", "history.jsonl")

    with monkeypatch.context() as patch:
        patch.setattr(follower._history, "at", denied)
        assert rounds(told(follower, reader)) == []
        follower.poll()
    assert follower.header["problems"] == ["history.jsonl: Permission denied"]
    assert rounds(told(follower, reader)) == [1]
    follower.poll()
    assert follower.header["problems"] == []
