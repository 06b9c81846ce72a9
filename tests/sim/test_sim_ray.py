"""Clients spread over a Ray cluster of two nodes on this machine: same weights, also when a node is lost."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mindfl.data import make_synthetic, open_dataset
from mindfl.errors import DataError, OptionError
from mindfl.sim import FederatedLeNetJob
from mindfl.sim.job import Silent

ray = pytest.importorskip("ray", reason="ray is not installed (pip install ray)")

CLIENTS = 5
#: algorithms whose clients remember arrays
REMEMBERING = ("scaffold", "feddyn", "ditto", "fedper")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ray") / "data"
    make_synthetic(folder, users=CLIENTS, seed=3, progress=False)
    return folder


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A cluster of two nodes; a test that takes the second away puts another in its place."""
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    made.second = made.add_node(num_cpus=1)
    yield made
    ray.shutdown()
    made.shutdown()


@pytest.fixture
def local_hash(data: Path, work: Any) -> str:
    return work("local", train_dataset=data).run().hash


@pytest.fixture
def work(tmp_path: Path, converted: Any) -> Any:
    models = tmp_path / "models"
    models.mkdir()
    (models / "lenet_train.ms").write_bytes(converted().read_bytes())

    def job(name: str, **settings: Any) -> FederatedLeNetJob:
        plan = {"client_num": CLIENTS, "iterations": 2, "epochs": 2, "per_client_models": False}
        return FederatedLeNetJob(work_dir=tmp_path / name, train_model_path=models, **{**plan, **settings})

    return job


def test_two_nodes_give_the_weights_of_a_local_run(cluster: Any, data: Path, work: Any, local_hash: str) -> None:
    result = work("ray", train_dataset=data, executor="ray", ray_address=cluster.address).run()
    assert result.hash == local_hash
    assert [len(row.accuracies) for row in result.history] == [CLIENTS, CLIENTS]


def test_a_node_lost_in_mid_iteration_changes_nothing(cluster: Any, data: Path, work: Any, local_hash: str) -> None:
    class KillsSecondNode(Silent):
        """Ends a node as soon as one share of the first iteration is done."""

        killed_at = 0

        def progress(self, progress: Any) -> None:
            if not self.killed_at:
                self.killed_at = progress.clients_done
                cluster.remove_node(cluster.second, allow_graceful=False)

    reporter = KillsSecondNode()
    job = work("lost", train_dataset=data, executor="ray", ray_address=cluster.address, reporter=reporter)
    result = job.run()
    cluster.second = cluster.add_node(num_cpus=1)
    assert 0 < reporter.killed_at < CLIENTS
    assert result.hash == local_hash
    assert [len(row.accuracies) for row in result.history] == [CLIENTS, CLIENTS]
    assert [row.clients for row in result.history] == [CLIENTS, CLIENTS]


@pytest.mark.parametrize(
    ("whose", "download", "evaluated"),
    [("all", "NO_COMPRESS", CLIENTS), ("all", "QUANT", CLIENTS), ("central", "QUANT", 0)],
)
def test_evaluation_is_that_of_a_local_run(
    cluster: Any, data: Path, work: Any, whose: str, download: str, evaluated: int
) -> None:
    """Of clients that were not drawn too, and on a central test set, whose parts are spread over the nodes."""
    settings = {"train_dataset": data, "clients_per_iteration": 2, "download_compress_type": download}
    settings |= {"evaluate": whose, "evaluate_every": 1}
    local = work("local", **settings).run()
    spread = work("ray", **settings, executor="ray", ray_address=cluster.address).run()
    assert spread.hash == local.hash
    assert [(row.measured, row.evaluated) for row in spread.history] == [(whose, evaluated)] * 2
    assert [row.accuracies for row in spread.history] == [dict(row.accuracies) for row in local.history]
    assert [row.weighted_avg for row in spread.history] == [row.weighted_avg for row in local.history]
    assert spread.confusion.matrix.tolist() == local.confusion.matrix.tolist()


def test_an_error_on_a_node_is_the_error_of_a_local_run(cluster: Any, data: Path, work: Any, tmp_path: Path) -> None:
    from mindfl.lite import LiteModel
    from mindfl.server import Coordinator
    from mindfl.sim.client_memory import Memories
    from mindfl.sim.ray_executor import NodeSetup, RayExecutor
    from mindfl.sim.upload_mode import server_settings

    job = work("broken", train_dataset=data)
    model = LiteModel.load(job.config.models / "lenet_train.ms")
    coordinator = Coordinator(server_settings(job.config, 1), model.weights)
    dataset = open_dataset(shutil.copytree(data, tmp_path / "gone"))
    setup = NodeSetup(job.config, model.content, dataset, dataset.users)
    shutil.rmtree(tmp_path / "gone")
    executor = RayExecutor(coordinator, setup, cluster.address)
    try:
        with pytest.raises(DataError, match="gone"):
            executor.run_iteration(1, [0], lambda clients, loss: None, Memories())
    finally:
        executor.close()


def test_a_cluster_that_is_not_there_is_one_line(data: Path, work: Any) -> None:
    job = work("none", train_dataset=data, executor="ray", ray_address="127.0.0.1:1")
    with pytest.raises(OptionError, match=r"no Ray cluster at 127\.0\.0\.1:1"):
        job.run()


def test_only_the_lite_engine_is_spread(work: Any) -> None:
    with pytest.raises(OptionError, match="executor ray runs the engine lite only"):
        work("engine", executor="ray", engine="mindspore")


@pytest.mark.parametrize(
    "what", ["encrypt_type=DP_ENCRYPT", *(pytest.param(f"algorithm={a}", marks=pytest.mark.slow) for a in REMEMBERING)]
)
def test_what_clients_remember_goes_with_them(what: str, cluster: Any, data: Path, work: Any) -> None:
    """A client that is drawn again may be on the other node."""
    settings = {"train_dataset": data, **dict([what.split("=")]), "clients_per_iteration": 3, "iterations": 4}
    expected = work("local", **settings).run()
    spread = {**settings, "executor": "ray", "ray_address": cluster.address}
    work("ray", **{**spread, "iterations": 2}).run()
    resumed = work("ray", **spread, resume=True).run()
    assert resumed.hash == expected.hash
    assert [dict(row.accuracies) for row in resumed.history] == [dict(row.accuracies) for row in expected.history]
