"""Numbers of trainable values of the shipped networks, counted from the tables of the papers."""

from __future__ import annotations


def conv(channels: int, filters: int, size: int, *, bias: bool = False) -> int:
    return channels * filters * size**2 + filters * bias


def dense(inputs: int, outputs: int) -> int:
    return (inputs + 1) * outputs


def mlp(hidden: int = 200, layers: int = 2) -> int:
    return dense(784, hidden) + (layers - 1) * dense(hidden, hidden) + dense(hidden, 10)


def leaf_cnn(width: int = 2048) -> int:
    return conv(1, 32, 5, bias=True) + conv(32, 64, 5, bias=True) + dense(64 * 7 * 7, width) + dense(width, 62)


def emnist_cnn(width: int = 128) -> int:
    convolutions = conv(1, 32, 3, bias=True) + conv(32, 64, 3, bias=True)
    return convolutions + dense(64 * 12 * 12, width) + dense(width, 62)


def _residual(stages: list[int], blocks: int) -> int:
    count, channels = conv(3, stages[0], 3) + 2 * stages[0], stages[0]
    for filters in stages:
        for _ in range(blocks):
            count += conv(channels, filters, 3) + conv(filters, filters, 3) + 4 * filters
            count += conv(channels, filters, 1) + 2 * filters if channels != filters else 0
            channels = filters
    return count + dense(channels, 10)


def resnet8(width: int = 16) -> int:
    return _residual([width, 2 * width, 4 * width], 1)


def resnet18_gn(width: int = 64) -> int:
    return _residual([width, 2 * width, 4 * width, 8 * width], 2)


def mobilenet_v2() -> int:
    """Table 2 of the paper, with the scale and shift of each BatchNorm."""
    count, channels = conv(3, 32, 3) + 64, 32
    for t, c, n in [(1, 16, 1), (6, 24, 2), (6, 32, 3), (6, 64, 4), (6, 96, 3), (6, 160, 3), (6, 320, 1)]:
        for _ in range(n):
            inner = t * channels
            count += channels * inner + 2 * inner if t > 1 else 0
            count += 9 * inner + 2 * inner + inner * c + 2 * c
            channels = c
    return count + channels * 1280 + 2 * 1280 + dense(1280, 10)


def char_lstm(hidden: int = 256, layers: int = 2, tokens: int = 90) -> int:
    lstm = 0
    for inputs in [8, *[hidden] * (layers - 1)]:
        lstm += 4 * hidden * (inputs + hidden + 2)
    return tokens * 8 + lstm + dense(hidden, tokens)


def albert(hidden: int = 312, tokens: int = 11682) -> int:
    embedding = 128 * (tokens + 512 + 2) + 2 * 128 + dense(128, hidden)
    layer = 4 * dense(hidden, hidden) + dense(hidden, 4 * hidden) + dense(4 * hidden, hidden) + 4 * hidden
    return embedding + layer + dense(hidden, hidden) + dense(hidden, 4)


#: network -> its number of trainable values, as its paper or the implementations that are compared with it have
PUBLISHED = {
    "mlp": 199_210,
    "leaf_cnn": 6_603_710,
    "emnist_cnn": 1_206_590,
    "resnet8": 78_042,
    "resnet18_gn": 11_173_962,
    "mobilenet_v2": 2_236_682,
    "char_lstm": 822_570,
    "albert": 2_872_684,
}
#: network with settings -> its number of trainable values
COUNTED = {
    "mlp": mlp(),
    "mlp:hidden=32,layers=3": mlp(32, 3),
    "leaf_cnn": leaf_cnn(),
    "leaf_cnn:dense=64": leaf_cnn(64),
    "emnist_cnn": emnist_cnn(),
    "emnist_cnn:dense=32": emnist_cnn(32),
    "resnet8": resnet8(),
    "resnet8:width=4": resnet8(4),
    "resnet18_gn": resnet18_gn(),
    "resnet18_gn:width=8": resnet18_gn(8),
    "mobilenet_v2": mobilenet_v2(),
    "char_lstm": char_lstm(),
    "char_lstm:hidden=16,layers=1": char_lstm(16, 1),
    "albert": albert(),
    "albert:hidden=64,layers=2": albert(64),
}
