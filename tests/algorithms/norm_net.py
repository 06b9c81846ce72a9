"""A network with BatchNorm that a page of NumPy can train too."""

from __future__ import annotations

from mindspore import Tensor, nn


class NormNet(nn.Cell):
    """Two dense layers with BatchNorm between them."""

    def __init__(self, num_class: int, num_channel: int, image_size: tuple[int, int]) -> None:
        super().__init__()
        height, width = image_size
        self.hidden = nn.Dense(num_channel * height * width, 6)
        self.norm = nn.BatchNorm1d(6)
        self.out = nn.Dense(6, num_class)
        self.relu, self.flatten = nn.ReLU(), nn.Flatten()

    def construct(self, x: Tensor) -> Tensor:
        return self.out(self.relu(self.norm(self.hidden(self.flatten(x)))))
