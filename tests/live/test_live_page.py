"""The live page in a real browser: what it shows is what the files say, by mouse, keyboard and screen reader."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from server_yaml import server_yaml
from stand_in_runs import StandInRun
from stand_in_sweeps import StandInSweep

from mindfl.data import make_synthetic
from mindfl.live.page_service import served
from mindfl.live.watching import address, listening_on

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or ""
playwright = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(not CHROMIUM, reason="needs chromium")]
#: what can be operated or is a picture, and has no name
_UNNAMED = """() => {
    const wanted = 'a,button,input,select,summary,[tabindex="0"],[role=img],progress,dialog';
    const named = each => each.getAttribute('aria-label') || each.textContent.trim() || each.labels?.length
        || document.getElementById(each.getAttribute('aria-labelledby') ?? '')?.textContent;
    return [...document.querySelectorAll(wanted)].filter(each => !named(each)).map(each => each.outerHTML); }"""
#: texts with a contrast below 4.5 (WCAG 2.1, AA)
_WEAK = """() => {
    const parse = text => text.match(/[\\d.]+/g).map(Number);
    const linear = part => part / 255 <= .03928 ? part / 255 / 12.92 : ((part / 255 + .055) / 1.055) ** 2.4;
    const light = ([red, green, blue]) => .2126 * linear(red) + .7152 * linear(green) + .0722 * linear(blue);
    const back = each => {
        for (; each; each = each.parentElement) {
            const colour = parse(getComputedStyle(each).backgroundColor);
            if (colour.length === 3 || colour[3] > 0) return colour;
        } };
    const contrast = each => {
        const [most, least] = [light(parse(getComputedStyle(each).color)), light(back(each))].sort((a, b) => b - a);
        return (most + .05) / (least + .05); };
    return [...document.querySelectorAll('h1,h2,p,a,th,td,dt,dd,label,.state,.tile div,.switch span,summary')]
        .filter(each => each.checkVisibility() && each.textContent.trim() && !each.closest('.skip,.hidden'))
        .filter(each => !each.previousElementSibling?.matches('input:disabled'))
        .filter(each => !each.querySelector('input:disabled'))
        .map(each => [each.textContent.trim().slice(0, 30), contrast(each)])
        .filter(([, found]) => found < 4.5); }"""
OPTIONS = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=list(OPTIONS))
        yield browser
        browser.close()


class Opened:
    """The page of a folder; :meth:`close` checks that nothing was asked for elsewhere, and that nothing failed."""

    def __init__(self, browser: Any, url: str, *, before: str = "", **options: Any) -> None:
        self.url = url
        self.page = browser.new_page(viewport={"width": 1280, "height": 1000}, **options)
        self.requests: list[str] = []
        self.said: list[str] = []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        if before:
            self.page.add_init_script(before)
        self.page.goto(url)

    def wait(self, script: str) -> None:
        # Playwright's own waiting evaluates texts in the page, which its content security policy refuses.
        deadline = time.monotonic() + 120
        while not self.page.evaluate(script):
            assert time.monotonic() < deadline, script
            self.page.wait_for_timeout(20)

    def values(self, selector: str) -> list[float]:
        script = "cells => cells.map(cell => Number(cell.dataset.value))"
        return list(self.page.eval_on_selector_all(selector, script))

    def close(self) -> None:
        assert self.said == [], "neither errors nor violations of the content security policy"
        assert self.requests and all(each.startswith((self.url, "data:")) for each in self.requests)
        self.page.close()


@contextmanager
def open_page(browser: Any, folder: Path, **options: Any) -> Iterator[Opened]:
    listening = listening_on(0)
    url = address(listening)
    loop, ended = asyncio.new_event_loop(), threading.Event()
    stop = asyncio.Event()

    def serve() -> None:
        loop.run_until_complete(served(folder, listening, stop.wait, lambda: None))
        ended.set()

    threading.Thread(target=serve, daemon=True).start()
    try:
        opened = Opened(browser, url, **options)
        yield opened
        opened.close()
    finally:
        loop.call_soon_threadsafe(stop.set)
        assert ended.wait(30)


def table(opened: Opened) -> list[list[float]]:
    return opened.page.evaluate(
        """() => [...document.querySelectorAll('#rounds-rows tr')]
        .map(row => [...row.children].slice(0, 6).map(cell => Number(cell.dataset.value)))"""
    )


def test_the_values_are_those_of_the_history(browser: Any, tmp_path: Path) -> None:
    run = StandInRun(tmp_path / "run <b>&amp;", drawn=4, iterations=30).begin(lives=True)
    for iteration in range(1, 13):
        run.round(epsilon=iteration / 7, aggregated=iteration != 5)
    with open_page(browser, run.folder) as opened:
        opened.wait("document.querySelectorAll('#rounds-rows tr').length === 12")
        rows = list(reversed(run.rows))
        assert table(opened) == [[r.iteration, r.avg, r.top5, r.low5, r.weighted_avg, r.loss] for r in rows]
        page = opened.page
        shown = page.locator("#rounds-rows tr").first.locator("td").all_inner_texts()
        assert shown[:3] == [f"{value:.4f}" for value in (rows[0].avg, rows[0].top5, rows[0].low5)]
        assert page.locator("tr.failed th").all_inner_texts() == ["5"]
        assert page.locator("#name").inner_text() == "run <b>&amp;"
        assert page.locator("#state").inner_text() == "training"
        assert opened.values('[data-name="AVG"] .tile-value, [data-name="epsilon"] .tile-value') == [
            rows[0].avg,
            12 / 7,
        ]
        clients = page.evaluate(
            """() => [...document.querySelectorAll('#clients-rows tr')].map(({children}) =>
            [children[1].textContent, Number(children[2].dataset.value), Number(children[4].dataset.value)])"""
        )
        taken = [sum(number in row.participants for row in rows) for number in range(10)]
        assert clients == [[name, rows[0].accuracies[name], taken[i]] for i, name in enumerate(run.names)]

        before = time.monotonic()
        row = run.round()
        opened.wait("document.querySelector('#rounds-rows th').textContent === '13'")
        print(f"a new round is shown after {time.monotonic() - before:.2f} s")
        assert table(opened)[0][:2] == [13, row.avg]

        run.end()
        opened.wait("document.getElementById('state').textContent === 'ended'")
        StandInRun(run.folder, clients=3).begin().round()
        opened.wait("document.querySelectorAll('#rounds-rows tr').length === 1")
        shutil.rmtree(run.folder)
        opened.wait("document.getElementById('state').className.includes('missing')")


def test_by_keyboard_and_for_screen_readers(browser: Any, tmp_path: Path) -> None:
    run = StandInRun(tmp_path / "run", drawn=4).begin()
    for _ in range(3):
        run.round()
    run.log(2, "<script>alert(1)</script> déjà vu\n")
    run.end()
    with open_page(browser, run.folder) as opened:
        page = opened.page
        opened.wait("document.querySelectorAll('#rounds-rows tr').length === 3")
        page.focus("#heat-cursor")
        for key in ("ArrowDown", "ArrowDown", "End"):
            page.keyboard.press(key)
        cell = page.locator("#heat-cell")
        row, took = run.rows[2], "took part" if 2 in run.rows[2].participants else "not drawn"
        assert (
            cell.inner_text()
            == f"client 2, {run.names[2]}, round 3: accuracy {row.accuracies[run.names[2]]:.4f}: {took}"
        )
        page.keyboard.press("Enter")
        page.locator("#log-text").get_by_text("déjà vu").wait_for()
        assert page.locator("#log-text").inner_text() == "<script>alert(1)</script> déjà vu\n"
        assert page.evaluate("document.activeElement.closest('dialog') !== null")
        page.keyboard.press("Escape")
        assert not page.locator("#log").is_visible()
        assert page.evaluate("document.activeElement.id") == "heat-cursor", "the focus is back"
        # What can be operated has a name, and can be reached; pictures and tables have one too.
        unnamed = page.evaluate(_UNNAMED)
        assert unnamed == []
        assert page.evaluate(
            "[...document.querySelectorAll('th')].every(each => each.scope || each.closest('.u-legend'))"
        )
        assert page.evaluate("document.documentElement.lang") == "en"
        names = {each["name"] for each in reachable(page)}
        wanted = {"clients-find", "clients-order", "heat-order", "heat-cursor", "time-round", "heat", "cost", "open"}
        assert wanted <= names, wanted - names


def reachable(page: Any) -> list[dict[str, str]]:
    """Go through the page with the Tab key."""
    page.evaluate("document.activeElement.blur(); window.scrollTo(0, 0)")
    found = []
    for _ in range(60):
        page.keyboard.press("Tab")
        found.append(
            page.evaluate(
                """() => {
                const each = document.activeElement;
                return {name: each.id || each.name || each.textContent.trim()}; }"""
            )
        )
    return found


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_texts_stand_out_from_their_background(browser: Any, tmp_path: Path, scheme: str) -> None:
    run = StandInRun(tmp_path).begin()
    run.round(aggregated=False)
    run.end()
    with open_page(browser, tmp_path, color_scheme=scheme) as opened:
        opened.wait("document.querySelectorAll('#rounds-rows tr').length === 1")
        weak = opened.page.evaluate(_WEAK)
        assert weak == []


#: counts what the page draws and changes
_COUNT = """
    window.work = {cells: 0, nodes: 0, bytes: 0};
    const put = CanvasRenderingContext2D.prototype.putImageData;
    CanvasRenderingContext2D.prototype.putImageData = function (image, ...rest) {
        window.work.cells += image.width * image.height;
        return put.call(this, image, ...rest); };
    const elements = record => [...record.addedNodes].filter(each => each.nodeType === Node.ELEMENT_NODE).length;
    new MutationObserver(found => { for (const each of found) window.work.nodes += elements(each); })
        .observe(document, {subtree: true, childList: true});
    const parse = JSON.parse;
    JSON.parse = text => { window.work.bytes += text.length; return parse(text); };
