"""A rewritten graph calculates what MindSpore calculates, whichever operators it is made of."""

from __future__ import annotations

import warnings
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from mindir_in_numpy import Graph
from operator_networks import EQUIVALENT, LOSSES, OPERATIONS, exported, operator_networks, training_step

from mindfl.convert import convert_model
from mindfl.convert.mindir import check_graph, read_mindir
from mindfl.convert.rewrite import rewrite
from mindfl.lite import Session
from mindfl.models import import_mindspore

pytestmark = pytest.mark.usefixtures("in_graph_mode")

#: operations that are also tested where there is little time
FEW = ("group_norm", "silu", "binary_cross_entropy_of_logits")
ALL = [name if name in FEW else pytest.param(name, marks=pytest.mark.slow) for name in (*OPERATIONS, *LOSSES)]


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    return operator_networks(tmp_path_factory.mktemp("networks"))


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


@pytest.mark.parametrize(("name", "other"), list(EQUIVALENT.items()))
def test_what_mindspore_has_no_kernel_for_equals_what_it_has(
    name: str, other: str, networks: ModuleType, tmp_path: Path
) -> None:
    """MindSpore 2.10 exports these on a CPU, but does not execute them there."""
    found = []
    for each in (name, other):
        cell, batch = training_step(each, networks)
        model = rewrite(read_mindir(exported(cell, batch, tmp_path)))
        check_graph(model, "rewritten")
        graph = Graph(model, batch)
        found.append((float(graph.value(graph.output)), graph.gradients()))
    (loss, gradients), (expected, slopes) = found
    assert loss == pytest.approx(expected, rel=1e-6)
    assert sorted(gradients) == sorted(slopes)
    for parameter, gradient in gradients.items():
        np.testing.assert_allclose(gradient, slopes[parameter], rtol=1e-5, atol=1e-7, err_msg=parameter)


@pytest.mark.slow
@pytest.mark.parametrize("name", [*OPERATIONS, *LOSSES])
def test_the_converter_takes_it(name: str, networks: ModuleType, tmp_path: Path, converter_library: Path) -> None:
    cell, batch = training_step(name, networks)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of operators that the runtime lacks
        result = convert_model(exported(cell, batch, tmp_path), tmp_path / "step.ms")
    assert result.rewritten
    assert sorted(result.model.parameters) == sorted(parameter.name for parameter in cell.weights)


@pytest.mark.slow
@pytest.mark.parametrize("name", [*OPERATIONS, *LOSSES])
def test_the_runtime_trains_it_as_mindspore_does(
    name: str, networks: ModuleType, tmp_path: Path, converter_library: Path
) -> None:
    """20 steps from the same weights on one batch."""
    mindspore = import_mindspore()
    cell, batch = training_step(name, networks, rate=0.05)
    session = Session(convert_model(exported(cell, batch, tmp_path), tmp_path / "step.ms").model)
    for _ in range(20):
        expected = float(cell(*map(mindspore.Tensor, batch)).asnumpy())
        assert session.train_step(*batch) == pytest.approx(expected, rel=1e-5, abs=1e-5)
    weights = session.get_weights()
    for parameter in cell.weights:
        value = parameter.asnumpy()
        scale = float(np.abs(value).max())
        np.testing.assert_allclose(weights[parameter.name], value, atol=1e-4 * scale, err_msg=parameter.name)
