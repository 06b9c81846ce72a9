"""Networks of the kinds that are trained most: residual, depthwise, transformer, recurrent."""

from __future__ import annotations

import numpy as np
from mindspore import Tensor, nn, ops
from mindspore import dtype as mstype


class Block(nn.Cell):
    """Two convolutions with BatchNorm beside a shortcut."""

    def __init__(self, channels: int, out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, out, 3, stride=stride, pad_mode="same")
        self.conv2 = nn.Conv2d(out, out, 3, pad_mode="same")
        self.norm1, self.norm2, self.relu = nn.BatchNorm2d(out), nn.BatchNorm2d(out), nn.ReLU()
        self.short = None
        if channels != out or stride != 1:
            self.short = nn.SequentialCell(nn.Conv2d(channels, out, 1, stride=stride), nn.BatchNorm2d(out))

    def construct(self, x: Tensor) -> Tensor:
        y = self.norm2(self.conv2(self.relu(self.norm1(self.conv1(x)))))
        short = self.short(x) if self.short is not None else x
        return self.relu(y + short)


class Residual(nn.Cell):
    """A residual network with five BatchNorms one behind the other."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.relu = nn.Conv2d(3, 8, 3, pad_mode="same"), nn.BatchNorm2d(8), nn.ReLU()
        self.first, self.second, self.dense = Block(8, 8, 1), Block(8, 16, 2), nn.Dense(16, 10)

    def construct(self, x: Tensor) -> Tensor:
        x = self.second(self.first(self.relu(self.norm(self.conv(x)))))
        return self.dense(x.mean((2, 3)))


class Depthwise(nn.Cell):
    """A depthwise convolution, average pooling and dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm1 = nn.Conv2d(3, 8, 3, stride=2, pad_mode="same"), nn.BatchNorm2d(8)
        self.deep, self.norm2 = nn.Conv2d(8, 8, 3, pad_mode="same", group=8), nn.BatchNorm2d(8)
        self.point, self.norm3 = nn.Conv2d(8, 16, 1), nn.BatchNorm2d(16)
        self.relu, self.pool, self.flatten = nn.ReLU6(), nn.AvgPool2d(8, 8), nn.Flatten()
        self.drop, self.dense = nn.Dropout(p=0.2), nn.Dense(16, 10)

    def construct(self, x: Tensor) -> Tensor:
        x = self.relu(self.norm2(self.deep(self.relu(self.norm1(self.conv(x))))))
        return self.dense(self.drop(self.flatten(self.pool(self.norm3(self.point(x))))))


class Attention(nn.Cell):
    """A layer of a transformer."""

    def __init__(self, size: int, heads: int) -> None:
        super().__init__()
        self.query, self.key, self.value = nn.Dense(size, size), nn.Dense(size, size), nn.Dense(size, size)
        self.out, self.wide, self.narrow = nn.Dense(size, size), nn.Dense(size, 32), nn.Dense(32, size)
        self.norm1, self.norm2 = nn.LayerNorm((size,)), nn.LayerNorm((size,))
        self.softmax, self.gelu = nn.Softmax(-1), nn.GELU()
        self.scores, self.mix = ops.BatchMatMul(transpose_b=True), ops.BatchMatMul()
        self.heads, self.part, self.size = heads, size // heads, size
        self.scale = 1.0 / float(np.sqrt(self.part))

    def split(self, x: Tensor) -> Tensor:
        return x.reshape(x.shape[0], x.shape[1], self.heads, self.part).transpose(0, 2, 1, 3)

    def construct(self, x: Tensor) -> Tensor:
        scores = self.scores(self.split(self.query(x)), self.split(self.key(x))) * self.scale
        mixed = self.mix(self.softmax(scores), self.split(self.value(x))).transpose(0, 2, 1, 3)
        x = self.norm1(x + self.out(mixed.reshape(x.shape)))
        return self.norm2(x + self.narrow(self.gelu(self.wide(x))))


class Transformer(nn.Cell):
    """Embeddings and a layer of attention that is used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.places, self.layer = nn.Embedding(30, 16), nn.Embedding(8, 16), Attention(16, 2)
        self.pool, self.tanh, self.dense = nn.Dense(16, 16), nn.Tanh(), nn.Dense(16, 10)
        self.numbers = Tensor(np.arange(8).reshape(1, 8), mstype.int32)

    def construct(self, x: Tensor) -> Tensor:
        y = self.layer(self.layer(self.words(x) + self.places(self.numbers)))
        return self.dense(self.tanh(self.pool(y[:, 0])))


class Recurrent(nn.Cell):
    """Two layers of LSTM over embedded characters."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.lstm = nn.Embedding(30, 8), nn.LSTM(8, 16, num_layers=2, batch_first=True)
        self.dense = nn.Dense(16, 10)

    def construct(self, x: Tensor) -> Tensor:
        y, _ = self.lstm(self.words(x))
        return self.dense(y[:, -1])


IMAGES = np.random.default_rng(0).random((4, 3, 16, 16), np.float32)
TEXTS = np.random.default_rng(0).integers(0, 30, (4, 8)).astype(np.int32)
#: name -> the network, a batch of its input, its optimizer
KINDS = {
    "residual": (Residual, IMAGES, "Momentum"),
    "residual_adam": (Residual, IMAGES, "Adam"),
    "depthwise": (Depthwise, IMAGES, "Momentum"),
    "transformer": (Transformer, TEXTS, "Momentum"),
    "recurrent": (Recurrent, TEXTS, "SGD"),
}
