"""MindSpore as the reference: networks with an optimizer, exported, and trained step by step beside the runtime."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mindfl.lite import Session
from mindfl.models import import_mindspore

#: name -> MindSpore optimizer and its options
OPTIMIZERS: dict[str, tuple[str, dict[str, Any]]] = {
    "momentum": ("Momentum", {"learning_rate": 0.01, "momentum": 0.9}),
    "momentum with weight decay": ("Momentum", {"learning_rate": 0.01, "momentum": 0.9, "weight_decay": 0.01}),
    "sgd": ("SGD", {"learning_rate": 0.01}),
    "sgd with momentum": ("SGD", {"learning_rate": 0.01, "momentum": 0.9, "dampening": 0.3, "weight_decay": 0.01}),
    "adam": ("Adam", {"learning_rate": 0.001}),
    "adam with decoupled decay": ("AdamWeightDecay", {"learning_rate": 0.001, "weight_decay": 0.1}),
}


class Reference:
    """A network, its loss and optimizer in MindSpore. Images are NHWC and weights KHWC here, as in the ``.ms`` file."""

    def __init__(self, network: Any, optimizer: str = "momentum", *, one_hot: int | None = None) -> None:
        """``one_hot``: the number of classes of a loss whose labels are one-hot; None: they are class numbers."""
        mindspore = import_mindspore()
        mindspore.set_context(mode=mindspore.GRAPH_MODE)
        nn = mindspore.nn
        kind, options = OPTIMIZERS[optimizer]
        loss = nn.WithLossCell(network, nn.SoftmaxCrossEntropyWithLogits(sparse=not one_hot, reduction="mean"))
        self.network = network
        self._one_hot = one_hot
        self._tensor = mindspore.Tensor
        self._export = mindspore.export
        self._cell = nn.TrainOneStepCell(loss, getattr(nn, kind)(network.trainable_params(), **options))
        self._cell.set_train()

    def export(self, path: Path, image_shape: tuple[int, ...], batch: int) -> Path:
        """Write the training graph for ``batch`` images of ``image_shape`` (height, width, channels)."""
        images = self._tensor(np.zeros((batch, image_shape[2], *image_shape[:2]), np.float32))
        labels = self._labels(np.zeros(batch, np.int32))
        self._export(self._cell, images, labels, file_name=str(path), file_format="MINDIR")
        return path.with_suffix(".mindir")

    def step(self, images: NDArray[np.float32], labels: NDArray[np.int32]) -> float:
        """Train one step and return the loss."""
        return float(self._cell(self._images(images), self._labels(labels)).asnumpy())

    def _labels(self, labels: NDArray[np.int32]) -> Any:
        return self._tensor(np.eye(self._one_hot, dtype=np.float32)[labels] if self._one_hot else labels)

    def predict(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the logits."""
        self.network.set_train(False)
        logits: NDArray[np.float32] = self.network(self._images(images)).asnumpy()
        self._cell.set_train()
        return logits

    def weights(self) -> dict[str, NDArray[np.float32]]:
        """Return the trainable parameters."""
        return {p.name: _khwc(p.asnumpy().copy()) for p in self.network.trainable_params()}

    def statistics(self) -> dict[str, NDArray[np.float32]]:
        """Return the running means and variances of BatchNorm layers."""
        return {p.name: p.asnumpy().copy() for p in self.network.get_parameters() if ".moving_" in p.name}

    def set_weights(self, weights: dict[str, NDArray[np.float32]]) -> None:
        """Set the trainable parameters."""
        for parameter in self.network.trainable_params():
            value = weights[parameter.name]
            value = value.transpose(0, 3, 1, 2) if value.ndim == 4 else value
            parameter.set_data(self._tensor(np.ascontiguousarray(value)))

    def _images(self, images: NDArray[np.float32]) -> Any:
        return self._tensor(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))


def _khwc(value: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.ascontiguousarray(value.transpose(0, 2, 3, 1)) if value.ndim == 4 else value


def small_network(layers: Callable[[Any], list[Any]], *, seed: int = 7) -> Any:
    """Return a network of ``layers(nn)`` whose weights are drawn by numpy."""
    mindspore = import_mindspore()
    network = mindspore.nn.SequentialCell(layers(mindspore.nn))
    draw = np.random.default_rng(seed)
    for parameter in network.trainable_params():
        value = draw.uniform(-0.3, 0.3, parameter.shape).astype(np.float32)
        parameter.set_data(mindspore.Tensor(value))
    return network


def random_batch(session: Any, seed: int, count: int | None = None) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Return images (with negative values, so that padding with zeros shows) and labels for a session."""
    draw = np.random.default_rng(seed)
    count = session.batch_size if count is None else count
    images = draw.uniform(-1, 1, (count, *session.image_shape)).astype(np.float32)
    return images, draw.integers(0, session.classes, count).astype(np.int32)


#: (network, image shape, batch, optimizer) -> the runtime's session and MindSpore's trainer, with equal weights
MakePair = Callable[..., tuple[Session, Reference]]
