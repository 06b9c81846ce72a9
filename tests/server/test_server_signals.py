"""Signals that stop a server: noted before, while and after its event loop runs."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from mindfl.errors import OptionError
from mindfl.server.running import StopSignal, stop_signal


@pytest.fixture(autouse=True)
def others() -> Iterator[list[int]]:
    """Return what came outside the block."""
    came: list[int] = []
    before = {
        number: signal.signal(number, lambda number, frame: came.append(number))
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    }
    yield came
    for number, handler in before.items():
        signal.signal(number, handler)


async def _stopped(stop: StopSignal, number: int | None = None) -> signal.Signals:
    future = stop.future()
    if number is not None:
        asyncio.get_running_loop().call_later(0.01, os.kill, os.getpid(), number)
    return await asyncio.wait_for(future, 30)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_signal_is_told(others: list[int], number: int) -> None:
    with stop_signal() as stop:
        assert asyncio.run(_stopped(stop, number)) is number
    assert others == []
    os.kill(os.getpid(), number)
    assert others == [number]


def test_a_signal_before_the_loop_runs_is_not_lost() -> None:
    with stop_signal() as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        assert asyncio.run(_stopped(stop)) is signal.SIGTERM


def test_a_signal_after_the_loop_is_noted(others: list[int]) -> None:
    async def opened(stop: StopSignal) -> None:
        stop.future()

    with stop_signal() as stop:
        asyncio.run(opened(stop))
        os.kill(os.getpid(), signal.SIGTERM)
    assert others == []


def test_a_server_in_the_background_of_a_script_does_not_hear_its_ctrl_c() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with stop_signal() as stop:
        os.kill(os.getpid(), signal.SIGINT)
        assert asyncio.run(_stopped(stop, signal.SIGTERM)) is signal.SIGTERM
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


def test_another_thread_is_refused() -> None:
    def use() -> None:
        with stop_signal():
            raise AssertionError("not refused")

    with ThreadPoolExecutor(1) as pool, pytest.raises(OptionError, match="main thread"):
        pool.submit(use).result()


def test_a_running_event_loop_is_refused() -> None:
    async def use() -> None:
        with stop_signal():
            raise AssertionError("not refused")

    with pytest.raises(OptionError, match="running event loop"):
        asyncio.run(use())
