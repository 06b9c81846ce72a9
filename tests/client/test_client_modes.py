"""Devices that upload in other forms than plain weights: what they send, keep and log."""

from __future__ import annotations

import re
import weakref
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from client_standins import Clock, StandInTrainer, server

from mindfl.client import ClientConfig, ClientLog, DeviceClient, InProcessTransport, IterationDone, advance, run
from mindfl.client.uploading import UploadEncoder
from mindfl.errors import ClientError, ProtocolError
from mindfl.modes import UploadMode
from mindfl.modes.mode import Trained
from mindfl.privacy import ClipBound, add_noise, encode_signs, encode_update, noise_multiplier, seeded_bytes
from mindfl.protocol import (
    CipherPublicParams,
    CompressFeatureMap,
    CompressType,
    DPParams,
    FLPlan,
    Request,
    RequestUpdateModel,
    Response,
    ResponseFLJob,
    Weights,
)

GOLDEN = Path(__file__).parents[2].parent / "shared" / "golden" / "java_client"
MODEL = {
    "b": np.linspace(-1, 1, 700, dtype=np.float32),
    "a": np.linspace(0, 3, 60, dtype=np.float32),
}
SPARSE = {"upload_compress_type": "DIFF_SPARSE_QUANT", "upload_sparse_rate": 0.3}
SIGNS = {"encrypt_type": "SIGNDS", "sign_dim_out": 5}
PRIVATE = {"encrypt_type": "DP_ENCRYPT", "dp_eps": 20.0}
QUANT = {"download_compress_type": "QUANT"}


class Uneven(StandInTrainer):
    """A stand-in that moves every value by another amount, the same in every iteration."""

    def train(self, epochs: int, learning_rate: float, report: Any) -> float:
        for values in self._weights.values():
            values += np.sin(np.arange(values.size, dtype=np.float32)) / 4
        report(0, [1.0])
        return 1.0


class Recording:
    """A transport that keeps what passes."""

    def __init__(self, inner: InProcessTransport) -> None:
        self.inner = inner
        self.uploads: list[RequestUpdateModel] = []
        self.starts: list[ResponseFLJob] = []

    def send(self, request: Request, now_ms: int) -> Response:
        answer = self.inner.send(request, now_ms)
        if isinstance(request, RequestUpdateModel):
            self.uploads.append(request)
        if isinstance(answer, ResponseFLJob):
            self.starts.append(answer)
        return answer


def randomness(iteration: int) -> Any:
    return seeded_bytes("test", iteration)


def play(
    log: ClientLog | None = None, weights: Any = MODEL, memory: Any = None, **settings: Any
) -> tuple[Recording, list[Weights]]:
    """Run a job of one device, which begins with ``memory``, and two iterations; return what passed, and the models."""
    coordinator, records = server(weights=weights, **settings)
    transport, clock = Recording(InProcessTransport(coordinator)), Clock()
    config = ClientConfig(name="f0", fl_id="f0", evaluate_aggregated=False)
    client = DeviceClient(config, Uneven(), clock, log, steady_ms=clock, randomness=randomness)
    if memory:
        client.memory = memory
    run(client.train(), transport, clock, clock.sleep)
    assert [record.valid for record in records] == [True, True]
    return transport, [{name: values.reshape(-1) for name, values in sorted(MODEL.items())}] + [
        record.model for record in records
    ]


def trained(received: Weights) -> Weights:
    trainer = Uneven()
    trainer.load(received)
    trainer.train(1, 0.01, lambda *_: None)
    return trainer.weights()


def test_sparse_uploads() -> None:
    passed, models = play(**SPARSE)
    for iteration, upload in enumerate(passed.uploads, 1):
        before = models[iteration - 1]
        expected = encode_update(
            trained(before), before, data_size=32, rate=float(np.float32(0.3)), iteration=iteration
        )
        assert (upload.upload_compress_type, upload.upload_sparse_rate) == (1, np.float32(0.3))
        assert upload.feature_map is None and upload.name_vec == ("a", "b")
        assert [entry.compress_data.tobytes() for entry in upload.compress_feature_map] == [
            entry.compress_data.tobytes() for entry in expected.entries
        ]


def test_sign_uploads_move_the_model_by_the_servers_step() -> None:
    passed, models = play(**SIGNS)
    for iteration, upload in enumerate(passed.uploads, 1):
        before = models[iteration - 1]
        expected = encode_signs(
            trained(before), before, passed.starts[0].fl_plan_config.cipher.ds_params, randomness(iteration)
        )
        assert (upload.sign, upload.index_array.tolist()) == (expected.sign, expected.indices.tolist())
        assert {name: values.size for name, values in upload.feature_map.items()} == {"a": 0, "b": 0}
        moved = np.concatenate([models[iteration][name] - before[name] for name in before])
        assert np.flatnonzero(moved).tolist() == upload.index_array.tolist()
        np.testing.assert_allclose(moved[upload.index_array], upload.sign * 0.1, atol=1e-6)


