"""Small networks of many shapes: exported by MindSpore, converted, and trained by both."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from lite_bounds import check_model
from lite_reference import MakePair, random_batch, small_network

IMAGE = (9, 8, 2)
Layers = Callable[[Any], list[Any]]

NETWORKS: dict[str, Layers] = {
    "kernel 3": lambda nn: [nn.Conv2d(2, 5, 3, pad_mode="valid"), nn.ReLU(), nn.Flatten(), nn.Dense(210, 4)],
    "kernel 1": lambda nn: [nn.Conv2d(2, 7, 1, pad_mode="valid"), nn.ReLU(), nn.Flatten(), nn.Dense(504, 5)],
    "kernel 4x2, stride 2, same": lambda nn: [
        *(nn.Conv2d(2, 5, 3, pad_mode="valid"), nn.ReLU()),
        *(nn.Conv2d(5, 6, (4, 2), stride=2, pad_mode="same"), nn.ReLU()),
        *(nn.Flatten(), nn.Dense(72, 9), nn.ReLU(), nn.Dense(9, 4)),
    ],
    "padding that differs on each side": lambda nn: [
        *(nn.Conv2d(2, 3, 3, pad_mode="pad", padding=(3, 0, 1, 2)), nn.ReLU()),
        *(nn.Conv2d(3, 5, 3, stride=(2, 1), pad_mode="pad", padding=(0, 1, 2, 3)), nn.ReLU()),
        *(nn.Flatten(), nn.Dense(5 * 5 * 12, 4)),
    ],
    "dilation 2": lambda nn: [
        *(nn.Conv2d(2, 3, 1, pad_mode="valid"), nn.ReLU()),
        *(nn.Conv2d(3, 5, 3, dilation=2, pad_mode="valid"), nn.ReLU(), nn.Flatten(), nn.Dense(100, 4)),
    ],
    "dilation 2, same": lambda nn: [
        *(nn.Conv2d(2, 3, 1, pad_mode="valid"), nn.ReLU()),
        *(nn.Conv2d(3, 5, 3, dilation=2, pad_mode="same"), nn.ReLU(), nn.Flatten(), nn.Dense(360, 4)),
    ],
    "convolutions with bias": lambda nn: [
        *(nn.Conv2d(2, 5, 3, pad_mode="valid", has_bias=True), nn.ReLU()),
        *(nn.Conv2d(5, 3, 3, pad_mode="same", has_bias=True), nn.Flatten(), nn.Dense(126, 4)),
    ],
    "overlapping pooling, valid": lambda nn: [
        *(nn.Conv2d(2, 5, 3, pad_mode="same"), nn.ReLU(), nn.MaxPool2d(3, 2, pad_mode="valid")),
        *(nn.Flatten(), nn.Dense(60, 4)),
    ],
    "overlapping pooling, same, before the activation": lambda nn: [
        *(nn.Conv2d(2, 5, 3, pad_mode="same"), nn.MaxPool2d(3, 2, pad_mode="same"), nn.ReLU()),
        *(nn.Flatten(), nn.Dense(100, 4)),
    ],
    "oblong pooling": lambda nn: [
        *(nn.Conv2d(2, 5, 3, pad_mode="same"), nn.ReLU(), nn.MaxPool2d((2, 3), (1, 2), pad_mode="same")),
        *(nn.Flatten(), nn.Dense(180, 4)),
    ],
    "groups": lambda nn: [
        *(nn.Conv2d(2, 4, 3, pad_mode="valid", group=2), nn.ReLU()),
        *(nn.Conv2d(4, 6, 3, stride=2, pad_mode="same", group=2), nn.Flatten(), nn.Dense(72, 4)),
    ],
    "depthwise, dilation 2, with bias": lambda nn: [
        *(nn.Conv2d(2, 4, 1), nn.ReLU(), nn.Conv2d(4, 4, 3, dilation=2, group=4, has_bias=True), nn.ReLU()),
        *(nn.Flatten(), nn.Dense(288, 4)),
    ],
    "depthwise, stride 2, two filters a channel": lambda nn: [
        *(nn.Conv2d(2, 4, 1), nn.ReLU()),
        *(nn.Conv2d(4, 8, (3, 2), stride=2, pad_mode="pad", padding=(1, 0, 1, 2), group=4), nn.ReLU()),
        *(nn.Flatten(), nn.Dense(160, 4)),
    ],
    "depthwise before a pooling": lambda nn: [
        *(nn.Conv2d(2, 4, 1), nn.ReLU()),
        *(nn.Conv2d(4, 4, 3, pad_mode="pad", padding=(3, 0, 1, 3), group=4), nn.ReLU(), nn.MaxPool2d(2, 2)),
        *(nn.Flatten(), nn.Dense(100, 4)),
    ],
    "average pooling": lambda nn: [
        *(nn.Conv2d(2, 4, 1), nn.ReLU(), nn.AvgPool2d(3, 2, pad_mode="same")),
        *(nn.AvgPool2d((2, 3), (1, 2), pad_mode="valid"), nn.Flatten(), nn.Dense(16, 4)),
    ],
    "dense without bias": lambda nn: [
        *(nn.Flatten(), nn.Dense(144, 6, has_bias=False), nn.ReLU(), nn.Dense(6, 4, has_bias=False)),
    ],
    "dense after dense": lambda nn: [nn.Flatten(), nn.Dense(144, 6), nn.Dense(6, 4)],
}


@pytest.mark.parametrize("name", NETWORKS)
def test_a_small_network_trains_as_in_mindspore(name: str, make_pair: MakePair) -> None:
    session, reference = make_pair(small_network(NETWORKS[name]), IMAGE, 3)

    losses = [
        (session.train_step(*batch), reference.step(*batch)) for batch in (random_batch(session, i) for i in range(5))
    ]

    np.testing.assert_allclose(*zip(*losses, strict=True), atol=1e-5, rtol=0)
    expected = reference.weights()
    for parameter, value in session.get_weights().items():
        np.testing.assert_allclose(value, expected[parameter], atol=1e-5, rtol=0, err_msg=parameter)
    check_model(session.model)
