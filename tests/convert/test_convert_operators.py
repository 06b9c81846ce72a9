"""A rewritten graph calculates what MindSpore calculates, whichever operators it is made of."""

from __future__ import annotations

import warnings
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from mindir_in_numpy import Graph
from operator_networks import LOSSES, OPERATIONS, operator_networks

from mindfl.convert import convert_model
from mindfl.convert.mindir import check_graph, read_mindir
from mindfl.convert.rewrite import rewrite
from mindfl.models import import_mindspore

pytestmark = pytest.mark.usefixtures("in_graph_mode")

#: operations that are also tested where there is little time
FEW = ("group_norm", "silu", "binary_cross_entropy_of_logits")
ALL = [name if name in FEW else pytest.param(name, marks=pytest.mark.slow) for name in (*OPERATIONS, *LOSSES)]


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    return operator_networks(tmp_path_factory.mktemp("networks"))


def training_step(name: str, networks: ModuleType) -> tuple[Any, tuple[np.ndarray, ...]]:
    """Return a cell that takes one step of SGD with a rate of 1, and a batch for it."""
    mindspore = import_mindspore()
    nn = mindspore.nn
    mindspore.set_seed(1)
    rng = np.random.default_rng(2)
    labels: np.ndarray = rng.integers(0, 5, 4).astype(np.int32)
    loss = nn.SoftmaxCrossEntropyWithLogits(sparse=True, reduction="mean")
    if name in OPERATIONS:
        network = getattr(networks, name)()
    else:
        network, loss = nn.Dense(8, 5), getattr(networks, f"loss_{name}")()
        if not LOSSES[name][1]:
            labels = rng.random((4, 5)).astype(np.float32)
    cell = nn.TrainOneStepCell(nn.WithLossCell(network, loss), nn.SGD(network.trainable_params(), 1.0))
    return cell.set_train(), (rng.normal(size=(4, 8)).astype(np.float32), labels)


def exported(cell: Any, batch: tuple[np.ndarray, ...], folder: Path) -> Path:
    mindspore = import_mindspore()
    file = folder / "step.mindir"
    mindspore.export(cell, *map(mindspore.Tensor, batch), file_name=str(file), file_format="MINDIR")
    return file


@pytest.mark.parametrize("name", ALL)
def test_loss_and_gradients_equal_mindspore(name: str, networks: ModuleType, tmp_path: Path) -> None:
    mindspore = import_mindspore()
    cell, batch = training_step(name, networks)
    model = rewrite(read_mindir(exported(cell, batch, tmp_path)))
    check_graph(model, "rewritten")
    graph = Graph(model, batch)
    before = {parameter.name: parameter.asnumpy().copy() for parameter in cell.weights}
    loss = float(cell(*map(mindspore.Tensor, batch)).asnumpy())
    assert float(graph.value(graph.output)) == pytest.approx(loss, rel=1e-5)
    gradients = graph.gradients()
    assert sorted(gradients) == sorted(before)
    for parameter in cell.weights:
        expected = before[parameter.name] - parameter.asnumpy()
        assert np.allclose(gradients[parameter.name], expected, rtol=1e-4, atol=2e-6), parameter.name


@pytest.mark.slow
@pytest.mark.parametrize("name", [*OPERATIONS, *LOSSES])
def test_the_converter_takes_it(name: str, networks: ModuleType, tmp_path: Path, converter_library: Path) -> None:
    cell, batch = training_step(name, networks)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of operators that the runtime lacks
        result = convert_model(exported(cell, batch, tmp_path), tmp_path / "step.ms")
    assert result.rewritten
    assert sorted(result.model.parameters) == sorted(parameter.name for parameter in cell.weights)
