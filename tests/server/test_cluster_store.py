"""Where the servers of one job on one machine meet."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from http_requests import MODEL
from hypothesis import given
from hypothesis import strategies as st

from mindfl.errors import StorageError
from mindfl.server import ServerConfig
from mindfl.server.clock import Clock
from mindfl.server.cluster import FolderStore, KeeperRecord, job_folder
from mindfl.server.durable import DurableJob
from mindfl.server.management import Node
from mindfl.server.state import Progress

RECORD = KeeperRecord("http://127.0.0.1:1", "a token", "a layout", Progress("running", 1, 3), {"é": 0.5})


def open_job(store: FolderStore) -> DurableJob:
    claim = store.claim()
    assert claim is not None
    config = ServerConfig(fl_iteration_num=3, start_fl_job_threshold=1)
    return claim.open_job(lambda folder: DurableJob(folder, config, MODEL, clock=Clock(), as_stored=True))


def test_one_keeper_at_a_time(tmp_path: Path) -> None:
    first, second = FolderStore(tmp_path / "job"), FolderStore(tmp_path / "job")
    assert second.keeper() is None
    job = open_job(first)
    assert second.claim() is None and first.claim() is None
    job.close()
    open_job(second).close()


def test_what_the_keeper_publishes_is_found_and_private(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    claim = store.claim()
    assert claim is not None
    claim.publish(replace(RECORD, url=""))
    claim.publish(RECORD)
    assert FolderStore(tmp_path).keeper() == RECORD
    assert (tmp_path / "keeper.json").stat().st_mode & 0o777 == 0o600
    assert "a token" not in repr(RECORD)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"url": "x"}', "{"])
def test_a_damaged_record_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "keeper.json").write_text(content)
    with pytest.raises(StorageError, match=r"keeper\.json is damaged"):
        FolderStore(tmp_path).keeper()


def test_servers_are_listed_as_long_as_they_live(tmp_path: Path) -> None:
    first, second, reader = (FolderStore(tmp_path) for _ in range(3))
    assert reader.nodes() == []
    first.join([Node("a", "h:1"), Node("b", "h:2")])
    second.join([Node("c", "h:3")])
    assert [node.node_id for node in reader.nodes()] == ["a", "b", "c"] == [node.node_id for node in first.nodes()]
    first.leave()
    assert [node.node_id for node in reader.nodes()] == ["c"]
    dead = tmp_path / "servers" / "0-dead.json"
    dead.write_text(json.dumps([{"node_id": "d", "tcp_address": "h:4"}]))
    assert [node.node_id for node in reader.nodes()] == ["c"]
    assert not dead.exists()
    second.leave()
    assert list((tmp_path / "servers").iterdir()) == []


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match="cannot create folder"):
        FolderStore(tmp_path / "file" / "job")


def test_the_folder_is_for_this_user_only(tmp_path: Path) -> None:
    FolderStore(tmp_path / "job")
    assert (tmp_path / "job").stat().st_mode & 0o777 == 0o700


@given(st.text(max_size=80), st.text(max_size=80))
def test_the_folder_of_a_job_has_a_usable_name_of_its_own(address: str, fl_name: str) -> None:
    folder = job_folder(address, fl_name)
    assert folder == job_folder(address, fl_name)
    assert folder.name.isascii() and len(folder.name) < 64 and "/" not in folder.name
    assert folder.parent.name == "jobs" and folder != job_folder(address + "1", fl_name)
    assert folder != job_folder(address, fl_name + "_")


def test_the_folder_of_a_job_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert job_folder("h:1", "x").is_relative_to(tmp_path / "mindfl" / "jobs")


def test_a_stored_job_goes_on_as_it_is_if_its_weights_fit(tmp_path: Path) -> None:
    open_job(FolderStore(tmp_path)).close()
    other = ServerConfig(fl_iteration_num=9, start_fl_job_threshold=4)
    values = {name: array + 1 for name, array in MODEL.items()}
    with pytest.raises(StorageError, match="begun differently"):
        DurableJob(tmp_path, other, values, clock=Clock())
    job = DurableJob(tmp_path, other, values, clock=Clock(), as_stored=True)
    assert job.coordinator.config.fl_iteration_num == 3
    assert job.coordinator.model["b"].tolist() == MODEL["b"].tolist()
    job.close()
    for wrong in ({"a": MODEL["a"]}, {**MODEL, "c": MODEL["a"]}, {**MODEL, "a": MODEL["b"]}):
        with pytest.raises(StorageError, match="holds a job with another model"):
            DurableJob(tmp_path, other, wrong, clock=Clock(), as_stored=True)
