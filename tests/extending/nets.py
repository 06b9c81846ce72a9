"""A network of a user's own."""

from __future__ import annotations

from mindspore import Tensor, nn


class TinyNet(nn.Cell):
    """A convolution and a dense layer, for images of any size."""

    def __init__(self, num_class: int, num_channel: int, image_size: tuple[int, int]) -> None:
        super().__init__()
        height, width = image_size
        self.conv = nn.Conv2d(num_channel, 8, 3, stride=2, pad_mode="same")
        self.dense = nn.Dense(8 * (height // 2) * (width // 2), num_class)
        self.relu, self.flatten = nn.ReLU(), nn.Flatten()

    def construct(self, x: Tensor) -> Tensor:
        return self.dense(self.flatten(self.relu(self.conv(x))))
