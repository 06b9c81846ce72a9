"""Clients that wait are run when their time has come."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import mindfl
from mindfl.client import Wait
from mindfl.sim.client_pool import ClientSchedule


def test_each_client_is_run_as_often_as_it_was_added() -> None:
    runs = {0: 0, 1: 0, 2: 0}
    with ThreadPoolExecutor(2) as threads:
        schedule = ClientSchedule(threads, lambda index: Wait(0))
        for index in runs:
            schedule.add(index, index)
        for index, _ in schedule.steps():
            runs[index] += 1
            if runs[index] < 50:
                schedule.add(index, runs[index] % 2)
    assert runs == {0: 50, 1: 50, 2: 50}


def test_nothing_waits_on_a_simple_queue_with_a_timeout() -> None:
    """CPython 3.11's SimpleQueue.get waits forever where the thread loses the processor just as its timeout passes:
    six busy processes on two processors needed 1,000 to 11,000 calls for it. On an idle machine no test would tell.
    """
    sources = {path: path.read_text("utf-8") for path in Path(mindfl.__file__).parent.rglob("*.py")}
    assert [path for path, text in sources.items() if "SimpleQueue(" in text and "get(timeout" in text] == []
