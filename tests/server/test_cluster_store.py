"""A job continues as it is stored, whatever values the weights of the next server have."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from http_requests import MODEL

from mindfl.errors import StorageError
from mindfl.server import ServerConfig
from mindfl.server.cluster import LeaderRecord
from mindfl.server.durable import DurableJob
from mindfl.server.iteration import Clock
from mindfl.server.state import JobProgress

CONFIG = ServerConfig(fl_iteration_num=3, start_fl_job_threshold=1)


def test_a_record_of_the_leader_is_read_and_its_token_not_shown() -> None:
    record = LeaderRecord("http://127.0.0.1:1", "a token", JobProgress("running", 1, 3), {"é": 0.5}, {"w": [8, 1]})
    assert LeaderRecord.parse(record.text()) == record
    assert "a token" not in repr(record)


def test_a_stored_job_goes_on_as_it_is_if_its_weights_and_settings_fit(tmp_path: Path) -> None:
    DurableJob(tmp_path, CONFIG, MODEL, clock=Clock(), constant={"a"}).close()
    values = {name: array + 1 for name, array in MODEL.items()}
    with pytest.raises(StorageError, match="begun differently: the initial model"):
        DurableJob(tmp_path, CONFIG, values, clock=Clock(), constant={"a"})
    with pytest.raises(StorageError, match="begun differently: start_fl_job_threshold 1 -> 4"):
        other = replace(CONFIG, start_fl_job_threshold=4)
        DurableJob(tmp_path, other, values, clock=Clock(), as_stored=True, constant={"a"})
    job = DurableJob(tmp_path, CONFIG, values, clock=Clock(), as_stored=True, constant={"a"})
    assert job.coordinator.model["b"].tolist() == MODEL["b"].tolist()
    job.coordinator.job.new_instance(replace(CONFIG, fl_iteration_num=9), "another", 0)
    job.close()
    for now in (CONFIG, replace(CONFIG, fl_iteration_num=9)):
        DurableJob(tmp_path, now, values, clock=Clock(), as_stored=True, constant={"a"}).close()
    for wrong, constant in (
        ({"a": MODEL["a"]}, {"a"}),
        ({**MODEL, "c": MODEL["a"]}, {"a"}),
        ({**MODEL, "a": MODEL["b"]}, {"a"}),
        (MODEL, set()),
        (MODEL, {"b"}),
    ):
        with pytest.raises(StorageError, match="holds a job with another model"):
            DurableJob(tmp_path, CONFIG, wrong, clock=Clock(), as_stored=True, constant=constant)
