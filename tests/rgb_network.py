"""A network whose filters have one shape in either order: 3x3 on three channels."""

from __future__ import annotations

from typing import Any

from mindfl.models import ModelSpec, import_mindspore
from mindfl.models.initializers import initializer


def rgb_network(classes: int, channels: int, *, init: str, seed: int) -> Any:
    """Return two 3x3 convolutions of three filters, and a dense layer."""
    mindspore = import_mindspore()
    nn = mindspore.nn
    network = nn.SequentialCell(
        nn.Conv2d(channels, 3, 3, stride=2, pad_mode="same", has_bias=True),
        nn.ReLU(),
        nn.Conv2d(3, 3, 3, stride=2, pad_mode="same", has_bias=False),
        nn.ReLU(),
        nn.Flatten(),
        nn.Dense(3 * 8 * 8, classes),
    )
    draw = initializer(init, seed)
    for parameter in network.trainable_params():
        parameter.set_data(mindspore.Tensor(draw(parameter.shape)))
    return network


RGB = ModelSpec("rgb", rgb_network, (32, 32), 62, 3)
