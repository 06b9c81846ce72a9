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


class CenteringNet(nn.Cell):
    """Hidden values are centered by the mean of the batch, or by a running mean where it predicts."""

    def __init__(self, num_class: int, num_channel: int, image_size: tuple[int, int]) -> None:
        super().__init__()
        height, width = image_size
        self.hidden, self.flatten = nn.Dense(num_channel * height * width, 8), nn.Flatten()
        self.dense = nn.Dense(8, num_class)
        self.running = Parameter(Tensor(np.zeros(8, np.float32)), name="running", requires_grad=False)

    def construct(self, x: Tensor) -> Tensor:
        """Return the scores of pictures."""
        hidden = self.hidden(self.flatten(x / 255.0))
        if self.training:
            mean = hidden.mean(0)
            ops.assign(self.running, self.running * 0.9 + 0.1 * mean)
            hidden = hidden - mean
        else:
            hidden = hidden - self.running
        return self.dense(ops.relu(hidden))
