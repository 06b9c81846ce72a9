"""A recurrent network, converted by the real converter: trained by the runtime as by MindSpore."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lite_bounds import check_model

from mindfl.convert import convert_model
from mindfl.lite import Session
from mindfl.models import import_mindspore

TIME, WORDS, CLASSES = 7, 20, 6


def _network(nn: Any, **options: Any) -> Any:
    class Recurrent(nn.Cell):  # type: ignore[misc]
        """Embedded words, LSTM layers, and a dense layer on the last hidden state."""

        def __init__(self) -> None:
            super().__init__()
            self.words, self.lstm = nn.Embedding(WORDS, 5), nn.LSTM(5, 12, batch_first=True, **options)
            self.dense = nn.Dense(12, CLASSES)

        def construct(self, x: Any) -> Any:
            y, _ = self.lstm(self.words(x))
            return self.dense(y[:, -1])

    return Recurrent()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "batch"),
    [({"num_layers": 2}, 10), ({"has_bias": False}, 3), ({"num_layers": 3}, 17)],
    ids=["two layers", "without bias", "three layers"],
)
def test_twenty_steps_are_mindspore_s(
    options: dict[str, Any], batch: int, tmp_path: Path, converter_library: Path
) -> None:
    mindspore = import_mindspore()
    mindspore.set_context(mode=mindspore.GRAPH_MODE)
    nn = mindspore.nn
    network = _network(nn, **options)
    draw = np.random.default_rng(batch)
    for weight in network.trainable_params():
        weight.set_data(mindspore.Tensor(draw.uniform(-0.4, 0.4, weight.shape).astype(np.float32)))
    loss = nn.WithLossCell(network, nn.SoftmaxCrossEntropyWithLogits(sparse=True, reduction="mean"))
    trainer = nn.TrainOneStepCell(loss, nn.Momentum(network.trainable_params(), 0.1, 0.9)).set_train()
    words = draw.integers(0, WORDS, (20, batch, TIME)).astype(np.int32)
    labels = draw.integers(0, CLASSES, (20, batch)).astype(np.int32)
    file = tmp_path / "recurrent.mindir"
    mindspore.export(
        trainer, mindspore.Tensor(words[0]), mindspore.Tensor(labels[0]), file_name=str(file), file_format="MINDIR"
    )
    model = convert_model(file, tmp_path / "recurrent.ms").model
    session = Session(check_model(model))
    for x, y in zip(words, labels, strict=True):
        expected = float(trainer(mindspore.Tensor(x), mindspore.Tensor(y)).asnumpy())
        assert session.train_step(x, y) == pytest.approx(expected, abs=1e-5)
    trained = session.get_weights()
    for weight in network.trainable_params():
        wanted = weight.asnumpy()
        error = np.abs(trained[weight.name].reshape(wanted.shape) - wanted).max()
        assert error < 1e-4 * np.abs(wanted).max(), weight.name
    np.testing.assert_allclose(session.predict(words[0]), network(mindspore.Tensor(words[0])).asnumpy(), atol=1e-4)
