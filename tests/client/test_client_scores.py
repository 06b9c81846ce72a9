"""The mean score of each class, which a device uploads after an evaluation as the reference's does."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from client_standins import Clock, StandInTrainer, device, server

from mindfl.client import InProcessTransport, run
from mindfl.client.conversation import update_request
from mindfl.client.uploading import UploadEncoder, system_randomness
from mindfl.data import make_synthetic, open_dataset
from mindfl.lite import LiteModel
from mindfl.protocol import Request, RequestUpdateModel, Response, decode, encode
from mindfl.sim.engines import LiteEngine

GOLDEN = Path(__file__).parents[2].parent / "shared" / "golden" / "wire" / "updateModel_Req_1.bin"


class Uploads(InProcessTransport):
    """Keeps the uploads, as the server decodes them."""

    def __init__(self, coordinator: Any) -> None:
        super().__init__(coordinator)
        self.seen: list[RequestUpdateModel] = []

    def send(self, request: Request, now_ms: int) -> Response:
        if isinstance(request, RequestUpdateModel):
            self.seen.append(decode(encode(request), RequestUpdateModel))
        return super().send(request, now_ms)


def uploads(trainer: StandInTrainer, **changes: Any) -> list[RequestUpdateModel]:
    coordinator, records = server(iterations=2)
    clock, transport = Clock(), Uploads(coordinator)
    run(device("f0", trainer, clock, **changes).train(), transport, clock, clock.sleep)
    assert [record.uploads for record in records] == [1, 1], "the server takes them"
    return transport.seen


@pytest.mark.parametrize("evaluate_aggregated", [True, False])
def test_after_an_evaluation_there_is_one_vector(evaluate_aggregated: bool) -> None:
    for upload in uploads(StandInTrainer(), evaluate_aggregated=evaluate_aggregated):
        assert upload.unsupervised_eval_items is not None
        (item,) = upload.unsupervised_eval_items.eval_items or ()
        assert item.eval_name == "DirectClassifierResult" and item.eval_data is not None
        assert item.eval_data.tolist() == [0.75, 0.5, -1.25]
        assert upload.upload_accuracy == 0.75


def test_without_test_data_the_vector_is_empty_but_there() -> None:
    for upload in uploads(StandInTrainer(eval_size=0)):
        assert upload.unsupervised_eval_items is not None
        assert upload.unsupervised_eval_items.eval_items == ()
        assert upload.upload_accuracy == 0.0


@pytest.mark.skipif(not GOLDEN.is_file(), reason="no recorded upload of the reference beside the repository")
def test_the_upload_has_the_fields_of_the_reference() -> None:
    theirs = decode(GOLDEN.read_bytes(), RequestUpdateModel)
    assert theirs.unsupervised_eval_items is not None
    (item,) = theirs.unsupervised_eval_items.eval_items or ()
    trainer = StandInTrainer()
    trainer.load({name: values / 32 for name, values in (theirs.feature_map or {}).items()})
    trainer.class_scores = item.eval_data
    client = device()
    config = client.config
    encoder = UploadEncoder(system_randomness, lambda lines: None, lambda: 0, lambda *_: {})
    fields = encoder.encode(trainer.weights(), trainer.train_size)
    ours = update_request(config, trainer, 1, int(theirs.timestamp or 0), fields=fields, loss=4.125, accuracy=0.75)
    ours = decode(encode(ours), RequestUpdateModel)
    for name in (
        "iteration",
        "timestamp",
        "upload_loss",
        "upload_accuracy",
        "sign",
        "upload_compress_type",
        "name_vec",
    ):
        assert getattr(ours, name) == getattr(theirs, name), name
    assert list(ours.feature_map or ()) == sorted(theirs.feature_map or ())
    assert ours.unsupervised_eval_items is not None
    (mine,) = ours.unsupervised_eval_items.eval_items or ()
    assert mine.eval_name == item.eval_name and mine.eval_data is not None and item.eval_data is not None
    assert mine.eval_data.tobytes() == item.eval_data.tobytes() and mine.eval_data.size == 62


def test_scores_are_means_over_the_test_samples(tmp_path: Path, converted: Callable[..., Path]) -> None:
    make_synthetic(tmp_path / "data", users=1, progress=False)
    user = open_dataset(tmp_path / "data").user(0)
    engine = LiteEngine(LiteModel.load(converted("momentum")))
    trainer = engine.trainer(user, threading.Event())
    assert trainer.class_scores is None
    trainer.evaluate()
    session = engine.session()
    expected = session.predict(session.batches(user.test.planes())).astype(np.float64).mean(axis=0)
    assert trainer.class_scores is not None
    assert (trainer.class_scores.dtype, trainer.class_scores.shape) == (np.float32, (62,))
    np.testing.assert_allclose(trainer.class_scores, expected, rtol=1e-4, atol=1e-5)
