"""What the real Java client of MindSpore Federated 0.1.0 sent is accepted, and answered as the real server answered."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest

from mindfl.protocol import (
    RequestGetModel,
    RequestUpdateModel,
    ResponseFLJob,
    ResponseGetModel,
    ResponseUpdateModel,
    decode,
)
from mindfl.server import Coordinator, ServerConfig
from mindfl.server.http import BackgroundServer

WIRE = Path(__file__).parents[1] / "golden" / "wire"
TIMES = {"next_req_time", "timestamp"}
INTENDED = {"upload_sparse_rate"}
"""Sent by the real server although uploads are not compressed (docs/protocol.md)."""


def recorded(name: str) -> bytes:
    return (WIRE / f"{name}.bin").read_bytes()


@pytest.fixture
def connection() -> Iterator[HTTPConnection]:
    """A job like the recorded one, behind HTTP: its model, its plan, its two clients."""
    start = decode(recorded("startFLJob_Res_0"), ResponseFLJob)
    plan = start.fl_plan_config
    assert plan is not None and start.feature_map is not None
    config = ServerConfig(
        fl_iteration_num=plan.iterations,
        start_fl_job_threshold=2,
        client_epoch_num=plan.epochs,
        client_batch_size=plan.mini_batch,
        client_learning_rate=plan.lr,
        fl_name=plan.fl_name or "",
    )
    with BackgroundServer(Coordinator(config, dict(start.feature_map)), prefix="/pre/fix/") as server:
        connection = HTTPConnection(urlsplit(server.url).netloc, timeout=30)
        yield connection
        connection.close()


def post(connection: HTTPConnection, endpoint: str, body: bytes) -> bytes:
    """Post as the real client does, its headers included."""
    lines = (WIRE / "request_headers.txt").read_text().splitlines()
    headers = dict(line.split(": ", 1) for line in lines if ": " in line and not line.startswith("("))
    kept = {name: value for name, value in headers.items() if name not in ("Content-Length", "Host")}
    connection.request("POST", f"/pre/fix/{endpoint}", body, kept)
    answer = connection.getresponse()
    assert answer.status == 200
    return answer.read()


def described(value: Any) -> Any:
    """Return a message as plain values; arrays as bytes, times only as the form that they have."""
    if is_dataclass(value):
        named = {item.name: getattr(value, item.name) for item in fields(value) if item.name not in INTENDED}
        return {
            name: _form_of_time(item) if name in TIMES and item else described(item) for name, item in named.items()
        }
    if isinstance(value, np.ndarray):
        return value.tobytes()
    if hasattr(value, "items"):
        value = tuple((name, item.tobytes()) for name, item in value.items())
    return None if value == () else value  # an empty vector and none are the same to the client


def _form_of_time(text: str) -> str:
    assert text.isdecimal()
    return f"{len(text)} digits"


def test_the_whole_exchange(connection: HTTPConnection) -> None:
    ours = decode(post(connection, "startFLJob", recorded("startFLJob_Req_0")), ResponseFLJob)
    assert described(ours) == described(decode(recorded("startFLJob_Res_0"), ResponseFLJob))

    updated = decode(post(connection, "updateModel", recorded("updateModel_Req_1")), ResponseUpdateModel)
    assert described(updated) == described(decode(recorded("updateModel_Res_1"), ResponseUpdateModel))

    waiting = decode(post(connection, "getModel", recorded("getModel_Req_2")), ResponseGetModel)
    assert described(waiting) == described(decode(recorded("getModel_Res_2"), ResponseGetModel))


def test_the_model_has_the_form_of_the_recorded_one(connection: HTTPConnection) -> None:
    """The other client's upload was not recorded: the values are another model's, all else is the same."""
    first = recorded("startFLJob_Req_0")
    fl_id = decode(recorded("updateModel_Req_1"), RequestUpdateModel).fl_id or ""
    other = fl_id[::-1]
    post(connection, "startFLJob", first)
    post(connection, "startFLJob", first.replace(fl_id.encode(), other.encode()))
    upload = recorded("updateModel_Req_1")
    post(connection, "updateModel", upload)
    post(connection, "updateModel", upload.replace(fl_id.encode(), other.encode()))

    ours = decode(post(connection, "getModel", recorded("getModel_Req_2")), ResponseGetModel)
    real = decode(recorded("getModel_Res_3"), ResponseGetModel)
    assert decode(recorded("getModel_Req_2"), RequestGetModel).iteration == 1
    assert ours.feature_map is not None and real.feature_map is not None
    assert [(name, values.size) for name, values in ours.feature_map.items()] == [
        (name, values.size) for name, values in real.feature_map.items()
    ]
    uploaded = decode(upload, RequestUpdateModel).feature_map
    assert uploaded is not None
    for name, values in ours.feature_map.items():
        np.testing.assert_allclose(values, uploaded[name] / 32, rtol=1e-6, atol=1e-9)
    both = [{**described(message), "feature_map": None} for message in (ours, real)]
    assert both[0] == both[1]


def test_the_items_of_an_evaluation_without_labels_are_read() -> None:
    upload = decode(recorded("updateModel_Req_1"), RequestUpdateModel)
    assert upload.unsupervised_eval_items is not None
    (item,) = upload.unsupervised_eval_items.eval_items or ()
    assert item.eval_name == "DirectClassifierResult" and item.eval_data is not None and item.eval_data.size == 62
