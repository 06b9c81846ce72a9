"""Against the real MindSpore Federated 0.1.0 server itself: run with ``pytest -m real_server``."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from real_differences import deviations
from real_exchange import Session
from real_scenarios import scenarios
from real_stack import Job, RunningServer, ServerFactory
from record import golden

from mindfl.client import ClientConfig, DeviceClient, JobResult, run
from mindfl.client.http_transport import HttpSettings, HttpTransport
from mindfl.data import Dataset
from mindfl.protocol import (
    Request,
    RequestFLJob,
    RequestUpdateModel,
    Response,
    ResponseCode,
    ResponseGetModel,
    ResponseUpdateModel,
    Weights,
)
from mindfl.server import Coordinator, IterationRecord, ServerConfig
from mindfl.sim.engines import LiteEngine

pytestmark = pytest.mark.real_server

SCENARIOS = scenarios()
CLIENTS, ITERATIONS = 5, 3


@pytest.mark.parametrize("name", SCENARIOS)
def test_answers_are_the_recorded_ones(name: str, real_server: ServerFactory) -> None:
    scenario = SCENARIOS[name]

    replies = Session(real_server(scenario.job), scenario.job.http_url_prefix).run(scenario.steps)

    assert list(deviations(name, golden(name), replies)) == []


class Witness:
    """A transport that keeps what was uploaded and the models that were given out."""

    def __init__(self, url: str) -> None:
        self._transport = HttpTransport(HttpSettings(url=url))
        self.uploads: list[RequestUpdateModel] = []
        self.starts: list[RequestFLJob] = []
        self.models: dict[int, Weights] = {}

    def send(self, request: Request, now_ms: int) -> Response:
        """Pass ``request`` on."""
        response = self._transport.send(request, now_ms)
        if isinstance(request, RequestFLJob):
            self.starts.append(request)
        if isinstance(request, RequestUpdateModel) and isinstance(response, ResponseUpdateModel):
            assert response.retcode == ResponseCode.SUCCEED, response.reason
            self.uploads.append(request)
        if isinstance(response, ResponseGetModel) and response.feature_map:
            self.models[response.iteration - 1] = response.feature_map
        return response


def test_training_gives_the_model_of_our_coordinator(
    lenet: LiteEngine, femnist_dataset: Dataset, real_server: ServerFactory
) -> None:
    initial = dict(lenet.session().weight_views())
    initial = {name: values.copy() for name, values in initial.items()}
    job = Job(fl_name="training", model=initial, fl_iteration_num=ITERATIONS, start_fl_job_threshold=CLIENTS)

    witnesses, results = train(real_server(job), lenet, femnist_dataset)

    assert results == [JobResult(ITERATIONS, ResponseCode.SUCCEED)] * CLIENTS
    models = aggregated_here(initial, witnesses)
    for iteration, ours in models.items():
        for witness in witnesses:
            real = witness.models[iteration]
            assert list(real) == list(ours)
            for name, values in ours.items():
                np.testing.assert_allclose(real[name], values, rtol=0, atol=1e-6)
    moved = max(float(np.abs(models[ITERATIONS][name] - values).max()) for name, values in initial.items())
    assert moved > 1e-3, "nothing was trained"


def train(server: RunningServer, engine: LiteEngine, dataset: Dataset) -> tuple[list[Witness], list[JobResult]]:
    """Let the first writers train, each a client with a connection and a thread of its own."""
    witnesses = [Witness(server.url) for _ in range(CLIENTS)]

    def take_part(index: int) -> JobResult:
        user = dataset.user(index)
        config = ClientConfig(name=user.name, fl_id=f"device-{index}", poll_ms=50)
        client = DeviceClient(config, engine.trainer(user, threading.Event()), now_ms)
        return run(client.train(), witnesses[index], now_ms, lambda ms: time.sleep(ms / 1000))

    with ThreadPoolExecutor(CLIENTS) as threads:
        return witnesses, list(threads.map(take_part, range(CLIENTS)))


def now_ms() -> int:
    """Return milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


def aggregated_here(initial: Weights, witnesses: list[Witness]) -> dict[int, Weights]:
    """Return the model of each iteration as our coordinator makes it of the same requests."""
    records: list[IterationRecord] = []
    config = ServerConfig(fl_iteration_num=ITERATIONS, start_fl_job_threshold=CLIENTS)
    coordinator = Coordinator(config, initial, on_iteration_end=records.append)
    for iteration in range(ITERATIONS):
        for witness in witnesses:
            coordinator.handle(witness.starts[iteration], iteration)
        for witness in witnesses:
            coordinator.handle(witness.uploads[iteration], iteration)
    return {record.iteration: record.model for record in records if record.valid}
