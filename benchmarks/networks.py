"""Training steps a second of the shipped networks on one thread: one mindfl session beside PyTorch.

``python networks.py [NETWORK...]``. Both train the same layers on batches of the same size, in turns in one process,
with momentum; processor time counts, so that other work of the computer does not. Prints steps a second and the ratio.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - as everyone calls it

from mindfl.convert import convert_model
from mindfl.export import export_mindir
from mindfl.lite import Session

#: runs its steps and returns nothing
Steps = Callable[[int], object]


def _leaf_cnn() -> nn.Module:
    return nn.Sequential(
        *(nn.Conv2d(1, 32, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(32, 64, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(3136, 2048), nn.ReLU(), nn.Linear(2048, 62)),
    )


class _Block(nn.Module):
    """Two convolutions with BatchNorm beside a shortcut."""

    def __init__(self, channels: int, filters: int, stride: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *(nn.Conv2d(channels, filters, 3, stride, 1, bias=False), nn.BatchNorm2d(filters), nn.ReLU()),
            *(nn.Conv2d(filters, filters, 3, 1, 1, bias=False), nn.BatchNorm2d(filters)),
        )
        self.shortcut = nn.Sequential()
        if stride != 1 or channels != filters:
            self.shortcut.extend([nn.Conv2d(channels, filters, 1, stride, bias=False), nn.BatchNorm2d(filters)])

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.layers(x) + self.shortcut(x))


def _resnet8() -> nn.Module:
    return nn.Sequential(
        *(nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU()),
        *(_Block(16, 16, 1), _Block(16, 32, 2), _Block(32, 64, 2)),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10)),
    )


def _layer(channels: int, filters: int, size: int, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    convolution = nn.Conv2d(channels, filters, size, stride, size // 2, groups=groups, bias=False)
    return [convolution, nn.BatchNorm2d(filters), nn.ReLU6()]


class _Inverted(nn.Module):
    """Expansion, depthwise convolution and projection, with a shortcut where the shape stays."""

    def __init__(self, channels: int, filters: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = channels * expansion
        expand = _layer(channels, inner, 1) if expansion > 1 else []
        self.layers = nn.Sequential(*expand, *_layer(inner, inner, 3, stride, inner), *_layer(inner, filters, 1)[:-1])
        self.shortcut = stride == 1 and channels == filters

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layers(x)
        return x + y if self.shortcut else y


def _mobilenet_v2() -> nn.Module:
    stages = ((1, 16, 1, 1), (6, 24, 2, 1), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
    layers, channels = _layer(3, 32, 3), 32
    for expansion, filters, count, stride in stages:
        for block in range(count):
            layers.append(_Inverted(channels, filters, 1 if block else stride, expansion))
            channels = filters
    return nn.Sequential(*layers, *_layer(320, 1280, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1280, 10))


class _Attention(nn.Module):
    """A layer of ALBERT: attention of 12 heads, and two dense layers."""

    def __init__(self, size: int, wide: int, heads: int) -> None:
        super().__init__()
        self.query, self.key, self.value, self.out = (nn.Linear(size, size) for _ in range(4))
        self.norm1, self.norm2 = nn.LayerNorm(size, 1e-12), nn.LayerNorm(size, 1e-12)
        self.dense = nn.Sequential(nn.Linear(size, wide), nn.GELU("tanh"), nn.Linear(wide, size))
        self.heads = heads

    def forward(self, x: Tensor, excluded: Tensor) -> Tensor:
        query, key, value = (self._heads(layer(x)) for layer in (self.query, self.key, self.value))
        scores = query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5 + excluded
        x = self.norm1(x + self.out((scores.softmax(-1) @ value).transpose(1, 2).reshape(x.shape)))
        y: Tensor = self.norm2(x + self.dense(x))
        return y

    def _heads(self, x: Tensor) -> Tensor:
        return x.view(*x.shape[:2], self.heads, -1).transpose(1, 2)


class _Albert(nn.Module):
    """ALBERT of MindSpore Federated's demo: four layers that share their weights."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.segments, self.positions = (nn.Embedding(count, 128) for count in (11682, 2, 512))
        self.norm, self.widen, self.layer = nn.LayerNorm(128, 1e-12), nn.Linear(128, 312), _Attention(312, 1248, 12)
        self.head = nn.Sequential(nn.Linear(312, 312), nn.Tanh(), nn.Linear(312, 4))

    def forward(self, ids: Tensor, segments: Tensor, mask: Tensor) -> Tensor:
        excluded = (1 - mask.float())[:, None, None] * -10000.0
        x = self.words(ids) + self.segments(segments) + self.positions(torch.arange(ids.shape[1]))
        x = self.widen(self.norm(x))
        for _ in range(4):
            x = self.layer(x, excluded)
        y: Tensor = self.head(x[:, 0])
        return y


