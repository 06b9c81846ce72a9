"""What the tests of users' own classes share: a data set, a starting model, and small jobs with both."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mindfl.data import make_synthetic
from mindfl.sim import FederatedLeNetJob

HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def writers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five synthetic writers; not to be changed."""
    folder = tmp_path_factory.mktemp("extending") / "writers"
    make_synthetic(folder, users=5, seed=3, progress=False)
    return folder


@pytest.fixture(scope="module")
def ray_cluster() -> Iterator[str]:
    """The address of a Ray cluster of two nodes that no other module's tests use."""
    ray = pytest.importorskip("ray", reason="ray is not installed (pip install ray)")
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    cluster.add_node(num_cpus=1)
    yield cluster.address
    ray.shutdown()
    cluster.shutdown()


@pytest.fixture
def make_job(converted: Callable[..., Path], writers: Path, tmp_path: Path) -> Callable[..., FederatedLeNetJob]:
    """Return a function that makes a small job in a folder of the given name: 3 clients, 2 iterations, 1 epoch.

    One that resumes has the settings that were recorded.
    """

    def make(name: str = "run", *, optimizer: str = "momentum", **settings: object) -> FederatedLeNetJob:
        models = tmp_path / f"models {optimizer} {name}"
        if not models.exists():
            models.mkdir()
            shutil.copy(converted(optimizer), models / "lenet_train.ms")
        small = {"client_num": 3, "iterations": 2, "epochs": 1, "workers": 2}
        folders = {"work_dir": tmp_path / name, "train_dataset": writers, "train_model_path": models}
        return FederatedLeNetJob(**{**folders, **({} if settings.get("resume") else small), **settings})

    return make
