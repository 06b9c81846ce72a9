"""Networks of attention: as MindSpore trains them, step by step from the same weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lite_bounds import check_model
from numpy.typing import NDArray

from mindfl.convert import convert_model
from mindfl.lite import Session
from mindfl.models import import_mindspore

BATCH, STEPS = 4, 20
Tokens = tuple[NDArray[np.int32], ...]


def small_albert() -> Any:
    """ALBERT with two layers of two heads, which share their weights."""
    from mindfl.models.albert import Albert

    return Albert(5, vocabulary=30, embedding=8, hidden=20, layers=2, heads=2, intermediate=36)


def albert_inputs(draw: np.random.Generator) -> Tokens:
    """Token ids, segments, and masks that exclude the last tokens of a text."""
    present = np.arange(8) < draw.integers(1, 9, (BATCH, 1))
    ids = draw.integers(0, 30, (BATCH, 8)) * present
    return tuple(each.astype(np.int32) for each in (ids, draw.integers(0, 2, (BATCH, 8)), present))


def attention() -> Any:
    """The transformer that the tests of conversion export."""
    from network_kinds import Transformer

    return Transformer()


def attention_inputs(draw: np.random.Generator) -> Tokens:
    return (draw.integers(0, 30, (BATCH, 8)).astype(np.int32),)


NETWORKS: dict[str, tuple[Callable[[], Any], Callable[[np.random.Generator], Tokens], str, dict[str, float]]] = {
    "albert": (small_albert, albert_inputs, "Momentum", {"learning_rate": 0.01, "momentum": 0.9}),
    "albert with Adam": (small_albert, albert_inputs, "Adam", {"learning_rate": 1e-3}),
    "attention": (attention, attention_inputs, "Momentum", {"learning_rate": 0.01, "momentum": 0.9}),
}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name == "albert" else pytest.mark.slow) for name in NETWORKS]
)
def test_it_trains_as_in_mindspore(
    name: str, tmp_path: Path, converter_library: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "convert"))
    mindspore = import_mindspore()
    mindspore.set_context(mode=mindspore.GRAPH_MODE)
    mindspore.set_seed(1)
    make, inputs, optimizer, options = NETWORKS[name]
    network, draw = make(), np.random.default_rng(3)
    step = getattr(mindspore.nn, optimizer)(network.trainable_params(), **options)
    loss = mindspore.nn.SoftmaxCrossEntropyWithLogits(sparse=True, reduction="mean")
    cell = mindspore.nn.TrainOneStepCell(_WithLoss.of(mindspore, network, loss), step).set_train()
    first = [mindspore.Tensor(each) for each in (*inputs(draw), np.zeros(BATCH, np.int32))]
    file = tmp_path / "network.mindir"
    mindspore.export(cell, *first, file_name=str(file), file_format="MINDIR")
    session = Session(convert_model(file, tmp_path / "network.ms").model)

    found, expected = [], []
    for _ in range(STEPS):
        samples, labels = inputs(draw), draw.integers(0, 5, BATCH).astype(np.int32)
        found.append(session.train_step(samples if len(samples) > 1 else samples[0], labels))
        expected.append(float(cell(*map(mindspore.Tensor, (*samples, labels))).asnumpy()))

    np.testing.assert_allclose(found, expected, atol=1e-5, rtol=0)
    weights = session.get_weights()
    assert sorted(weights) == sorted(parameter.name for parameter in network.trainable_params())
    for parameter in network.trainable_params():
        # It adds the same to all scores of a row, so its gradient is rounding, which Adam divides by itself.
        if optimizer == "Adam" and parameter.name.endswith("key.bias"):
            continue
        value = parameter.asnumpy()
        near = max(1e-4 * np.abs(value).max(), 1e-7)
        np.testing.assert_allclose(weights[parameter.name], value, rtol=0, atol=near, err_msg=parameter.name)
    check_model(session.model)


class _WithLoss:
    """A network of several inputs with its loss."""

    @staticmethod
    def of(mindspore: Any, network: Any, loss: Any) -> Any:
        class WithLoss(mindspore.nn.Cell):  # type: ignore[misc, name-defined]
            def __init__(self) -> None:
                super().__init__()
                self._backbone, self._loss_fn = network, loss

            def construct(self, *inputs: Any) -> Any:
                return self._loss_fn(self._backbone(*inputs[:-1]), inputs[-1])

        return WithLoss()
