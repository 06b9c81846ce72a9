# mypy: disable-error-code=no-untyped-call
"""A device whose clock is set while it takes part: it neither hangs nor gives up, and its uploads are the same."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
from client_standins import T0, StandInTrainer, device, server
from hypothesis import given, settings
from hypothesis import strategies as st

from mindfl.client import ClientLog, Finished, JobResult, Wait, advance, run
from mindfl.errors import ProtocolError, TransportError
from mindfl.protocol import Request, Response, ResponseCode, ResponseFLJob

TEN_MINUTES = 600_000


class Times:
    """Real time, and a device's clock that is ``offset`` off. The server's clock is right."""

    def __init__(self) -> None:
        self.real = T0
        self.offset = 0
        self.slept = 0

    def device_ms(self) -> int:
        return self.real + self.offset

    def steady_ms(self) -> int:
        return self.real - T0

    def sleep(self, ms: int) -> None:
        assert ms > 0
        self.real += ms
        self.slept += ms


class SteppingNetwork:
    """Sets the device's clock before the exchanges whose numbers (from 1) are in ``steps``."""

    def __init__(self, handle: Callable[[Request, int], Response], times: Times, steps: dict[int, int]) -> None:
        self._handle = handle
        self._times = times
        self._steps = steps
        self.exchanges = 0

    def send(self, request: Request, now_ms: int) -> Response:
        self.exchanges += 1
        self._times.offset += self._steps.get(self.exchanges, 0)
        return self._handle(request, self._times.real)


STEPS = st.dictionaries(st.integers(1, 20), st.sampled_from([TEN_MINUTES, -TEN_MINUTES]), max_size=5)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(steps=STEPS)
def test_steps_at_any_exchange_change_nothing(steps: dict[int, int]) -> None:
    coordinator, records = server(clients=2, iterations=3)
    times = Times()
    network = SteppingNetwork(coordinator.handle, times, steps)
    trainers = [StandInTrainer(32, step=1.0 + number, losses=[4.0] * 9) for number in range(2)]
    flows = {
        number: device(f"f{number}", trainer, times.device_ms, steady=times.steady_ms).train()
        for number, trainer in enumerate(trainers)
    }
    results = []
    while flows:
        for number, flow in list(flows.items()):
            step = advance(flow, network, times.device_ms)
            if isinstance(step, Finished):
                results.append(step.result)
                del flows[number]
            elif isinstance(step, Wait):
                times.sleep(step.ms)
    assert results == [JobResult(3, ResponseCode.SUCCEED)] * 2
    assert [(record.valid, record.uploads) for record in records] == [(True, 2)] * 3
    np.testing.assert_array_equal(records[-1].model["fc.weight"], [4.5] * 3)
    assert times.slept < 10_000


@pytest.mark.parametrize("step", [TEN_MINUTES, -TEN_MINUTES])
def test_a_clock_that_is_set_before_a_wait_costs_no_more_than_it_was_set_by(step: int) -> None:
    """The server names a time of the day; a device whose clock is wrong by ten minutes cannot do better."""
    coordinator, _ = server(clients=1, iterations=2)
    refused = coordinator.handle
    times = Times()
    told: list[int] = []

    def handle(request: Request, now_ms: int) -> Response:
        if not told:
            told.append(now_ms + 5000)
            times.offset += step
            return ResponseFLJob(retcode=300, next_req_time=str(told[0]), fl_plan_config=coordinator.config.plan())
        answer: Response = refused(request, now_ms)
        return answer

    network = SteppingNetwork(handle, times, {})
    client = device("f0", StandInTrainer(), times.device_ms, steady=times.steady_ms)
    result = run(client.train(), network, times.device_ms, times.sleep)
    assert result == JobResult(2, ResponseCode.SUCCEED)
    assert times.slept <= 5000 + TEN_MINUTES + 1000


@pytest.mark.parametrize("step", [TEN_MINUTES, -TEN_MINUTES])
def test_patience_with_the_model_does_not_follow_the_clock(step: int) -> None:
    """The other client never uploads: the model is given up after a minute, not at once and not after eleven."""
    # Its windows would end the iteration otherwise.
    windows = ("start_fl_job_time_window", "update_model_time_window", "global_iteration_time_window")
    coordinator, _ = server(clients=2, **dict.fromkeys(windows, 10 * TEN_MINUTES))
    times = Times()
    network = SteppingNetwork(coordinator.handle, times, dict.fromkeys(range(4, 400, 7), step))
    client = device("f0", StandInTrainer(), times.device_ms, steady=times.steady_ms, poll_limit_ms=60_000, poll_ms=500)
    with pytest.raises(ProtocolError, match="got no model for 60000 ms"):
        run(client.train(), network, times.device_ms, times.sleep)
    assert times.slept == 60_000


@pytest.mark.parametrize("step", [TEN_MINUTES, -TEN_MINUTES])
@pytest.mark.parametrize("back_after_s", [20, None])
def test_patience_with_a_server_that_is_away_does_not_follow_the_clock(step: int, back_after_s: int | None) -> None:
    coordinator, records = server(clients=1, iterations=1)
    times = Times()
    first: list[int] = []

    def handle(request: Request, now_ms: int) -> Response:
        first.append(times.real)
        times.offset += step
        if len(first) > 1 and (back_after_s is None or times.real < T0 + 1000 * back_after_s):
            raise TransportError("away", sent=True)
        answer: Response = coordinator.handle(request, now_ms)
        return answer

    network = SteppingNetwork(handle, times, {})
    client = device("f0", StandInTrainer(), times.device_ms, steady=times.steady_ms, retry_limit_ms=60_000)
    if back_after_s is None:
        with pytest.raises(TransportError, match="away"):
            run(client.train(), network, times.device_ms, times.sleep)
        assert 50_000 < times.slept <= 60_000
    else:
        assert run(client.train(), network, times.device_ms, times.sleep) == JobResult(1, ResponseCode.SUCCEED)
        assert [record.uploads for record in records] == [1] and times.slept < 40_000


def test_durations_in_the_log_do_not_follow_the_clock(tmp_path: Path) -> None:
    coordinator, _ = server(clients=1, iterations=1)
    times = Times()

    class Slow(StandInTrainer):
        def train(self, *arguments: object) -> float:
            times.offset -= TEN_MINUTES
            times.real += 1234
            loss: float = super().train(*arguments)
            return loss

    log = ClientLog(tmp_path / "client.log", datetime.now)
    client = device("f0", Slow(), times.device_ms, log, steady=times.steady_ms)
    run(client.train(), SteppingNetwork(coordinator.handle, times, {}), times.device_ms, times.sleep)
    log.flush()
    assert "total run time:1234ms" in (tmp_path / "client.log").read_text()
    assert "run time:-" not in (tmp_path / "client.log").read_text()
