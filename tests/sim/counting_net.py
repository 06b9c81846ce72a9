"""A network that changes an array of its own while it trains, and uses it where it predicts."""

from __future__ import annotations

import mindspore
import numpy as np
from mindspore import Parameter, Tensor, nn, ops


class CountingNet(nn.Cell):
    """Scores are divided by the number of training steps and one."""

    def __init__(self, num_class: int, num_channel: int, image_size: tuple[int, int]) -> None:
        super().__init__()
        height, width = image_size
        self.dense, self.flatten = nn.Dense(num_channel * height * width, num_class), nn.Flatten()
        self.steps = Parameter(Tensor(np.zeros(1, np.int32)), name="steps", requires_grad=False)

    def construct(self, x: Tensor) -> Tensor:
        """Return the scores of pictures."""
        if self.training:
            ops.assign_add(self.steps, Tensor([1], mindspore.int32))
            return self.dense(self.flatten(x) / 255)
        return self.dense(self.flatten(x) / 255) / (1 + self.steps)
