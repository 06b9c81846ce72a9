"""State folders and checkpoints of the first release: read, and continued."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from secure_world import World, job
from test_server_secure_durable import KINDS, StoredWorld, steps

from mindfl.protocol import RequestFLJob, RequestUpdateModel
from mindfl.server import IterationRecord
from mindfl.server.checkpoint import latest
from mindfl.server.durable import DurableJob
from mindfl.server.initial import initial_weights
from mindfl.server.iteration import Clock
from mindfl.server.settings.reader import read_settings

Unpack = Callable[[str], Path]

#: a moment after the uploads of the folders, within the windows of their iteration
CLOCK = Clock(lambda: 5_000_000_000, lambda: 1_795_955_300_000_000_000)


@pytest.fixture
def folders(first_release: Unpack) -> Path:
    return first_release("server_folders")


def opened(folders: Path, name: str, records: list[IterationRecord]) -> DurableJob:
    settings = read_settings(folders / "fl.yaml")
    weights = initial_weights(folders / "model.npz")
    return DurableJob(folders / name, settings.server_config(), weights, clock=CLOCK, on_iteration_end=records.append)


def start(device: int) -> RequestFLJob:
    return RequestFLJob(
        fl_name="Lenet", fl_id=f"device-{device}", data_size=device + 1, eval_data_size=1, timestamp="0"
    )


def upload(device: int, iteration: int) -> RequestUpdateModel:
    weights = {
        "w": np.full(6, 10 * iteration + device, np.float32),
        "b": np.full(2, 10 * iteration + device, np.float32),
    }
    return RequestUpdateModel(
        fl_name="Lenet",
        fl_id=f"device-{device}",
        iteration=iteration,
        timestamp="0",
        upload_loss=0.5,
        feature_map=weights,
    )


def mean(iteration: int) -> float:
    """Return the average of an iteration: devices upload sums over their samples, of which there are three."""
    return (10 * iteration + 10 * iteration + 1) / 3


def test_a_job_cut_in_an_iteration_goes_on_to_the_end(folders: Path) -> None:
    records: list[IterationRecord] = []
    stored = opened(folders, "in_iteration_2", records)
    assert (stored.coordinator.iteration, stored.recovery.uploads) == (2, 1)
    assert np.allclose(stored.coordinator.model["w"], mean(1))
    stored.handle(upload(1, 2), CLOCK.now_ms())
    for request in (start(0), start(1), upload(0, 3), upload(1, 3)):
        stored.handle(request, CLOCK.now_ms())
    assert [(record.iteration, record.valid) for record in records] == [(2, True), (3, True)]
    assert np.allclose(stored.coordinator.model["b"], mean(3))
    stored.close()


def test_a_finished_job_is_finished_and_has_its_model(folders: Path) -> None:
    stored = opened(folders, "finished", [])
    assert stored.coordinator.iteration == 4
    assert np.allclose(stored.coordinator.model["w"], mean(3))
    stored.close()
    found = latest(folders / "checkpoints", "Lenet")
    assert found is not None and found.iteration == 3
    assert np.allclose(found.weights["w"], mean(3)) and found.weights["w"].shape == (2, 3)


def test_the_folder_of_a_cluster_is_that_of_one_server(folders: Path) -> None:
    stored = opened(folders, "cluster", [])
    assert (stored.coordinator.iteration, stored.recovery.uploads) == (2, 1)
    stored.close()


@pytest.mark.parametrize(("kind", "done"), [("PW_ENCRYPT", 27), ("PW_EXACT", 27), ("STABLE_PW_ENCRYPT", 17)])
def test_a_masked_job_cut_after_an_upload_goes_on(folders: Path, kind: str, done: int, tmp_path: Path) -> None:
    config = job(kind, 5, **KINDS[kind])
    whole = World(config)
    for step in steps(whole):
        step()
    world = StoredWorld(config, tmp_path / "up to there")
    rest = steps(world)
    for step in rest[:done]:
        step()
    world.job.close()
    world._open(folders / f"masked_{kind}")
    for step in rest[done:]:
        step()
    model = world.coordinator.model
    assert {name: values.tobytes() for name, values in whole.coordinator.model.items()} == {
        name: values.tobytes() for name, values in model.items()
    }
    world.job.close()
