"""Federating another network than LeNet: by name, and by a subclass."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mindfl.errors import OptionError
from mindfl.lite import LiteModel
from mindfl.models import MODELS, ModelSpec, import_mindspore
from mindfl.models.initializers import initializer
from mindfl.sim import FederatedLeNetJob


def small_network(classes: int, channels: int, *, init: str, seed: int) -> Any:
    """One convolution and one dense layer."""
    mindspore = import_mindspore()
    nn = mindspore.nn
    network = nn.SequentialCell(
        nn.Conv2d(channels, 4, 5, stride=1, pad_mode="valid", has_bias=False),
        nn.ReLU(),
        nn.MaxPool2d(kernel_size=4, stride=4),
        nn.Flatten(),
        nn.Dense(4 * 7 * 7, classes),
    )
    draw = initializer(init, seed)
    for parameter in network.trainable_params():
        parameter.set_data(mindspore.Tensor(draw(parameter.shape)))
    return network


class SmallJob(FederatedLeNetJob):
    """A job with the small network."""

    model = "small"


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(MODELS, "small", ModelSpec("small", small_network, (32, 32), 62, 3))


def test_by_subclass_and_by_name(registered: None, converter_library: Path, writers: Path, tmp_path: Path) -> None:
    given = {"train_dataset": writers, "client_num": 3, "iterations": 3, "epochs": 3}
    with SmallJob(work_dir=tmp_path / "one", **given) as job:
        by_subclass = job.run()
        weights = LiteModel.load(job.trained_model_path).weights
    by_name = FederatedLeNetJob(model="small", work_dir=tmp_path / "two", **given).run()

    assert sorted(values.size for values in weights.values()) == [62, 4 * 5 * 5 * 3, 4 * 7 * 7 * 62]
    assert by_subclass.hash == by_name.hash
    assert by_subclass.history[-1].loss < by_subclass.history[0].loss
    assert by_subclass.title.startswith("small, synthetic handwriting")


def test_unknown(tmp_path: Path, writers: Path) -> None:
    with pytest.raises(OptionError, match="unknown model 'resnet'"):
        FederatedLeNetJob(model="resnet", work_dir=tmp_path, train_dataset=writers).run()


def test_one_hot_labels_train_to_the_same_model(
    registered: None, converter_library: Path, writers: Path, tmp_path: Path
) -> None:
    given = {"train_dataset": writers, "client_num": 2, "iterations": 2, "epochs": 2, "model": "small", "workers": 1}
    sparse = FederatedLeNetJob(work_dir=tmp_path / "sparse", **given).run()
    job = FederatedLeNetJob(work_dir=tmp_path / "onehot", loss="onehot", **given)
    one_hot = job.run()

    model = LiteModel.load(job.trained_model_path)
    assert [model.tensors[index].dims for index in model.inputs] == [(32, 32, 32, 3), (32, 62)]
    for name, values in sparse.weights.items():
        np.testing.assert_allclose(one_hot.weights[name], values, atol=1e-5, err_msg=name)
    assert [row.avg for row in one_hot.history] == [row.avg for row in sparse.history]
    assert one_hot.history[-1].loss == pytest.approx(sparse.history[-1].loss, abs=1e-5)
    # A file of one's own is recognised by its inputs, and an export with the other loss is not reused.
    own = FederatedLeNetJob(
        work_dir=tmp_path / "own", origin_train_model_path=tmp_path / "onehot" / "ms" / "small_train.ms", **given
    )
    assert own.run().hash == one_hot.hash
    again = FederatedLeNetJob(work_dir=tmp_path / "onehot", **given)
    made = LiteModel.load(again.convert())
    assert [made.tensors[index].dims for index in made.inputs] == [(32, 32, 32, 3), (32,)]
    with pytest.raises(OptionError, match=r"--loss is onehot, but .* was exported for sparse"):
        FederatedLeNetJob(
            work_dir=tmp_path / "other",
            origin_train_model_path=tmp_path / "sparse" / "ms" / "small_train.ms",
            loss="onehot",
            **given,
        ).prepare_clients()


def test_an_unknown_loss_is_refused() -> None:
    with pytest.raises(OptionError, match="loss must be one of sparse, onehot"):
        FederatedLeNetJob(loss="one_hot")
