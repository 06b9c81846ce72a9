"""Coordinators of parts of a job: what they sum for another counts once and gives bitwise the same model."""

from __future__ import annotations

import numpy as np
import pytest

from mindfl.errors import ProtocolError
from mindfl.protocol import RequestFLJob, RequestGetModel, RequestUpdateModel, ResponseCode, ResponseGetModel
from mindfl.server import Coordinator, EdgeCoordinator, IterationRecord, ServerConfig

NOW = 1_000_000
NAMES = tuple("abcde")
MODEL = {"w": np.arange(3, dtype=np.float32), "v": np.ones((2, 2), np.float32)}


def config(clients: int) -> ServerConfig:
    return ServerConfig(fl_iteration_num=3, start_fl_job_threshold=clients)


def take_part(server: Coordinator, name: str) -> None:
    rng = np.random.default_rng(ord(name))
    size = int(rng.integers(1, 300))
    shared = {"fl_name": "LeNet", "fl_id": name, "timestamp": "0"}
    server.handle(RequestFLJob(**shared, iteration=0, data_size=size, eval_data_size=3), NOW)
    upload = {name: rng.normal(size=value.size).astype(np.float32) * size for name, value in MODEL.items()}
    accuracy = float(np.float32(rng.random()))
    answer = server.handle(
        RequestUpdateModel(
            **shared, iteration=server.iteration, feature_map=upload, upload_loss=accuracy * 2, upload_accuracy=accuracy
        ),
        NOW,
    )
    assert answer.retcode == ResponseCode.SUCCEED


def edge(names: str, iteration: int = 1) -> EdgeCoordinator:
    server = EdgeCoordinator(config(len(names)), MODEL, iteration)
    for name in names:
        take_part(server, name)
    return server


def test_parts_give_the_same_record_and_model_as_one_coordinator() -> None:
    records: list[IterationRecord] = []
    whole = Coordinator(config(5), MODEL, on_iteration_end=records.append)
    for name in NAMES:
        take_part(whole, name)
    parted = Coordinator(config(5), MODEL, on_iteration_end=records.append)
    for names in ("db", "a", "ec"):
        parted.job.absorb(edge(names).part(), NOW)
    one, other = records
    assert (one.loss, one.accuracy, one.data_size, one.uploads) == (
        other.loss,
        other.accuracy,
        other.data_size,
        other.uploads,
    )
    for name in MODEL:
        assert one.model[name].tobytes() == other.model[name].tobytes()


def test_a_client_counts_once() -> None:
    server = Coordinator(config(5), MODEL)
    server.job.absorb(edge("ab").part(), NOW)
    with pytest.raises(ProtocolError, match="one too many"):
        server.job.absorb(edge("bc").part(), NOW)
    server.job.absorb(edge("cde").part(), NOW)
    assert server.iteration == 2


def test_a_sum_of_another_iteration_is_refused() -> None:
    server = Coordinator(config(2), MODEL)
    with pytest.raises(ProtocolError, match="a sum of iteration 2 came in iteration 1"):
        server.job.absorb(edge("ab", iteration=2).part(), NOW)


def test_more_clients_than_the_iteration_takes_are_refused() -> None:
    with pytest.raises(ProtocolError, match="one too many"):
        Coordinator(config(2), MODEL).job.absorb(edge("abc").part(), NOW)


def test_an_edge_gives_its_clients_the_published_model_and_none_before() -> None:
    server = edge("ab")
    ask = RequestGetModel(fl_name="LeNet", iteration=1, timestamp="0")
    waiting = server.handle(ask, NOW)
    assert isinstance(waiting, ResponseGetModel)
    assert waiting.retcode == ResponseCode.SUC_NOT_READY
    model = {name: np.full(value.size, 7, np.float32) for name, value in MODEL.items()}
    server.publish(model, NOW)
    ready = server.handle(ask, NOW)
    assert isinstance(ready, ResponseGetModel)
    assert (ready.retcode, ready.iteration) == (ResponseCode.SUCCEED, 2)
    assert ready.feature_map is not None
    assert ready.feature_map["w"].tolist() == [7, 7, 7]
