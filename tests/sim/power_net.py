"""A network of a user's own with an operator that the converter refuses: a power with a computed exponent."""

from __future__ import annotations

from mindspore import Tensor, nn, ops


class PowerNet(nn.Cell):
    """A convolution with BatchNorm, and a power of one dense layer with another as exponent."""

    def __init__(self, num_class: int, num_channel: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(num_channel, 4, 5, stride=4, pad_mode="valid")
        self.norm, self.flatten = nn.BatchNorm2d(4), nn.Flatten()
        self.base, self.exponent, self.last = nn.Dense(196, 16), nn.Dense(196, 16), nn.Dense(16, num_class)

    def construct(self, x: Tensor) -> Tensor:
        x = self.flatten(ops.relu(self.norm(self.conv(x))))
        return self.last(ops.pow(ops.sigmoid(self.base(x)) + 0.5, self.exponent(x)))
