"""The driver with the real MindSpore Federated 0.1.0 itself: run with ``pytest -m real_server``."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from mindfl.client import ClientConfig, DeviceClient, JobResult, run
from mindfl.client.http_transport import HttpSettings, HttpTransport
from mindfl.client.tls_settings import TlsSettings
from mindfl.data import Dataset
from mindfl.protocol import (
    Request,
    RequestGetModel,
    RequestUpdateModel,
    Response,
    ResponseCode,
    ResponseGetModel,
    Weights,
)
from mindfl.real import FederatedConfig, FederatedServer
from mindfl.real.process_registry import ProcessRegistry
from mindfl.server import Coordinator, ServerConfig
from mindfl.server.http import BackgroundServer
from mindfl.sim.engines import LiteEngine

pytestmark = [pytest.mark.real_server, pytest.mark.usefixtures("real_interpreter")]

CLIENTS, ITERATIONS = 8, 3


@pytest.fixture(scope="module")
def initial(lenet: LiteEngine) -> Weights:
    """The weights of the model file."""
    return {name: values.copy() for name, values in lenet.session().weight_views().items()}


def now_ms() -> int:
    return time.time_ns() // 1_000_000


class InOrder:
    """A transport that lets the clients upload one after the other, always in the same order.

    The real server adds float32 numbers as they come. In another order the sum is another by a rounding (3e-8 here),
    which can be enough for another pixel to win in a max pooling: then training takes another way.
    """

    def __init__(self, transport: HttpTransport, place: int, turns: Turns) -> None:
        self._transport = transport
        self._place = place
        self._turns = turns

    def send(self, request: Request, now_ms: int) -> Response:
        """Pass ``request`` on, an upload when its turn comes."""
        if not isinstance(request, RequestUpdateModel):
            return self._transport.send(request, now_ms)
        with self._turns.turn((request.iteration - 1) * CLIENTS + self._place):
            return self._transport.send(request, now_ms)


class Turns:
    """One after the other: 0, 1, 2, ..."""

    def __init__(self) -> None:
        self._next = 0
        self._changed = threading.Condition()

    @contextmanager
    def turn(self, number: int) -> Iterator[None]:
        """Wait for one's turn and let the next one in afterwards."""
        with self._changed:
            # One that has been in already comes again where the server asked it to.
            assert self._changed.wait_for(lambda: self._next >= number, timeout=120)
            yield
            self._next = max(self._next, number + 1)
            self._changed.notify_all()


def train(settings: list[HttpSettings], engine: LiteEngine, dataset: Dataset) -> tuple[list[JobResult], Weights]:
    """Let the first writers train, each at the next of the servers; return their results and the last model."""
    turns = Turns()

    def take_part(index: int) -> JobResult:
        user = dataset.user(index)
        config = ClientConfig(name=user.name, fl_id=f"device-{index}", poll_ms=50)
        client = DeviceClient(config, engine.trainer(user, threading.Event()), now_ms)
        with HttpTransport(settings[index % len(settings)]) as transport:
            in_order = InOrder(transport, index, turns)
            return run(client.train(), in_order, now_ms, lambda ms: time.sleep(ms / 1000))

    with ThreadPoolExecutor(CLIENTS) as threads:
        results = list(threads.map(take_part, range(CLIENTS)))
    with HttpTransport(settings[-1]) as transport:
        answer = transport.send(RequestGetModel(fl_name="any", iteration=ITERATIONS), now_ms())
    assert isinstance(answer, ResponseGetModel)
    return results, answer.feature_map


@pytest.fixture(scope="module")
def embedded(lenet: LiteEngine, femnist_dataset: Dataset, initial: Weights) -> Weights:
    """The last model of the same job on mindfl's own server."""
    config = ServerConfig(fl_iteration_num=ITERATIONS, start_fl_job_threshold=CLIENTS, **PLAN)
    with BackgroundServer(Coordinator(config, initial)) as server:
        results, model = train([HttpSettings(url=server.url)], lenet, femnist_dataset)
    assert results == [JobResult(ITERATIONS, ResponseCode.SUCCEED)] * CLIENTS
    return model


