"""LeNet's weights for the programs that measure the server alone: nothing has to be exported or converted."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

#: the weights of the tutorial's LeNet as devices hold them, filters [out, height, width, in]; 62 classes
SHAPES = {
    "conv1.weight": (6, 5, 5, 3),
    "conv2.weight": (16, 5, 5, 6),
    "fc1.bias": (120,),
    "fc1.weight": (120, 400),
    "fc2.bias": (84,),
    "fc2.weight": (84, 120),
    "fc3.bias": (62,),
    "fc3.weight": (62, 84),
}
#: bytes of all of them
BYTES = 4 * sum(map(math.prod, SHAPES.values()))


def random_weights() -> dict[str, NDArray[np.float32]]:
    """Return normally distributed weights in their shapes, the same ones each time."""
    random = np.random.default_rng(0)
    return {name: random.standard_normal(shape, np.float32) for name, shape in SHAPES.items()}


def flat_weights() -> dict[str, NDArray[np.float32]]:
    """Return :func:`random_weights` as messages carry them: one-dimensional."""
    return {name: values.ravel() for name, values in random_weights().items()}
