"""The page of a sweep: its runs as they are listed, their values, and a page for each of them."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from stand_in_sweeps import StandInSweep

from mindfl.live.page_service import PageService
from mindfl.live.readers import SweepReader
from mindfl.live.sweep_follower import SweepFollower
from mindfl.live.watching import address, listening_on

NAMES = ["learning_rate=0.01", "learning_rate=0.1"]


def told(follower: SweepFollower, reader: SweepReader) -> list[tuple[str, Any]]:
    follower.poll()
    found = []
    while events := reader.events(follower):
        for event in b"".join(events).decode().split("\n\n")[:-1]:
            kind, data = event.split("\n")
            found.append((kind.removeprefix("event: "), json.loads(data.removeprefix("data: "))))
    return found


@pytest.fixture
def sweep(tmp_path: Path) -> StandInSweep:
    return StandInSweep(tmp_path / "a swéep", (0.01, 0.1), lives=True)


def test_a_sweep_grows(sweep: StandInSweep) -> None:
    follower, reader = SweepFollower(sweep.folder), SweepReader()
    (_, _), (kind, header) = told(follower, reader)
    assert kind == "sweep" and header["state"] == "training" and header["problems"] == []
    assert [(run["name"], run["status"], run["iterations"]) for run in header["runs"]] == [
        (name, "waiting", 20) for name in NAMES
    ]
    assert header["runs"][1]["varies"] == {"learning_rate": "0.1"}

    second = sweep.runs[NAMES[1]].begin()
    sweep.note(NAMES[1], status="running")
    rows = [second.round(), second.round(avg=None)]
    (_, header), (kind, points) = told(follower, reader)
    assert header["runs"][1]["status"] == "running"
    assert (kind, points) == ("points", {"run": 1, "points": [[1, rows[0].avg], [2, None]]})

    rows.append(second.round())
    sweep.note(NAMES[0], status="failed", error="no <b>memory</b>")
    (_, header), (_, points) = told(follower, reader)
    assert header["runs"][0]["error"] == "no <b>memory</b>"
    assert points == {"run": 1, "points": [[3, rows[2].avg]]}
    assert told(follower, reader) == []

    shutil.rmtree(second.folder)  # --overwrite begins it anew
    second.folder.mkdir()
    second.begin()
    assert [kind for kind, _ in told(follower, reader)] == ["begin", "sweep"]


@pytest.mark.parametrize(
    ("statuses", "alive", "state", "first"),
    [
        (("done", "failed"), False, "ended", "done"),
        (("running", "waiting"), False, "stopped", "stopped"),
        (("running", "waiting"), True, "training", "running"),
    ],
)
def test_the_state_of_a_sweep(tmp_path: Path, statuses: tuple[str, str], alive: bool, state: str, first: str) -> None:
    sweep = StandInSweep(tmp_path / "sweep", (0.01, 0.1), lives=alive)
    for name, status in zip(NAMES, statuses, strict=True):
        sweep.note(name, status=status)
    follower = SweepFollower(sweep.folder)
    follower.poll()
    assert (follower.header["state"], follower.header["runs"][0]["status"]) == (state, first)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '{"runs": 3}',
        '{"runs": [3, {}, {"folder": "../other"}, {"folder": "/etc"}, {"folder": "a\\u0000"}]}',
        '{"runs": [{"folder": ""}, {"folder": "."}, {"folder": "link"}]}',
        "[" * 100_000,
    ],
)
def test_hostile_lists_lead_nowhere(tmp_path: Path, text: str) -> None:
    (tmp_path / "other").mkdir()
    folder = tmp_path / "sweep"
    folder.mkdir()
    (folder / "link").symlink_to(tmp_path / "other")
    (folder / "sweep.json").write_text(text)
    follower = SweepFollower(folder)
    follower.poll()
    assert follower.header["runs"] == [] and follower.run_folder(0) is None
    assert (text == '{"runs": 3}') or len(follower.header["problems"]) == 1


def test_each_run_has_a_page(sweep: StandInSweep) -> None:
    run = sweep.runs[NAMES[0]].begin()
    row = run.round()
    run.log(2, "hello\n")

    async def answers() -> list[Any]:
        service, listening = PageService(sweep.folder), listening_on(0)
        url = address(listening)
        await service.start(listening)
        found: list[Any] = []
        try:
            async with aiohttp.ClientSession() as session:
                for path in ("", "runs/0/", "runs/0/style.css", "runs/0/logs/2", "runs/2/", "logs/2", "runs/0"):
                    async with session.get(url + path) as answer:
                        found.append((answer.status, await answer.text()))
                async with session.get(url + "runs/0/events") as answer:
                    async for line in answer.content:
                        if line.startswith(b"data: ") and b'"avg"' in line:
                            found.append(json.loads(line[6:])["avg"])
                            break
        finally:
            await service.stop()
        return found

    root, page, style, log, *refused, avg = asyncio.run(asyncio.wait_for(answers(), 60))
    assert root[0] == page[0] == style[0] == log[0] == 200
    assert '<h2 id="runs-heading"' in root[1] and '<h2 id="rounds-heading"' in page[1]
    assert json.loads(log[1])["text"] == "hello\n"
    assert [status for status, _ in refused] == [404] * 3
    assert avg == row.avg


def test_a_folder_becomes_that_of_a_sweep_and_then_of_a_run(tmp_path: Path) -> None:
    folder = tmp_path / "later"
    folder.mkdir()

    async def kinds(session: aiohttp.ClientSession, url: str, kind: str, change: Callable[[], object]) -> list[str]:
        """Return the events that a page of this kind gets; the folder changes when it has its first header."""
        found: list[str] = []
        async with session.get(f"{url}events?kind={kind}") as answer:
            async for line in answer.content:
                if line.startswith(b"event: "):
                    found.append(line[7:].decode().strip())
                    if found[-1] == kind:
                        change()
        return found

    async def answers() -> list[Any]:
        service, listening = PageService(folder), listening_on(0)
        url = address(listening)
        await service.start(listening)
        try:
            async with aiohttp.ClientSession() as session:
                sweep = await kinds(session, url, "run", lambda: StandInSweep(folder, (0.01,)))
                late = await kinds(session, url, "run", lambda: None)
                async with session.get(url) as answer:
                    page = await answer.text()
                run = await kinds(session, url, "sweep", lambda: (folder / "config.json").write_text("{}"))
        finally:
            await service.stop()
        return [sweep, late, "runs-heading" in page, run]

    found = asyncio.run(asyncio.wait_for(answers(), 60))
    assert found == [["begin", "run", "timeline", "other"], ["other"], True, ["begin", "sweep", "other"]]