PLAN: dict[str, Any] = {"client_epoch_num": 1, "client_batch_size": 32, "client_learning_rate": 0.01}


def job(**values: Any) -> FederatedConfig:
    return FederatedConfig(
        fl_name="Lenet", iterations=ITERATIONS, clients=CLIENTS, epochs=1, batch_size=32, learning_rate=0.01, **values
    )


@pytest.fixture
def work(tmp_path: Path) -> Iterator[Path]:
    """A work folder; whatever the test does, nothing runs on."""
    yield tmp_path / "a jöb"
    ProcessRegistry(tmp_path / "a jöb").end()


@pytest.mark.parametrize(("tls", "server_num"), [(False, 1), (True, 2)])
def test_same_job_on_both_servers(
    tls: bool,
    server_num: int,
    work: Path,
    lenet: LiteEngine,
    femnist_dataset: Dataset,
    initial: Weights,
    embedded: Weights,
) -> None:
    with FederatedServer(work, job(tls=tls, server_num=server_num), initial) as server:
        files = TlsSettings(cert_path=server.cert_path)
        results, model = train([HttpSettings(url=url, tls=files) for url in server.urls], lenet, femnist_dataset)
        deadline = time.monotonic() + 60
        while server.state().completed != ITERATIONS:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        state, pids = server.state(), server.pids

    assert results == [JobResult(ITERATIONS, ResponseCode.SUCCEED)] * CLIENTS
    assert (state.completed, len(state.nodes)) == (ITERATIONS, server_num)
    assert list(model) == sorted(embedded)
    for name, values in embedded.items():
        np.testing.assert_allclose(model[name], values, rtol=0, atol=1e-6)
    assert max(float(np.abs(model[name] - initial[name]).max()) for name in initial) > 1e-3, "nothing was trained"
    assert not [pid for pid in pids.values() if psutil.pid_exists(pid)]
    assert not ProcessRegistry(work).running()


KILLED = """
import signal, sys
import numpy as np
from mindfl.real import FederatedConfig, FederatedServer

config = FederatedConfig(
    fl_name="Lenet", iterations=1, clients=1, epochs=1, batch_size=1, learning_rate=0.1, server_num=2
)
server = FederatedServer(sys.argv[1], config, {"w": np.ones(1, np.float32)})
server.start()
print("ready", flush=True)
signal.pause()
"""


def test_killed_and_finished(work: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", KILLED, str(work)], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout
        assert parent.stdout.readline() == "ready\n"
        left = ProcessRegistry(work).running()
        # Redis, the scheduler and two servers, each with the process that watches it
        assert len(left) == 8

        parent.kill()
        parent.wait()

    finish = [sys.executable, "-m", "mindfl", "finish", "--work_dir", str(work)]
    done = subprocess.run(finish, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert not ProcessRegistry(work).running()
    _, alive = psutil.wait_procs([psutil.Process(r.pid) for r in left if psutil.pid_exists(r.pid)], timeout=30)
    assert not [process for process in alive if process.status() != psutil.STATUS_ZOMBIE]


def test_a_redis_that_outlives_the_job(work: Path, initial: Weights, tmp_path: Path) -> None:
    """What a finished job left there does not keep the next one from beginning."""
    pytest.importorskip("redis")
    with FederatedServer(tmp_path / "other", job(manage_address=None), initial) as keeper:
        settings = (keeper.folder / "fl.yaml").read_text()
        address = settings.partition("address: ")[2].partition("\n")[0].strip("'\"")
        told: list[str] = []
        with FederatedServer(work, job(redis_address=address), initial, report=told.append) as server:
            name = server.fl_name
            assert server.state().state == "running"

        assert name.startswith("Lenet-")
        assert told[0] == f"warning: the Redis at {address} holds a job Lenet already: this one is called {name} there"
        with FederatedServer(work, job(redis_address=address, resume=True), initial) as resumed:
            assert resumed.fl_name == "Lenet"
            assert len(resumed.state().nodes) == 2
