"""Endpoints, plain texts, and the bodies recorded from the reference."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from protocol_messages import same

from mindfl.protocol import (
    ENDPOINTS,
    REQUESTS,
    RESPONSES,
    CompressType,
    PlainText,
    RequestFLJob,
    RequestGetModel,
    RequestUpdateModel,
    ResponseFLJob,
    ResponseGetModel,
    ResponseUpdateModel,
    decode,
    decode_response,
    encode,
    encode_response,
    texts,
)
from mindfl.protocol.flatbuf import BrokenBufferError

GOLDEN = Path(__file__).parents[1] / "golden" / "wire"
LENET = {
    "conv1.weight": 450,
    "conv2.weight": 2400,
    "fc1.bias": 120,
    "fc1.weight": 48000,
    "fc2.bias": 84,
    "fc2.weight": 10080,
    "fc3.bias": 62,
    "fc3.weight": 5208,
}
CLIENT = "com.mindspore.flclient.demo.lenet.LenetClient"
FL_ID = "a88d0475-0a79-4374-a0c3-3eedb659efda"


def recorded(name: str) -> bytes:
    return (GOLDEN / f"{name}.bin").read_bytes()


def test_every_endpoint_has_a_request_and_a_response() -> None:
    assert {endpoint: (request.__name__, RESPONSES[request].__name__) for endpoint, request in REQUESTS.items()} == {
        "startFLJob": ("RequestFLJob", "ResponseFLJob"),
        "updateModel": ("RequestUpdateModel", "ResponseUpdateModel"),
        "getModel": ("RequestGetModel", "ResponseGetModel"),
        "exchangeKeys": ("RequestExchangeKeys", "ResponseExchangeKeys"),
        "getKeys": ("GetExchangeKeys", "ReturnExchangeKeys"),
        "shareSecrets": ("RequestShareSecrets", "ResponseShareSecrets"),
        "getSecrets": ("GetShareSecrets", "ReturnShareSecrets"),
        "getClientList": ("GetClientList", "ReturnClientList"),
        "pushListSign": ("SendClientListSign", "ResponseClientListSign"),
        "getListSign": ("RequestAllClientListSign", "ReturnAllClientListSign"),
        "reconstructSecrets": ("SendReconstructSecret", "ReconstructSecret"),
        "pullWeight": ("RequestPullWeight", "ResponsePullWeight"),
        "pushWeight": ("RequestPushWeight", "ResponsePushWeight"),
        "pushMetrics": ("RequestPushMetrics", "ResponsePushMetrics"),
    }
    assert {endpoint: request for request, endpoint in ENDPOINTS.items()} == REQUESTS


@pytest.mark.parametrize("text", [texts.SAFEMODE, texts.FINISHED, texts.NOT_READY, texts.START_SCHEMA])
def test_plain_texts_are_text_in_both_directions(text: str) -> None:
    body = encode_response(PlainText(text))

    assert body == text.encode()
    assert decode_response(body, RequestFLJob) == PlainText(text)
    assert decode_response(b"\xff" + body, RequestGetModel) == PlainText("\ufffd" + text)


def test_a_plain_text_is_found_in_512_bytes_and_not_in_more() -> None:
    text = texts.SAFEMODE.encode()

    assert isinstance(decode_response(text.rjust(512), RequestGetModel), PlainText)
    with pytest.raises(BrokenBufferError):
        decode_response(text.rjust(513), RequestGetModel)


def test_a_long_answer_that_quotes_a_plain_text_is_a_table() -> None:
    response = ResponseGetModel(retcode=500, reason=texts.SAFEMODE, timestamp="9" * 500)

    assert same(decode_response(encode_response(response), RequestGetModel), response)


def test_an_answer_that_is_neither_is_refused() -> None:
    with pytest.raises(BrokenBufferError):
        decode_response(b"<html>502 Bad Gateway</html>", RequestUpdateModel)


def test_recorded_start() -> None:
    request = decode(recorded("startFLJob_Req_0"), RequestFLJob)
    response = decode_response(recorded("startFLJob_Res_0"), RequestFLJob)

    assert request == RequestFLJob(
        fl_name=CLIENT,
        fl_id=FL_ID,
        data_size=32,
        timestamp="1795333938429",
        download_compress_types=(CompressType.NO_COMPRESS, CompressType.QUANT),
        eval_data_size=32,
    )
    assert isinstance(response, ResponseFLJob)
    assert (response.retcode, response.reason, response.iteration) == (200, "success", 1)
    assert response.is_selected and response.next_req_time == "1795333997860" and response.timestamp is None
    plan = response.fl_plan_config
    assert plan is not None and plan.cipher is not None and plan.cipher.pw_params is not None
    assert (plan.server_mode, plan.fl_name, plan.iterations, plan.epochs) == ("FEDERATED_LEARNING", "Lenet", 1, 1)
    assert (plan.mini_batch, plan.lr) == (32, np.float32(0.01))
    assert (plan.early_stop, plan.shuffle, plan.aggregation, plan.metrics) == (None, False, None, None)
    assert plan.cipher.encrypt_type == "NOT_ENCRYPT"
    assert (plan.cipher.pw_params.p, plan.cipher.pw_params.prime) == (bytes(32), bytes(33))
    assert response.feature_map is not None and response.upload_sparse_rate == np.float32(0.4)
    assert {name: len(values) for name, values in response.feature_map.items()} == LENET
    assert list(response.feature_map) == sorted(LENET)


def test_recorded_update() -> None:
    request = decode(recorded("updateModel_Req_1"), RequestUpdateModel)
    response = decode_response(recorded("updateModel_Res_1"), RequestUpdateModel)

    assert (request.fl_name, request.fl_id, request.iteration) == (CLIENT, FL_ID, 1)
    assert (request.upload_loss, request.upload_accuracy, request.timestamp) == (4.125, 0.75, "1795333938577")
    assert (request.signature, request.index_array, request.name_vec) == (None, None, None)
    assert request.feature_map is not None and request.unsupervised_eval_items is not None
    assert {name: len(values) for name, values in request.feature_map.items()} == LENET
    (item,) = request.unsupervised_eval_items.eval_items or ()
    assert item.eval_name == "DirectClassifierResult" and item.eval_data is not None and item.eval_data.shape == (62,)
    assert np.isclose(item.eval_data.sum(), 1.6, atol=1)
    assert isinstance(response, ResponseUpdateModel)
    assert (response.retcode, response.reason, response.next_req_time) == (200, "success not ready", "1795333998510")
    assert response.feature_map is None


def test_recorded_model() -> None:
    request = decode(recorded("getModel_Req_2"), RequestGetModel)
    waiting = decode_response(recorded("getModel_Res_2"), RequestGetModel)
    ready = decode_response(recorded("getModel_Res_3"), RequestGetModel)

    assert (request.fl_name, request.iteration, request.timestamp) == (CLIENT, 1, "1795333938607")
    assert isinstance(waiting, ResponseGetModel) and isinstance(ready, ResponseGetModel)
    assert (waiting.retcode, waiting.iteration, waiting.reason) == (201, 1, texts.MODEL_NOT_READY.format(given=1))
    assert waiting.feature_map == {} and waiting.compress_feature_map == ()
    assert (ready.retcode, ready.iteration, ready.reason) == (200, 2, "Get model for iteration 1")
    assert ready.feature_map is not None and list(ready.feature_map) == sorted(LENET)
    upload = decode(recorded("updateModel_Req_1"), RequestUpdateModel).feature_map
    assert upload is not None
    for name, values in ready.feature_map.items():
        assert np.allclose(values, upload[name] / 32, rtol=1e-6, atol=0), (
            "one client of 32 samples: model = upload / 32"
        )


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("startFLJob_Req_0", RequestFLJob),
        ("startFLJob_Res_0", ResponseFLJob),
        ("updateModel_Req_1", RequestUpdateModel),
        ("updateModel_Res_1", ResponseUpdateModel),
        ("getModel_Req_2", RequestGetModel),
        ("getModel_Res_2", ResponseGetModel),
        ("getModel_Res_3", ResponseGetModel),
    ],
)
def test_recorded_bodies_mean_the_same_when_we_write_them(name: str, message: type) -> None:
    body = recorded(name)

    ours = encode(decode(body, message))

    assert same(decode(ours, message), decode(body, message))
    assert abs(len(ours) - len(body)) <= 16
