"""A perceptron with hidden layers, the smallest of the shipped networks."""

from __future__ import annotations

import itertools
import math
from typing import Any

from mindfl.models._mindspore import import_mindspore
from mindfl.models.initializers import set_weights
from mindfl.models.network_checks import check_least

_nn = import_mindspore().nn


class MLP(_nn.Cell):  # type: ignore[misc, name-defined]
    """Multilayer perceptron: float32 images [N, num_channel, height, width] -> logits, float32 [N, num_class].

    Dense layers of ``hidden`` outputs, each with ReLU, then one of ``num_class`` outputs. The default is the "2NN" of
    McMahan et al. 2017 ("Communication-Efficient Learning of Deep Networks from Decentralized Data"): 199,210 values
    for 10 classes and 1 channel of 28x28.

    Args:
        num_class: number of outputs, at least 1.
        num_channel: channels of the image, at least 1.
        image_size: height and width of the image.
        hidden: outputs of each hidden layer, at least 1.
        layers: number of hidden layers, at least 1.
        init: ``"lecun"``, ``"he"``, ``"torch"`` or ``"truncated_normal"``
            (:func:`mindfl.models.initializers.initializer`).
        seed: starts the generator of the initial weights.

    Raises:
        OptionError: an argument has no usable value.

    Example:
        >>> sum(parameter.size for parameter in MLP().trainable_params())
        199210
    """

    def __init__(
        self,
        num_class: int = 10,
        num_channel: int = 1,
        *,
        image_size: tuple[int, int] = (28, 28),
        hidden: int = 200,
        layers: int = 2,
        init: str = "lecun",
        seed: int = 0,
    ) -> None:
        super().__init__()
        check_least(num_class=num_class, num_channel=num_channel, hidden=hidden, layers=layers)
        sizes = [num_channel * math.prod(image_size), *[hidden] * layers]
        self.flatten = _nn.Flatten()
        self.hidden = _nn.SequentialCell(
            [_nn.SequentialCell(_nn.Dense(*pair), _nn.ReLU()) for pair in itertools.pairwise(sizes)]
        )
        self.head = _nn.Dense(hidden, num_class)
        set_weights(self, init, seed)

    def construct(self, x: Any) -> Any:
        """Return the logits of the images ``x``."""
        return self.head(self.hidden(self.flatten(x)))