class CharLSTM(nn.Module):
    """Characters' embeddings, two LSTM layers, and a dense layer on the last step's state."""

    def __init__(self, vocabulary: int = 90, classes: int = 90, embedding: int = 8, hidden: int = 256) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, embedding)
        self.lstm = nn.LSTM(embedding, hidden, num_layers=2, batch_first=True)
        self.head = nn.Linear(hidden, classes)

    def forward(self, ids: Tensor) -> Tensor:
        """Return the logits of the character after each row of ``ids``."""
        steps, _ = self.lstm(self.embedding(ids))
        y: Tensor = self.head(steps[:, -1])
        return y


#: network -> the same in PyTorch, batch size, shape of an image (NHWC) or text, classes, steps of one turn
NETWORKS: dict[str, tuple[Callable[[], nn.Module], int, tuple[int, ...], int, int]] = {
    "leaf_cnn": (_leaf_cnn, 20, (28, 28, 1), 62, 20),
    "resnet8": (_resnet8, 32, (32, 32, 3), 10, 20),
    "mobilenet_v2": (_mobilenet_v2, 32, (32, 32, 3), 10, 3),
    "char_lstm": (CharLSTM, 10, (80,), 90, 5),
    "albert": (_Albert, 16, (8,), 4, 5),
}


def _samples(name: str, draw: np.random.Generator, batch: int, shape: tuple[int, ...]) -> tuple[np.ndarray, ...]:
    """Return images, ids of characters, or token ids, segments and mask of texts."""
    if len(shape) == 3:
        return (draw.standard_normal((batch, *shape)).astype(np.float32),)
    if name == "char_lstm":
        return (draw.integers(0, 90, (batch, *shape)).astype(np.int32),)
    ids = draw.integers(0, 11682, (batch, *shape)).astype(np.int32)
    return ids, np.zeros_like(ids), np.ones_like(ids)


def _torch_steps(module: nn.Module, samples: tuple[np.ndarray, ...], labels: np.ndarray) -> Steps:
    x = [torch.from_numpy(each.transpose(0, 3, 1, 2).copy() if each.ndim == 4 else each) for each in samples]
    y = torch.from_numpy(labels).long()
    optimizer = torch.optim.SGD(module.parameters(), 0.01, 0.9)
    module.train()

    def run(steps: int) -> None:
        for _ in range(steps):
            optimizer.zero_grad()
            F.cross_entropy(module(*x), y).backward()  # type: ignore[no-untyped-call]
            optimizer.step()

    return run


def _mindfl_steps(name: str, batch: int, samples: tuple[np.ndarray, ...], labels: np.ndarray) -> Steps:
    with tempfile.TemporaryDirectory() as folder:
        mindir = export_mindir(Path(folder) / name, model=name, batch_size=batch).path
        session = Session(convert_model(mindir, Path(folder) / name).model)
    batches = session.batches(samples if len(samples) > 1 else samples[0])
    return lambda steps: session.train(batches, labels, steps=steps)


def compare(name: str, rounds: int) -> tuple[list[float], list[float]]:
    """Return steps a second of mindfl's and PyTorch's turns."""
    module, batch, shape, classes, steps = NETWORKS[name]
    draw = np.random.default_rng(0)
    samples = _samples(name, draw, batch, shape)
    labels = draw.integers(0, classes, batch).astype(np.int32)
    contenders = (_mindfl_steps(name, batch, samples, labels), _torch_steps(module(), samples, labels))
    rates: tuple[list[float], list[float]] = ([], [])
    for run in contenders:
        run(2)
    for _ in range(rounds):
        for run, found in zip(contenders, rates, strict=True):
            begin = time.thread_time()
            run(steps)
            found.append(steps / (time.thread_time() - begin))
    return rates


def main() -> None:
    """Compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("networks", nargs="*", default=list(NETWORKS), metavar="NETWORK")
    parser.add_argument("--rounds", type=int, default=7, help="turns of each")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for name in arguments.networks:
        mindfl, other = compare(name, arguments.rounds)
        spread = [f"{statistics.median(rates):.2f} ({min(rates):.2f} to {max(rates):.2f})" for rates in (mindfl, other)]
        ratio = statistics.median(mindfl) / statistics.median(other)
        print(f"{name}: mindfl {spread[0]}, PyTorch {spread[1]} steps/s, ratio {ratio:.2f}", flush=True)


if __name__ == "__main__":
    main()
