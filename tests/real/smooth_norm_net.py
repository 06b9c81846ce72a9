"""A network with BatchNorm and no kinks: rounding stays rounding while it trains."""

from __future__ import annotations

from mindspore import Tensor, nn


class SmoothNormNet(nn.Cell):
    """A convolution and a dense layer, with BatchNorm and tanh behind each, and a dense layer."""

    def __init__(self, num_class: int, num_channel: int, image_size: tuple[int, int]) -> None:
        super().__init__()
        height, width = image_size
        self.conv, self.norm1 = nn.Conv2d(num_channel, 4, 3, 2, pad_mode="valid"), nn.BatchNorm2d(4)
        self.dense, self.norm2 = nn.Dense(4 * ((height - 1) // 2) * ((width - 1) // 2), 12), nn.BatchNorm1d(12)
        self.out = nn.Dense(12, num_class)
        self.tanh, self.flatten = nn.Tanh(), nn.Flatten()

    def construct(self, x: Tensor) -> Tensor:
        x = self.flatten(self.tanh(self.norm1(self.conv(x))))
        return self.out(self.tanh(self.norm2(self.dense(x))))
