"""Learning rates that change from iteration to iteration, in the plans of a server that is killed, and that fails."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mindfl.errors import StorageError
from mindfl.protocol import RequestFLJob, RequestUpdateModel, ResponseCode
from mindfl.server import Coordinator, IterationRecord, ServerConfig
from mindfl.server.durable import DurableJob
from mindfl.server.iteration import Clock

CONFIG = ServerConfig(fl_iteration_num=4, start_fl_job_threshold=2, client_learning_rate=0.1)
INITIAL = {"w": np.zeros(3, np.float32)}
STEP = "step:every=1,factor=0.5"
Handle = Callable[[Any], Any]


def start(handle: Handle, fl_id: str) -> Any:
    return handle(RequestFLJob(fl_name="x", fl_id=fl_id, data_size=1, timestamp="0"))


def upload(handle: Handle, fl_id: str, iteration: int) -> None:
    weights = {"w": np.full(3, iteration, np.float32)}
    request = RequestUpdateModel(fl_name="x", fl_id=fl_id, iteration=iteration, feature_map=weights, timestamp="0")
    assert handle(request).retcode == ResponseCode.SUCCEED


def rates(handle: Handle, iterations: range) -> list[float]:
    """Let two clients take part; return the rates of their plans."""
    found = []
    for iteration in iterations:
        found += [start(handle, fl_id).fl_plan_config.lr for fl_id in "ab"]
        for fl_id in "ab":
            upload(handle, fl_id, iteration)
    return found


def halved(*iterations: int) -> list[float]:
    return [float(np.float32(0.1 * 0.5 ** (iteration - 1))) for iteration in iterations]


class Durable:
    """A job in a folder."""

    def __init__(self, folder: Path, lr_schedule: Any) -> None:
        self.clock, self.folder = Clock(), folder
        self.records: list[IterationRecord] = []
        keep = self.records.append
        self.job = DurableJob(folder, CONFIG, INITIAL, clock=self.clock, lr_schedule=lr_schedule, on_iteration_end=keep)

    def handle(self, request: Any) -> Any:
        return self.job.handle(request, self.clock.now_ms()).response

    def crash(self, to: Path) -> Path:
        """Close the job and return a copy of its folder from the moment before, as a kill -9 would leave it."""
        self.job._saver.submit(int).result(60)
        copied = Path(shutil.copytree(self.folder, to))
        self.job.close()
        return copied


@pytest.mark.parametrize("schedule", [STEP, lambda iteration: 0.1 * 0.5 ** (iteration - 1)], ids=["named", "function"])
def test_a_killed_server_gives_each_iteration_the_rate_that_it_had(schedule: Any, tmp_path: Path) -> None:
    server = Durable(tmp_path / "first", schedule)
    assert rates(server.handle, range(1, 3)) == halved(1, 1, 2, 2)
    assert start(server.handle, "a").fl_plan_config.lr == halved(3)[0]
    server = Durable(server.crash(tmp_path / "second"), schedule)
    assert start(server.handle, "b").fl_plan_config.lr == halved(3)[0]
    for fl_id in "ab":
        upload(server.handle, fl_id, 3)
    assert rates(server.handle, range(4, 5)) == halved(4, 4)
    server.job.close()


def test_a_stored_job_is_not_given_to_another_schedule(tmp_path: Path) -> None:
    Durable(tmp_path / "s", STEP).job.close()
    with pytest.raises(StorageError, match=r"differently: lr_schedule step:every=1,factor=0\.5 -> constant$"):
        Durable(tmp_path / "s", "constant")
    Durable(tmp_path / "s", STEP).job.close()
    Durable(tmp_path / "c", "constant").job.close()
    with pytest.raises(StorageError, match=r"differently: lr_schedule constant -> cosine:rounds=4,least=0\.0$"):
        Durable(tmp_path / "c", "cosine")


def test_a_new_instance_begins_with_its_own_rate(tmp_path: Path) -> None:
    server = Durable(tmp_path / "s", STEP)
    rates(server.handle, range(1, 2))
    server.job.coordinator.job.new_instance(replace(CONFIG, client_learning_rate=0.8), "second", 0)
    assert start(server.handle, "a").fl_plan_config.lr == float(np.float32(0.8))
    server.job.close()


def test_an_iteration_without_a_rate_fails_by_name_and_the_next_goes_on(tmp_path: Path) -> None:
    server = Durable(tmp_path / "first", lambda iteration: float("nan") if iteration == 2 else 0.5)
    rates(server.handle, range(1, 2))
    refused = start(server.handle, "a")
    cause = "lr_schedule <lambda> failed in iteration 2: a learning rate must be finite and above 0, got nan"
    assert (refused.retcode, refused.is_selected) == (ResponseCode.OUT_OF_TIME, False)
    assert refused.reason.startswith(f"{cause}. Please retry later at time: ")
    assert [(record.valid, record.reason) for record in server.records[1:]] == [(False, cause)]
    crashed = server.crash(tmp_path / "second")
    server = Durable(crashed, lambda iteration: 0.5)  # what happened is not changed by another schedule
    assert server.job.coordinator.iteration == 3
    assert rates(server.handle, range(3, 4)) == [0.5, 0.5]
    assert server.job.coordinator.job.refusals == {}
    server.job.close()


def test_without_a_schedule_all_plans_are_one_object() -> None:
    """Encoded answers are kept by that."""
    job = Coordinator(CONFIG, INITIAL, lr_schedule="constant")
    plan = job.job.plan
    rates(lambda request: job.handle(request, 0), range(1, 5))
    assert job.job.plan is plan
