"""Uploads that are sent again because their answer was lost: counted once, and answered as they were."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mindfl.protocol import PlainText, RequestFLJob, RequestUpdateModel, Response, ResponseUpdateModel
from mindfl.server import Coordinator, IterationRecord, ServerConfig, ServerState
from mindfl.server.durable import DurableJob
from mindfl.server.iteration import Clock
from mindfl.server.snapshot import Given, JobOrigin, Snapshot, decode, fingerprint
from mindfl.server.state import JobState, digest

MINUTE = 60_000
CONFIG = ServerConfig(
    fl_iteration_num=5,
    start_fl_job_threshold=2,
    start_fl_job_time_window=10 * MINUTE,
    update_model_time_window=10 * MINUTE,
    global_iteration_time_window=10 * MINUTE,
)
INITIAL = {"w": np.zeros(3, np.float32)}


def start(fl_id: str) -> RequestFLJob:
    return RequestFLJob(fl_name="x", fl_id=fl_id, data_size=1, timestamp="0")


def upload(fl_id: str, iteration: int) -> RequestUpdateModel:
    weights = {"w": np.full(3, len(fl_id), np.float32)}
    return RequestUpdateModel(fl_id=fl_id, iteration=iteration, feature_map=weights, timestamp="0")


def code(response: Response) -> int | None:
    assert isinstance(response, ResponseUpdateModel), response
    return response.retcode


def iterate(job: Coordinator | DurableJob, iteration: int, *clients: str, now_ms: int = 0) -> None:
    for fl_id in clients:
        job.handle(start(fl_id), now_ms)
    for fl_id in clients:
        job.handle(upload(fl_id, iteration), now_ms)


def test_the_last_upload_of_an_iteration_is_accepted_again_by_the_next_server(tmp_path: Path) -> None:
    """The server is killed between closing the iteration and answering: only the folder knows that it counted."""
    first = DurableJob(tmp_path / "s", CONFIG, INITIAL, clock=Clock())
    iterate(first, 1, "a", "bb")
    first.close()
    second = DurableJob(tmp_path / "s", CONFIG, INITIAL, clock=Clock())
    assert second.coordinator.iteration == 2
    assert second.recovery.events == 0, "the uploads themselves are in the journal no longer"
    model = second.coordinator.model["w"].tolist()
    assert code(second.handle(upload("bb", 1), 0, repeated=True).response) == 200
    assert code(second.handle(upload("bb", 1), 0).response) == 300
    assert code(second.handle(upload("ccc", 1), 0, repeated=True).response) == 300
    assert code(second.handle(upload("bb", 2), 0, repeated=True).response) == 300
    assert (second.coordinator.iteration, second.coordinator.model["w"].tolist()) == (2, model)
    second.close()


def test_also_where_the_iteration_closed_while_the_journal_was_replayed(tmp_path: Path) -> None:
    first = DurableJob(tmp_path / "s", CONFIG, INITIAL, clock=Clock())
    # Killed before the snapshot of the closed iteration was written.
    first._store = lambda snapshot: None  # type: ignore[method-assign]
    iterate(first, 1, "a", "bb")
    first.close()
    second = DurableJob(tmp_path / "s", CONFIG, INITIAL, clock=Clock())
    assert (second.coordinator.iteration, second.recovery.uploads) == (2, 2)
    assert code(second.handle(upload("bb", 1), 0, repeated=True).response) == 200
    second.close()


def test_the_last_iteration_of_the_job_too() -> None:
    job = Coordinator(ServerConfig(fl_iteration_num=1, start_fl_job_threshold=2), INITIAL)
    iterate(job, 1, "a", "bb")
    assert job.state is ServerState.FINISHED
    assert code(job.handle(upload("a", 1), 0, repeated=True)) == 200
    assert isinstance(job.handle(upload("a", 1), 0), PlainText)
    assert isinstance(job.handle(upload("ccc", 1), 0, repeated=True), PlainText)


def test_clients_are_remembered_as_long_as_models() -> None:
    job = Coordinator(CONFIG, INITIAL)
    for iteration in range(1, 5):
        iterate(job, iteration, "a", "bb")
    codes = [code(job.handle(upload("a", iteration), 0, repeated=True)) for iteration in range(1, 6)]
    assert codes == [300, 200, 200, 200, 300]
    assert sorted(job.job.snapshot().counted) == [2, 3, 4]


def test_an_upload_to_an_iteration_that_failed_was_not_counted_in_any_model() -> None:
    job = Coordinator(CONFIG, INITIAL)
    job.handle(start("a"), 0)
    job.handle(upload("a", 1), 0)
    job.tick(10 * MINUTE)
    assert job.iteration == 2
    assert code(job.handle(upload("a", 1), 10 * MINUTE, repeated=True)) == 300


def test_a_new_instance_remembers_nobody() -> None:
    job = Coordinator(CONFIG, INITIAL)
    iterate(job, 1, "a", "bb")
    job.job.new_instance(CONFIG, "i_2", 0)
    assert code(job.handle(upload("a", 1), 0, repeated=True)) == 300


def test_an_id_of_a_megabyte_takes_sixteen_bytes() -> None:
    job = Coordinator(CONFIG, INITIAL)
    iterate(job, 1, "x" * 2**20, "b")
    assert sorted(map(len, job.job.snapshot().counted[1])) == [16, 16]
    assert code(job.handle(upload("x" * 2**20, 1), 0, repeated=True)) == 200


@given(
    counted=st.dictionaries(st.integers(1, 2**40), st.frozensets(st.text().map(digest)), max_size=3),
    iteration=st.integers(1, 2**40),
)
def test_who_was_counted_comes_back_from_a_snapshot(counted: dict[int, frozenset[bytes]], iteration: int) -> None:
    job = Coordinator(CONFIG, INITIAL)
    state = JobState(CONFIG, "i", iteration, True, {iteration - 1: job.model}, counted)
    origin = JobOrigin(bytes(16), CONFIG, fingerprint(job.model))
    data = b"".join(Snapshot(origin, 7, state).parts())
    assert decode(data, "here", Given(CONFIG, job.model, job.job.layout)).state.counted == counted


def test_each_upload_is_as_long_as_it_took_from_its_own_start() -> None:
    records: list[IterationRecord] = []
    job = Coordinator(CONFIG, INITIAL, on_iteration_end=records.append)
    job.handle(start("a"), 1000)
    job.handle(start("b"), 5000)
    job.handle(upload("b", 1), 5500)
    job.handle(upload("a", 1), 8000)
    assert records[0].durations_ms == (500, 7000)


@pytest.mark.parametrize("pause_ms", [3_600_000, -600_000])
def test_the_time_in_which_the_server_was_down_does_not_count(pause_ms: int) -> None:
    records: list[IterationRecord] = []
    job = Coordinator(CONFIG, INITIAL, on_iteration_end=records.append)
    job.handle(start("a"), 1_000_000)
    job.handle(start("b"), 1_001_000)
    job.job.resume(1_001_000 + pause_ms)
    job.handle(upload("a", 1), 1_003_000 + pause_ms)
    job.handle(upload("b", 1), 1_004_000 + pause_ms)
    assert records[0].durations_ms == (3000, 3000)
