"""Compressed and private uploads under the real MindSpore Federated 0.1.0: run with ``pytest -m real_server``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mindfl.client import HttpSettings, HttpTransport
from mindfl.protocol import CompressType, RequestFLJob, ResponseFLJob
from mindfl.real import FederatedConfig, FederatedServer
from mindfl.server import Coordinator, ServerConfig
from mindfl.server.settings.reader import yaml_keys
from mindfl.sim import Result

pytestmark = [pytest.mark.real_server, pytest.mark.usefixtures("real_interpreter")]

Train = Callable[..., Result]

MODES: dict[str, dict[str, Any]] = {
    "quant": {"download_compress_type": "QUANT"},
    "sparse": {"upload_compress_type": "DIFF_SPARSE_QUANT"},
    "signs": {"encrypt_type": "SIGNDS"},
    "private": {"encrypt_type": "DP_ENCRYPT"},
    "all": {
        "encrypt_type": "DP_ENCRYPT",
        "upload_compress_type": "DIFF_SPARSE_QUANT",
        "download_compress_type": "QUANT",
    },
}


@pytest.mark.parametrize("mode", MODES)
def test_the_model_is_that_of_the_embedded_server(mode: str, train: Train) -> None:
    real, own = (train(stack, client_num=3, iterations=2, **MODES[mode]) for stack in ("federated", "embedded"))

    assert len(real.history) == len(own.history) == 2
    for name, values in own.weights.items():
        np.testing.assert_allclose(real.weights[name], values, rtol=0, atol=1e-6)
    for theirs, ours in zip(real.history, own.history, strict=True):
        assert (theirs.bytes_up, theirs.bytes_down) == (ours.bytes_up, ours.bytes_down)
        assert theirs.epsilon == pytest.approx(ours.epsilon, nan_ok=True)
    assert real.privacy == own.privacy


@pytest.mark.parametrize("mode", MODES)
def test_devices_are_told_the_same(mode: str, tmp_path: Path) -> None:
    model = {"w": np.linspace(-1, 1, 50, dtype=np.float32)}
    job = {"fl_name": "Lenet", "epochs": 1, "batch_size": 32, "learning_rate": 0.01}
    settings = yaml_keys(MODES[mode])
    config = FederatedConfig(iterations=1, clients=1, manage_address=None, settings=settings, **job)
    request = RequestFLJob(
        fl_name="any", fl_id="a", data_size=1, timestamp="1", download_compress_types=(CompressType.QUANT,)
    )
    with FederatedServer(tmp_path, config, model) as server, HttpTransport(HttpSettings(url=server.url)) as transport:
        theirs = transport.send(request, 0)
    own = ServerConfig(fl_name="Lenet", fl_iteration_num=1, start_fl_job_threshold=1, **MODES[mode])
    ours = Coordinator(own, model).handle(request, 0)

    assert isinstance(theirs, ResponseFLJob) and isinstance(ours, ResponseFLJob)
    assert theirs.fl_plan_config is not None and ours.fl_plan_config is not None
    assert theirs.fl_plan_config.cipher == ours.fl_plan_config.cipher
    for name in ("upload_compress_type", "download_compress_type"):
        assert getattr(theirs, name) == getattr(ours, name)
    if own.upload_compression:
        assert theirs.upload_sparse_rate == ours.upload_sparse_rate
    for one, other in zip(theirs.compress_feature_map or (), ours.compress_feature_map or (), strict=True):
        assert one.compress_data is not None and other.compress_data is not None
        assert one.compress_data.tobytes() == other.compress_data.tobytes()
        assert (one.min_val, one.max_val) == (other.min_val, other.max_val)
