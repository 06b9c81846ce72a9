"""The losses and the optimizers that a training graph can be exported with."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mindfl.errors import OptionError
from mindfl.models import import_mindspore
from mindfl.spelling import did_you_mean

#: ``sparse``: labels are class numbers, int32 [batch]; ``onehot``: float32 [batch, classes], as the demo client of
#: MindSpore Federated 0.1.0 writes them
LOSSES = ("sparse", "onehot")


def check_loss(name: str) -> None:
    """Raise :class:`OptionError` for a loss that there is not."""
    if name not in LOSSES:
        raise OptionError(f"unknown loss {name!r}", hint=f"choose one of {', '.join(LOSSES)}")


def with_loss(network: Any, name: str) -> Any:
    """Return ``network`` with the mean softmax cross entropy of its scores behind it, a MindSpore cell."""
    nn = import_mindspore().nn
    return nn.WithLossCell(network, nn.SoftmaxCrossEntropyWithLogits(sparse=name == "sparse", reduction="mean"))


def as_labels(labels: NDArray[np.int32], classes: int, name: str) -> NDArray[Any]:
    """Return labels (class numbers) in the form that the loss takes."""
    return labels if name == "sparse" else np.eye(classes, dtype=np.float32)[labels]


@dataclass(frozen=True)
class OptimizerSettings:
    """An optimizer by name. Raises :class:`OptionError` for a value that cannot train.

    Nesterov momentum is not offered: MindSpore 2.10's CPU kernel ignores it while MindSpore Lite applies it, so the
    exporter and the device would disagree.
    """

    name: str = "momentum"
    learning_rate: float = 0.01
    momentum: float = 0.9
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        if self.name not in OPTIMIZERS:
            raise OptionError(f"unknown optimizer {self.name!r}", hint=did_you_mean(self.name, OPTIMIZERS))
        if not 0.0 < self.learning_rate < math.inf:
            raise OptionError(f"the learning rate must be a positive number, got {self.learning_rate}")
        if not 0.0 <= self.momentum < 1.0:
            raise OptionError(f"momentum must be at least 0 and below 1, got {self.momentum}")
        if not 0.0 <= self.weight_decay < math.inf:
            raise OptionError(f"the weight decay must not be negative, got {self.weight_decay}")

    def build(self, parameters: list[Any]) -> Any:
        """Return the MindSpore optimizer of ``parameters``."""
        return OPTIMIZERS[self.name](import_mindspore().nn, parameters, self)


def _momentum(nn: Any, parameters: list[Any], settings: OptimizerSettings) -> Any:
    return nn.Momentum(parameters, settings.learning_rate, settings.momentum, weight_decay=settings.weight_decay)


def _sgd(nn: Any, parameters: list[Any], settings: OptimizerSettings) -> Any:
    return nn.SGD(parameters, settings.learning_rate, weight_decay=settings.weight_decay)


def _adam(nn: Any, parameters: list[Any], settings: OptimizerSettings) -> Any:
    return nn.Adam(parameters, settings.learning_rate, weight_decay=settings.weight_decay)


OPTIMIZERS: dict[str, Callable[[Any, list[Any], OptimizerSettings], Any]] = {
    "momentum": _momentum,
    "sgd": _sgd,
    "adam": _adam,
}
