"""Java clients train any model file: mindfl needs its weights, not its operators."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from java_programs import Jars
from lite_writer import ModelText

from mindfl.lite import LiteModel
from mindfl.server.initial import initial_weights
from mindfl.sim import FederatedLeNetJob


@pytest.fixture
def unknown_model(converted: Callable[..., Path], tmp_path: Path) -> Path:
    """LeNet with an operator that mindfl's runtime does not have, in its forward pass."""
    text = ModelText.of(LiteModel.load(converted()))
    text.node("Activation").op = "LeakyRelu"
    path = tmp_path / "unknown.ms"
    path.write_bytes(text.write())
    return path


class Listener:
    def __init__(self) -> None:
        self.warnings: list[str] = []

    def stage(self, text: str) -> None: ...

    def warning(self, text: str) -> None:
        self.warnings.append(text)

    def progress(self, progress: object) -> None: ...

    def row(self, row: object) -> None: ...


def test_a_model_with_an_operator_that_mindfl_lacks_is_trained_by_java_clients(
    jars: Jars, bins: Path, unknown_model: Path, tmp_path: Path
) -> None:
    listener = Listener()
    job = FederatedLeNetJob(
        work_dir=tmp_path / "run",
        train_dataset=bins,
        origin_train_model_path=unknown_model,
        jar_path=jars.client,
        case_jar_path=jars.case,
        heap="64m",
        client_num=2,
        iterations=2,
        epochs=1,
        reporter=listener,
    )
    result = job.train()

    assert [row.clients for row in result.history] == [2, 2]
    assert math.isnan(result.history[-1].avg)
    assert any("cannot evaluate the model" in text and "LeakyRelu (node" in text for text in listener.warnings)
    start, trained = LiteModel.load(unknown_model), LiteModel.load(job.trained_model_path)
    assert start.weights.keys() == trained.weights.keys()
    assert any(not np.array_equal(values, trained.weights[name]) for name, values in start.weights.items())
    assert "LeakyRelu" in {node.op for node in trained.nodes}


def test_a_server_starts_with_it_and_its_model_is_fetched(
    bins: Path, unknown_model: Path, converted: Callable[..., Path], tmp_path: Path
) -> None:
    expected = LiteModel.load(converted()).weights
    assert all(np.array_equal(values, expected[name]) for name, values in initial_weights(unknown_model).items())
    job = FederatedLeNetJob(
        work_dir=tmp_path / "run", train_dataset=bins, origin_train_model_path=unknown_model, client_num=1
    )
    fetched = job.get_model()
    assert fetched.keys() == expected.keys()
    assert all(np.array_equal(values, expected[name]) for name, values in fetched.items())
