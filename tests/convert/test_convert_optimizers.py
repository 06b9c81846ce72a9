"""Optimizers and clipped gradients that are written out of other operators train as in MindSpore: 20 steps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from clipping_step import clipping_step

from mindfl.convert import convert_model
from mindfl.convert.contents import inspect_model
from mindfl.errors import MindirError
from mindfl.lite import LiteModel, Session
from mindfl.lite.ops.optimizer import optimizer_of
from mindfl.models import import_mindspore

pytestmark = pytest.mark.usefixtures("in_graph_mode")

_RNG = np.random.default_rng(0)
BATCH = _RNG.random((4, 8), np.float32), _RNG.integers(0, 5, 4).astype(np.int32)


def converted(cell: Any, folder: Path) -> LiteModel:
    mindspore = import_mindspore()
    file = folder / "step.mindir"
    mindspore.export(cell, *map(mindspore.Tensor, BATCH), file_name=str(file), file_format="MINDIR")
    return convert_model(file, folder / "step.ms").model


@pytest.mark.parametrize(
    ("clip", "optimizer"),
    [
        pytest.param("each", "AdamWeightDecay", marks=pytest.mark.slow),
        pytest.param("each", "Momentum", marks=pytest.mark.slow),
        pytest.param("all", "Momentum", marks=pytest.mark.slow),
        pytest.param("all", "AdamWeightDecay", marks=pytest.mark.slow),
        ("none", "AdamWeightDecay"),
    ],
)
def test_twenty_steps_are_those_of_mindspore(
    clip: str, optimizer: str, tmp_path: Path, converter_library: Path
) -> None:
    mindspore = import_mindspore()
    cell = clipping_step(clip, optimizer)
    session = Session(converted(cell, tmp_path))
    for _ in range(20):
        expected = float(cell(*map(mindspore.Tensor, BATCH)).asnumpy())
        assert session.train_step(*BATCH) == pytest.approx(expected, abs=1e-5)
    for parameter in cell.weights:
        np.testing.assert_allclose(
            session.get_weights()[parameter.name], parameter.asnumpy(), atol=1e-4, err_msg=parameter.name
        )


@pytest.mark.slow
def test_the_decay_follows_the_learning_rate(tmp_path: Path, converter_library: Path) -> None:
    model = converted(clipping_step("none", "AdamWeightDecay"), tmp_path)
    found = optimizer_of(model)
    assert found is not None and (found.name, found.weight_decay) == ("adam_weight_decay", 0.1)
    session = Session(model)
    before = session.get_weights()
    session.set_learning_rate(1e-30)
    session.train_step(*BATCH)
    assert all(np.array_equal(value, before[name]) for name, value in session.get_weights().items())


@pytest.mark.slow
def test_clipping_with_a_branch_is_refused_for_its_sub_graphs(tmp_path: Path) -> None:
    with pytest.raises(MindirError, match="sub-graphs"):
        converted(clipping_step("branch", "Momentum"), tmp_path)


def test_an_optimizer_that_devices_lack_is_named(tmp_path: Path) -> None:
    mindspore = import_mindspore()
    nn = mindspore.nn
    network = nn.Dense(8, 5)
    loss = nn.WithLossCell(network, nn.SoftmaxCrossEntropyWithLogits(sparse=True, reduction="mean"))
    cell = nn.TrainOneStepCell(loss, nn.RMSProp(network.trainable_params(), 0.01)).set_train()
    with pytest.raises(MindirError, match=r"operator ApplyRMSProp \(node Default/.*ApplyRMSProp-op0\)") as caught:
        converted(cell, tmp_path)
    assert "nn.Momentum" in caught.value.hint
    found = inspect_model(tmp_path / "step.mindir")
    assert found.optimizer == {"optimizer": "ApplyRMSProp"}
    assert "cannot train: devices have no ApplyRMSProp" in found.lacking
