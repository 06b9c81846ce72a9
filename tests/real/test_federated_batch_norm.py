"""BatchNorm on MindSpore Federated's own server, whose list of weights lacks running statistics."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mindfl.data import Dataset
from mindfl.lite import LiteModel
from mindfl.sim import FederatedJob, Result

pytestmark = [pytest.mark.real_server, pytest.mark.usefixtures("real_interpreter", "converter_library")]

NETWORK = f"{Path(__file__).parent}/smooth_norm_net.py:SmoothNormNet"


def test_running_statistics_stay_with_each_client(femnist_dataset: Dataset, tmp_path: Path) -> None:
    """Weights, and the losses on test data, are those of mindfl's server where only trained weights are exchanged.

    The real server sums in float32. Of its rounding (3e-8) the kinks of ReLU make 3e-4 of resnet8's loss in an
    iteration, so this network has none.
    """

    def job(name: str, **settings: Any) -> FederatedJob:
        plan = {"client_num": 4, "iterations": 3, "epochs": 1, "metric": "loss"}
        return FederatedJob(work_dir=tmp_path / name, train_dataset=femnist_dataset.root, **plan, **settings)

    with job("federated", stack="federated", model=NETWORK, batch_size=8) as federated:
        theirs = federated.run()
        fetched = federated.get_model()
    file = next((tmp_path / "federated" / "ms").glob("*_train.ms"))
    began = LiteModel.load(file)
    ours = job("own", origin_train_model_path=file, train_weight_name=",".join(began.parameters)).run()
    averaged = job("averaged", origin_train_model_path=file).run()

    assert len(began.statistics) == 4, "two of each BatchNorm"
    for name in began.statistics:
        assert np.array_equal(fetched[name], began.weights[name]), f"{name} came from the server"
    moved = [float(np.abs(theirs.weights[n] - began.weights[n].reshape(-1)).max()) for n in began.parameters]
    assert max(moved) > 1e-2, "nothing was trained"
    for name in began.parameters:
        np.testing.assert_allclose(fetched[name].reshape(-1), theirs.weights[name], rtol=0, atol=1e-6, err_msg=name)
        np.testing.assert_allclose(theirs.weights[name], ours.weights[name], rtol=0, atol=1e-4, err_msg=name)
    for found, expected, other in zip(*map(losses, (theirs, ours, averaged)), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4)
        assert np.abs(found - other).max() > 0.05, "averaged statistics give other losses"


def losses(result: Result) -> list[Any]:
    """Return the clients' losses on their test data after each iteration."""
    return [np.array(list(row.accuracies.values())) for row in result.history]