"""


def test_a_round_of_3500_clients_draws_its_column_alone(browser: Any, tmp_path: Path) -> None:
    run = StandInRun(tmp_path, clients=3500, drawn=350, iterations=60).begin(lives=True)
    for _ in range(30):
        run.round()
    with open_page(browser, tmp_path, before=_COUNT) as opened:
        settled = "document.querySelector('#rounds-rows th')?.textContent === '{}' && window.work.cells >= {}"
        page, nodes = opened.page, "document.querySelectorAll('*').length"
        opened.wait(settled.format(30, 1))
        width, height = page.evaluate("['width', 'height'].map(name => document.getElementById('heat-cells')[name])")
        column = height * (width // 60)
        opened.wait(settled.format(30, 30 * column))
        page.wait_for_timeout(300)
        page.evaluate("Object.assign(window.work, {cells: 0, nodes: 0, bytes: 0})")
        before = page.evaluate(nodes)
        for number in range(31, 41):
            run.round()
            opened.wait(settled.format(number, (number - 30) * column))
        work = page.evaluate("window.work")
        assert 10 * column <= work["cells"] < 10 * (column + height)
        assert work["nodes"] <= 10, "the line of the table of rounds"
        assert page.evaluate(nodes) < before + 50
        assert work["bytes"] < 10 * 3500 * 25, "the accuracies of the new rounds"
        page.fill("#clients-find", "writer_3499")
        assert opened.values("#clients-rows td:nth-child(3)") == [run.rows[-1].accuracies["writer_3499"]]


class SmallJob:
    """A server with a page, and devices that train with it, as processes in ``folder``."""

    def __init__(self, folder: Path, model: Path) -> None:
        self._folder, self._model = folder, model
        self._started: list[subprocess.Popen[str]] = []
        (folder / "fl.yaml").write_text(server_yaml(fl_name="Lenet", iterations=500, clients=2, window=20_000))
        make_synthetic(folder / "data", users=2, seed=3, progress=False)
        self.history = folder / "Lenet_live" / "history.jsonl"

    def _start(self, *words: str) -> subprocess.Popen[str]:
        streams: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        command = [sys.executable, "-m", "mindfl", *words, "--quiet"]
        self._started.append(subprocess.Popen(command, cwd=self._folder, **streams))
        return self._started[-1]

    def serve(self, live_port: str = "0") -> str:
        """Start the server and two devices; return the address of the page."""
        command = ["--config", "fl.yaml", "--model", str(self._model), "--http_server_address", "127.0.0.1:0"]
        server = self._start("server", "start", *command, "--live", "--live_port", live_port)
        assert server.stdout and server.stderr
        url, page = server.stdout.readline().split()[-1], server.stderr.readline().split()[-1]
        given = ["--train_dataset", "data", "--origin_train_model_path", str(self._model), "--domain_name", url]
        self._start("simulate", *given, "--client_num", "2", "--workers", "1", "--overwrite")
        return page

    def kill(self) -> None:
        """Kill all that runs."""
        while self._started:
            process = self._started.pop()
            process.kill()
            process.communicate()


@pytest.fixture
def small_job(tmp_path: Path, converted: Any) -> Iterator[SmallJob]:
    job = SmallJob(tmp_path, converted())
    yield job
    job.kill()


def test_the_page_of_a_server_that_devices_train_with(browser: Any, small_job: SmallJob) -> None:
    """It shows rounds as they end, says that the server was killed, and goes on when it is started again.

    The devices that were in a round when the server was killed are refused until the round has failed.
    """
    url = small_job.serve()
    opened = Opened(browser, url)
    opened.wait("Number(document.querySelector('#rounds-rows th')?.textContent) >= 2")
    print(f"shown {time.time() - small_job.history.stat().st_mtime:.2f} s after the latest was written")
    assert opened.page.locator("#state").inner_text() == "training"
    assert opened.said == []
    small_job.kill()
    opened.wait("document.getElementById('state').className === 'state stopped'")
    opened.wait("document.getElementById('connection').textContent.includes('goes on when it is started again')")
    rows = [json.loads(line) for line in small_job.history.read_text().splitlines()]
    wanted = [[row["iteration"], row["avg"], row["loss"]] for row in rows]
    assert opened.page.evaluate(_ROUNDS) == wanted[::-1][:12]

    again = small_job.serve(url.rstrip("/").rpartition(":")[2])
    assert again == url
    opened.wait("document.getElementById('state').className === 'state training'")
    opened.wait("document.getElementById('connection').textContent === ''")
    opened.wait(f"Number(document.querySelector('#rounds-rows th').textContent) > {len(rows)}")
    assert wanted[-1] in opened.page.evaluate(_ROUNDS)
    assert all(each.startswith((url, "data:")) for each in opened.requests)
    opened.page.close()


#: what the page shows for a value that there is not
NONE = "\u2013"
#: number, AVG and loss of each line of the table of rounds
_ROUNDS = """() => {
    const titles = [...document.querySelectorAll('#rounds-head th')].map(each => each.textContent);
    const [avg, loss] = ['AVG', 'loss'].map(title => titles.indexOf(title));
    return [...document.querySelectorAll('#rounds-rows tr')].map(({children}) => [Number(children[0].textContent),
        ...[avg, loss].map(at => 'value' in children[at].dataset ? Number(children[at].dataset.value) : null)]); }"""


def test_a_sweep_and_the_pages_of_its_runs(browser: Any, tmp_path: Path) -> None:
    sweep = StandInSweep(tmp_path / "sweep", (0.01, 0.1), lives=True)
    first, second = sweep.runs.values()
    first.begin()
    rows = [first.round() for _ in range(5)]
    sweep.note("learning_rate=0.01", status="done")
    sweep.note("learning_rate=0.1", status="failed", error="<b>diverged</b>")
    lines = """() => [...document.querySelectorAll('#runs-rows tr')].map(({children}) =>
        [...children].map(cell => cell.dataset.value ?? cell.textContent))"""
    with open_page(browser, sweep.folder) as opened:
        opened.wait("document.querySelectorAll('#runs-rows tr').length === 2")
        opened.wait("document.querySelector('#runs-rows tr').children[4].dataset.value")
        best = max(rows, key=lambda row: (row.avg, -row.iteration))
        values = [str(value) for value in (rows[-1].avg, best.avg, best.iteration)]
        assert opened.page.evaluate(lines) == [
            ["learning_rate=0.01", "0.01", "done", "5 of 20", *values, ""],
            ["learning_rate=0.1", "0.1", "failed", "0 of 20", *[NONE] * 3, "<b>diverged</b>"],
        ]
        row = second.begin().round()
        sweep.note("learning_rate=0.1", status="running", error=None)
        opened.wait(f"document.querySelectorAll('#runs-rows tr')[1].children[4].dataset.value === '{row.avg}'")
        assert opened.page.evaluate(_UNNAMED) == [] and opened.page.evaluate(_WEAK) == []
        opened.page.get_by_role("link", name="learning_rate=0.1").click()
        opened.wait("document.querySelectorAll('#rounds-rows tr').length === 1")
        assert table(opened)[0][:2] == [1, row.avg]
        opened.page.get_by_role("link", name="all runs of the sweep").click()
        opened.wait("document.querySelectorAll('#runs-rows tr').length === 2")


def test_the_page_of_an_empty_folder_becomes_that_of_a_sweep(browser: Any, tmp_path: Path) -> None:
    folder = tmp_path / "later"
    folder.mkdir()
    with open_page(browser, folder) as opened:
        opened.wait("document.getElementById('state').textContent === 'waiting for a run'")
        StandInSweep(folder, (0.01, 0.1), lives=True)
        opened.page.locator("#runs-rows tr").nth(1).wait_for()  # the page has loaded again by then
        opened.wait("document.getElementById('state').textContent === 'running'")
