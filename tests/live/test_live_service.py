"""The live page's HTTP service: what it answers, to whom, and with which headers."""

from __future__ import annotations

import asyncio
import hashlib
import json
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from stand_in_runs import StandInRun

import mindfl.live.page_service as page_service
from mindfl.errors import OptionError
from mindfl.live.page_service import HEADERS, PageService
from mindfl.live.watching import address, listening_on, watch

PAGE = Path(page_service.__file__).parent / "page"
Use = Callable[[aiohttp.ClientSession, str], Awaitable[Any]]


def served(folder: Path, use: Use) -> Any:
    """Return what ``use`` returns, given a session and the address of the page of ``folder``."""

    async def run() -> Any:
        listening = listening_on(0)
        service = PageService(folder)
        await service.start(listening)
        try:
            async with aiohttp.ClientSession() as session:
                return await asyncio.wait_for(use(session, address(listening)), 30)
        finally:
            await service.stop()

    return asyncio.run(run())


@pytest.fixture
def run(tmp_path: Path) -> StandInRun:
    run = StandInRun(tmp_path / "run").begin()
    run.round()
    return run


def test_the_files_of_the_page(run: StandInRun) -> None:
    async def use(session: aiohttp.ClientSession, url: str) -> int:
        size = 0
        for name in ["", *page_service._FILES]:
            async with session.get(url + name) as answer:
                body = await answer.read()
                assert answer.status == 200 and body == (PAGE / (name or "index.html")).read_bytes()
                assert HEADERS.items() <= answer.headers.items()
                size += len(body) if name else 0
        return size

    assert served(run.folder, use) < 200_000


def test_each_file_is_served_and_what_is_not_ours_is_unchanged() -> None:
    listed = dict(reversed(line.split()) for line in (PAGE / "SHA256SUMS").read_text().splitlines())
    assert listed == {name: hashlib.sha256((PAGE / name).read_bytes()).hexdigest() for name in listed}
    assert {path.name for path in PAGE.iterdir()} == {*page_service._FILES, *listed, "SHA256SUMS"}
    assert "MIT" in (PAGE / "uPlot.LICENSE").read_text()
    for name in page_service._FILES:
        text = (PAGE / name).read_text()
        assert (
            not any(mark in text for mark in ("innerHTML", "insertAdjacentHTML", "document.write")) or "uPlot" in name
        )


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("POST", "", {}, 405),
        ("PUT", "events", {}, 405),
        ("DELETE", "logs/0", {}, 405),
        ("HEAD", "", {}, 405),
        ("OPTIONS", "events", {}, 405),
        ("GET", "", {"Host": "evil.example"}, 403),
        ("GET", "events", {"Host": "evil.example:80"}, 403),
        ("GET", "logs/0", {"Host": "127.0.0.1.evil.example"}, 403),
        ("GET", "", {"Host": "localhost:9999"}, 200),  # a forwarded port
        ("GET", "page_service.py", {}, 404),
        ("GET", "%2e%2e/page_service.py", {}, 404),
        ("GET", "..%2fpage_service.py", {}, 404),
        ("GET", "SHA256SUMS", {}, 404),
        ("GET", "logs/..%2f..%2fconfig.json", {}, 404),
        ("GET", "logs/0", {}, 404),
        ("GET", "logs/1234567890123", {}, 404),
    ],
)
def test_refusals(run: StandInRun, method: str, path: str, headers: dict[str, str], status: int) -> None:
    async def use(session: aiohttp.ClientSession, url: str) -> None:
        async with session.request(method, url + path, headers=headers) as answer:
            assert answer.status == status
            assert HEADERS.items() <= answer.headers.items()

    served(run.folder, use)


def test_a_round_comes_as_it_is_written_and_the_end_is_told(run: StandInRun) -> None:
    async def use(session: aiohttp.ClientSession, url: str) -> list[str]:
        async with session.get(url + "events") as answer:
            seen = []
            async for line in answer.content:
                if line.startswith(b"event: "):
                    seen.append(line.decode().split()[1])
                if seen[-1:] == ["timeline"] and seen.count("row") == 1:
                    run.round()
                if seen.count("row") == 2:
                    return seen
        return seen

    assert served(run.folder, use) == ["begin", "run", "row", "timeline", "row"]


def test_a_page_that_reads_nothing_holds_up_nobody(tmp_path: Path) -> None:
    run = StandInRun(tmp_path, clients=2000).begin()
    for _ in range(60):
        run.round()

    async def use(session: aiohttp.ClientSession, url: str) -> tuple[int, int]:
        host, port = url.removeprefix("http://").rstrip("/").split(":")
        stuck = socket.create_connection((host, int(port)))
        stuck.sendall(f"GET /events HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        try:
            rows = size = 0
            async with session.get(url + "events") as answer:
                while rows < 60:
                    line = await answer.content.readuntil(b"\n")
                    size += len(line)
                    rows += line.startswith(b"event: row")
            return rows, size
        finally:
            stuck.close()

    rows, size = served(tmp_path, use)
    assert rows == 60 and size > 2**19


def test_more_pages_than_there_may_be_are_refused(run: StandInRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page_service, "_MOST_STREAMS", 1)

    async def use(session: aiohttp.ClientSession, url: str) -> int:
        async with session.get(url + "events") as first, session.get(url + "events") as second:
            assert first.status == 200
            return second.status

    assert served(run.folder, use) == 503


def test_the_log_of_a_client(run: StandInRun) -> None:
    run.log(2, "<b>INFO</b> déjà\n")

    async def use(session: aiohttp.ClientSession, url: str) -> Any:
        async with session.get(url + "logs/2") as answer:
            assert answer.content_type == "application/json"
            return json.loads(await answer.text())

    assert served(run.folder, use) == {"text": "<b>INFO</b> déjà\n", "bytes": 19}


def test_only_this_machine_reaches_it() -> None:
    with listening_on(0) as listening:
        assert listening.getsockname()[0] == "127.0.0.1"
        port = listening.getsockname()[1]
        with pytest.raises(OptionError, match=f"--live_port: cannot listen on 127.0.0.1:{port}: the address is in use"):
            listening_on(port)
        others = {found[4][0] for found in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)} - {
            "127.0.0.1"
        }
        for other in others:
            with pytest.raises(OSError):
                socket.create_connection((other, port), timeout=2)


def test_what_cannot_be_watched(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="there is no folder"):
        watch(tmp_path / "nothing", 0, ready=print)
    with pytest.raises(OptionError, match="live_port must be"):
        listening_on(65536)


def test_what_is_no_http_leaves_the_terminal_as_it_is(run: StandInRun, capfd: pytest.CaptureFixture[str]) -> None:
    async def use(session: aiohttp.ClientSession, url: str) -> list[bytes]:
        answers = []
        for request in (
            b"\x16\x03\x01\x00\r\n\r\n",
            b"GET / HTTP/1.1\r\n\r\n",
            b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\n",
        ):
            reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rstrip("/").rpartition(":")[2]))
            writer.write(request)
            answers.append((await reader.readline()).split(b" ")[1])
            writer.close()
        return answers

    assert served(run.folder, use) == [b"400"] * 3
    assert capfd.readouterr().err == ""