@pytest.mark.parametrize("compression", [{}, SPARSE])
@pytest.mark.parametrize("memory", [None, {"clip_bound": 0.3}])
def test_noise_comes_before_compression_and_the_bound_follows_the_model(
    compression: dict[str, Any], memory: dict[str, Any] | None
) -> None:
    passed, models = play(memory=memory, **PRIVATE, **compression)
    bound = ClipBound(memory["clip_bound"]) if memory else ClipBound()
    multiplier = noise_multiplier(20.0, float(np.float32(0.01)))
    for iteration, upload in enumerate(passed.uploads, 1):
        before = models[iteration - 1]
        noisy = add_noise(trained(before), before, bound, multiplier, randomness(iteration)).weights
        if compression:
            expected = encode_update(noisy, before, data_size=32, rate=float(np.float32(0.3)), iteration=iteration)
            assert [entry.compress_data.tobytes() for entry in upload.compress_feature_map] == [
                entry.compress_data.tobytes() for entry in expected.entries
            ]
        else:
            for name, values in noisy.items():
                assert (values * np.float32(32)).tobytes() == upload.feature_map[name].tobytes()
        bound = bound.after(iteration, before, models[iteration], 1.0)
    assert bound.value != 0.05


def test_without_a_source_of_its_own_a_device_draws_from_the_system() -> None:
    uploads = []
    for _ in range(2):
        coordinator, _ = server(weights=MODEL, iterations=1, **PRIVATE)
        transport, clock = Recording(InProcessTransport(coordinator)), Clock()
        client = DeviceClient(ClientConfig(name="f0", fl_id="f0"), Uneven(), clock, steady_ms=clock)
        run(client.train(), transport, clock, clock.sleep)
        uploads += transport.uploads
    first, second = (upload.feature_map["b"] for upload in uploads)
    assert np.mean(first == second) < 0.1


def test_quantised_downloads_are_what_the_device_trains_from() -> None:
    passed, models = play(**QUANT, **SPARSE)
    assert [start.feature_map for start in passed.starts] == [None, None]
    scale = float(models[0]["b"].max() - models[0]["b"].min()) / 255
    upload = passed.uploads[0]
    assert upload.compress_feature_map is not None
    # The server adds the difference to its own model, so that the error of the download stays out of it.
    change = models[1]["b"] - models[0]["b"]
    assert 0.2 < np.mean(change != 0) < 0.4
    moved = np.flatnonzero(change)
    np.testing.assert_allclose(change[moved], np.sin(moved) / 4, atol=scale / 2)


def test_bytes_are_counted_as_encoded() -> None:
    values = sum(array.size for array in MODEL.values())
    assert play()[0].inner.traffic.bytes_up == 2 * 4 * values
    sparse = play(**QUANT, **SPARSE)[0].inner.traffic
    assert sparse.bytes_up == 2 * (int(values * np.float32(0.3)) + 2 * 8)
    assert sparse.bytes_down == 4 * (values + 2 * 8)
    assert play(**SIGNS)[0].inner.traffic.bytes_up == 2 * (5 * 4 + 4)


class Scripted:
    """A transport that answers startFLJob with this."""

    def __init__(self, answer: ResponseFLJob) -> None:
        self.answer = answer

    def send(self, request: Request, now_ms: int) -> Response:
        return self.answer


def accepted(plan: dict[str, Any] | None = None, **fields: Any) -> ResponseFLJob:
    fl_plan = FLPlan(server_mode="FEDERATED_LEARNING", iterations=2, epochs=1, mini_batch=32, lr=0.01, **(plan or {}))
    usual = {"retcode": 200, "iteration": 1, "is_selected": True, "fl_plan_config": fl_plan, "feature_map": MODEL}
    return ResponseFLJob(**{**usual, **fields})


@pytest.mark.parametrize(
    ("answer", "error", "text"),
    [
        (accepted({"cipher": CipherPublicParams(encrypt_type="ROT13")}), ProtocolError, r"asks for \(ROT13\)"),
        (accepted(upload_compress_type=CompressType(7)), ProtocolError, r"compress as the server asks for \(type 7\)"),
        (accepted(upload_compress_type=CompressType.DIFF_SPARSE_QUANT, upload_sparse_rate=2.0), ClientError, "rate"),
        (
            accepted({"cipher": CipherPublicParams(encrypt_type="DP_ENCRYPT", dp_params=DPParams(dp_eps=-1.0))}),
            ClientError,
            "dp_eps must be a number above 0",
        ),
        (
            accepted({"cipher": CipherPublicParams(encrypt_type="SIGNDS")}),
            ClientError,
            "SignDS cannot work with sign_k",
        ),
        (
            accepted(
                feature_map=None,
                download_compress_type=CompressType.QUANT,
                compress_feature_map=(
                    CompressFeatureMap(weight_fullname="a", compress_data=np.zeros(3, np.int8), min_val=2.0),
                ),
            ),
            ProtocolError,
            "smallest value exceeds the largest",
        ),
    ],
)
def test_what_a_server_cannot_ask_for(answer: ResponseFLJob, error: type[Exception], text: str) -> None:
    clock = Clock()
    client = DeviceClient(ClientConfig(name="f7", fl_id="f7"), Uneven(), clock, steady_ms=clock)
    with pytest.raises(error, match=text) as raised:
        advance(client.train(), Scripted(answer), clock)
    assert "client f7" in str(raised.value) and "iteration 1" in str(raised.value)
    assert "\n" not in str(raised.value)


