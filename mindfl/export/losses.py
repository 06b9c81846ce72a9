"""The losses that a training graph can be exported with: softmax cross entropy, with labels in one of two forms."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mindfl.errors import OptionError
from mindfl.models import import_mindspore

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
