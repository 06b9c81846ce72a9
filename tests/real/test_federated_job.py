"""Jobs on MindSpore Federated's own server: run with ``pytest -m real_server``."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mindfl.client import HttpSettings
from mindfl.data import Dataset, make_synthetic, open_dataset
from mindfl.errors import MindflWarning, NotAggregatedError
from mindfl.lite import LiteModel
from mindfl.real import FederatedConfig, FederatedServer
from mindfl.real.process_registry import ProcessRegistry
from mindfl.sim import FederatedLeNetJob, History, Result
from mindfl.sim.device_job import DeviceJob, DeviceSettings

pytestmark = [pytest.mark.real_server, pytest.mark.usefixtures("real_interpreter")]

CLIENTS, ITERATIONS = 8, 3
#: after which an iteration fails that no client joins any more: time enough for two devices to train
WINDOW_MS = 5000
MakeJob = Callable[..., FederatedLeNetJob]


@pytest.fixture
def make(femnist_dataset: Dataset, converted: Callable[..., Path], tmp_path: Path) -> MakeJob:
    """Return a function that makes a job on real writers, each in a work folder of its own, from the same model."""

    def job(name: str, **settings: Any) -> FederatedLeNetJob:
        models = tmp_path / name / "ms"
        models.mkdir(parents=True)
        shutil.copy(converted(), models / "lenet_train.ms")
        given = {"work_dir": tmp_path / name, "train_model_path": models, "train_dataset": femnist_dataset.root}
        plan = {"client_num": CLIENTS, "iterations": ITERATIONS, "epochs": 1, "workers": 3}
        return FederatedLeNetJob(**{**given, **plan, **settings})

    return job


def assert_same(ours: Result, theirs: Result, tolerance: float) -> None:
    assert [row.iteration for row in theirs.history] == list(range(1, ITERATIONS + 1))
    for name, values in ours.weights.items():
        np.testing.assert_allclose(theirs.weights[name], values, atol=tolerance, rtol=0)
    for row, expected in zip(theirs.history, ours.history, strict=True):
        assert (row.clients, row.samples, row.steps) == (expected.clients, expected.samples, expected.steps)
        assert row.loss == pytest.approx(expected.loss, abs=1e-4)


@pytest.mark.parametrize("servers", [1, 2])
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_the_same_weights_as_on_the_embedded_server(make: MakeJob, tmp_path: Path, tls: bool, servers: int) -> None:
    expected = make("embedded").train()
    job = make("federated", stack="federated", enable_ssl=tls, server_num=servers)
    result = job.train()

    # Of several servers each request goes to a random one, and each sums what came to it in float32. Where another
    # last bit tips a maximum of the pooling, training amplifies it (1e-4 was seen after three iterations).
    assert_same(expected, result, 1e-6 if servers == 1 else 1e-3)
    assert isinstance(job.server, FederatedServer)
    assert ProcessRegistry(tmp_path / "federated").running() == []
    assert result.title.endswith("MindSpore Federated's server")


def test_the_server_stays_until_the_end_of_the_block(make: MakeJob, tmp_path: Path) -> None:
    with make("federated", stack="federated") as job:
        result = job.train()
        assert isinstance(job.server, FederatedServer)
        assert job.server.state().state == "finished"
        model = job.get_model()
    for name, values in result.weights.items():
        np.testing.assert_allclose(model[name].reshape(-1), values, atol=1e-6)
    assert ProcessRegistry(tmp_path / "federated").running() == []


def test_get_model_of_a_later_process(make: MakeJob) -> None:
    job = make("federated", stack="federated")
    result = job.train()
    for name, values in job.get_model().items():
        np.testing.assert_array_equal(values.reshape(-1), result.weights[name])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_nothing_is_left_running(make: MakeJob, tmp_path: Path, number: signal.Signals) -> None:
    job = make("federated", stack="federated")
    command = [sys.executable, "-m", "mindfl", "simulate", "--stack", "federated", "--client_num", str(CLIENTS)]
    command += ["--train_dataset", str(job.config.train_dataset), "--work_dir", str(job.config.work_dir)]
    command += ["--train_model_path", str(job.config.train_model_path), "--iterations", "100000"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    for line in process.stderr:
        if "iteration 2/" in line:
            break
    process.send_signal(number)
    process.communicate(timeout=120)

    if number == signal.SIGKILL:
        subprocess.run([sys.executable, "-m", "mindfl", "finish", "--work_dir", str(job.config.work_dir)], check=True)
    else:
        assert process.returncode == 130
        assert "interrupted after" in (job.config.work_dir / "summary.txt").read_text()
    assert ProcessRegistry(job.config.work_dir).running() == []


def test_writers_without_test_data(make: MakeJob, tmp_path: Path) -> None:
    """They train and upload as the others do: the weights are those of the embedded server."""
    root = tmp_path / "writers"
    make_synthetic(root, users=3, seed=3, format="bin", progress=False)
    for name in list(open_dataset(root).users)[1:]:
        (root / name / "manifest.json").unlink(missing_ok=True)
        for path in (root / name).glob("*_test_*.bin"):
            path.unlink()
    with pytest.warns(MindflWarning, match="no test data for 2 of 3 clients"):
        ours, theirs = (
            make(stack, stack=stack, train_dataset=root, client_num=3).train() for stack in ("embedded", "federated")
        )
    assert_same(ours, theirs, 1e-6)
    assert [(row.evaluated, row.measured) for row in theirs.history] == [(1, "all")] * ITERATIONS
    for row, expected in zip(theirs.history, ours.history, strict=True):
        assert dict(row.accuracies) == dict(expected.accuracies)


@pytest.fixture
def elsewhere(converted: Callable[..., Path], tmp_path: Path) -> Iterator[Callable[[int], str]]:
    """Return a function that starts a real server whose one iteration awaits so many devices, and returns its URL."""
    with ExitStack() as started:

        def start(clients: int) -> str:
            plan = FederatedConfig(
                fl_name="Lenet",
                iterations=1,
                clients=clients,
                epochs=1,
                batch_size=32,
                learning_rate=0.01,
                start_fl_job_time_window=WINDOW_MS,
                update_model_time_window=WINDOW_MS,
                global_iteration_time_window=2 * WINDOW_MS,
                manage_address=None,
            )
            weights = LiteModel.load(converted()).weights
            return started.enter_context(FederatedServer(tmp_path / "server", plan, weights)).url

        yield start


def test_a_threshold_above_the_number_of_clients_is_no_success(make: MakeJob, elsewhere: Callable[[int], str]) -> None:
    """The real server gives back the model that the iteration began with, and answers as if all were well."""
    job = make("devices", client_num=2, domain_name=elsewhere(3))
    with (
        pytest.warns(MindflWarning, match="iteration 1 failed"),
        pytest.raises(NotAggregatedError, match="none of 1 iteration was aggregated") as caught,
    ):
        job.train()
    assert "start_fl_job_threshold is likely above" in caught.value.hint
    assert [row.aggregated for row in History.load(job.config.work_dir / "history.jsonl")] == [False]
    assert not Path(job.trained_model_path).exists()


@pytest.mark.parametrize("clients", [1, 2])
def test_a_device_that_is_a_process_of_its_own_and_has_no_test_data(
    clients: int, converted: Callable[..., Path], elsewhere: Callable[[int], str], tmp_path: Path
) -> None:
    make_synthetic(tmp_path / "writers", users=1, seed=3, progress=False)
    model = Path(shutil.copy(converted(), tmp_path))
    before = LiteModel.load(model).weights
    device = DeviceJob(
        DeviceSettings(
            train_model_path=model,
            train_data=str(tmp_path / "writers"),
            user="0",
            server=HttpSettings(url=elsewhere(clients)),
            log_file=tmp_path / "client.log",
        )
    )
    with nullcontext() if clients == 1 else pytest.raises(NotAggregatedError, match="none of 1 iteration"):
        device.train()
    after = LiteModel.load(model).weights
    changed = [name for name, values in before.items() if not np.array_equal(values, after[name])]
    assert bool(changed) == (clients == 1)