class Halved(UploadMode):
    """A mode that is none of mindfl's."""

    def encode(self, trained: Trained) -> Weights:
        return {name: values / 2 for name, values in trained.weights.items()}


def test_a_device_uploads_in_a_mode_of_the_users_own_that_it_knows() -> None:
    answer = accepted({"cipher": CipherPublicParams(encrypt_type="Halved")})
    for own, fits in ((Halved(), True), (None, False)):
        transport, clock = Recording(Scripted(answer)), Clock()
        config = ClientConfig(name="f7", fl_id="f7")
        client = DeviceClient(config, Uneven(), clock, steady_ms=clock, own_mode=own)
        with pytest.raises(ProtocolError):
            advance(client.train(), transport, clock)
        assert len(transport.uploads) == fits


def test_what_a_device_notes_of_an_answer_holds_no_weights() -> None:
    coded = CompressFeatureMap(weight_fullname="a", compress_data=np.zeros(3, np.int8))
    held = weakref.ref(coded.compress_data)
    answer = accepted(feature_map=dict(MODEL), compress_feature_map=(coded,))
    encoder = UploadEncoder(randomness, lambda lines: None, Clock(), lambda weights, samples: {})
    encoder.begin(answer, MODEL)
    del answer, coded
    assert held() is None
    assert encoder._asked.feature_map is None and encoder._asked.iteration == 1


def test_a_waiting_device_holds_the_old_model_only_where_it_needs_it() -> None:
    for settings, holds in ((SPARSE, False), (SIGNS, False), (PRIVATE, True)):
        coordinator, _ = server(clients=2, weights=MODEL, **settings)
        clock = Clock()
        client = DeviceClient(ClientConfig(name="f0", fl_id="f0"), Uneven(), clock, steady_ms=clock)
        flow = client.train()
        assert not isinstance(advance(flow, InProcessTransport(coordinator), clock), IterationDone)
        assert bool(client._encoder._received) is holds
        flow.close()


def test_the_number_of_indices_and_the_time_are_logged_each_in_its_place(tmp_path: Path) -> None:
    log = ClientLog(tmp_path / "client.log", lambda: datetime(2026, 11, 22, 7, 44, 19))
    play(log, weights={"w": np.linspace(0, 1, 66_404, dtype=np.float32)}, client_learning_rate=0.01, **SIGNS)

    text = log.path.read_text()
    assert re.findall(r"outputDimension size is (\d+)", text)[0] not in ("0", "")
    assert set(re.findall(r"signds time is (\d+)ms", text)) == {"0"}


@pytest.mark.skipif(not GOLDEN.is_dir(), reason="no logs of the real client beside the repository")
@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("dp", {"encrypt_type": "DP_ENCRYPT"}),
        ("signds", {"encrypt_type": "SIGNDS"}),
        ("dsq", {"upload_compress_type": "DIFF_SPARSE_QUANT", **QUANT}),
    ],
)
def test_the_lines_of_the_real_client(name: str, settings: dict[str, Any], tmp_path: Path) -> None:
    log = ClientLog(tmp_path / "client.log", lambda: datetime(2026, 11, 22, 7, 44, 19))
    # As many values as LeNet has: the number of indices follows from it.
    play(log, weights={"w": np.linspace(0, 1, 66_404, dtype=np.float32)}, client_learning_rate=0.01, **settings)

    theirs = lines(GOLDEN / f"{name}_client0_shortpoll.log")
    assert lines(log.path) == theirs and len(theirs) > 10


def lines(path: Path) -> list[str]:
    """The lines about the form of uploads and downloads, without what depends on the moment and the weights."""
    about = r"\[Encrypt\]|\[DP\]|\[SignDS\]|GlobalParameters|\[compression\]|encrypt|signds|Compress type"
    found = re.findall(rf"^Nov (.*)\n(INFO: .*(?:{about}).*)$", path.read_text(), re.MULTILINE)
    text = [f"{source.split('flclient.')[-1]} {line}" for source, line in found]
    moments = [(r"\d+ms", "Tms"), (r"(update|Clip) is: [\d.E-]+", r"\1 is: X"), (r"SparseRate: [\d.]+", "SparseRate")]
    for pattern, replacement in moments:
        text = [re.sub(pattern, replacement, line) for line in text]
    return text
