"""The shipped networks in PyTorch, their parts named as mindfl's are, and the initial weights of mindfl's in them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - as everyone calls it

Weights = Mapping[str, NDArray[np.float32]]
#: MindSpore's name of a parameter of a layer -> PyTorch's
_NAMES = {
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
    "embedding_table": "weight",
}


def tensors(weights: Weights) -> dict[str, Tensor]:
    """Return weights, named as MindSpore does and in its order of dimensions, as PyTorch takes them."""
    found = {}
    for name, value in weights.items():
        layer, dot, last = name.rpartition(".")
        found[f"{layer}{dot}{_NAMES.get(last, last)}"] = torch.from_numpy(value)
    return found


class LeNet(nn.Module):
    """LeNet; by default mindfl's LeNet5: 32x32 images of three channels, convolutions without bias, 62 classes."""

    def __init__(self, classes: int = 62, shape: tuple[int, ...] = (3, 32, 32), *, bias: bool = False) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(shape[0], 6, 5, bias=bias)
        self.conv2 = nn.Conv2d(6, 16, 5, bias=bias)
        self.fc1 = nn.Linear(16 * (shape[1] // 4 - 3) ** 2, 120)
        self.fc2 = nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits."""
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        x = F.relu(self.fc1(x.flatten(1)))
        logits: Tensor = self.fc3(F.relu(self.fc2(x)))
        return logits


class LeafCNN(nn.Module):
    """LEAF's network for FEMNIST."""

    def __init__(self, classes: int, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(shape[0], 32, 5, padding=2), nn.Conv2d(32, 64, 5, padding=2)
        self.dense, self.head = nn.Linear(64 * (shape[1] // 4) * (shape[2] // 4), 2048), nn.Linear(2048, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits."""
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        logits: Tensor = self.head(F.relu(self.dense(x.flatten(1))))
        return logits


class EmnistCNN(nn.Module):
    """The network of "Adaptive Federated Optimization"."""

    def __init__(self, classes: int, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(shape[0], 32, 3), nn.Conv2d(32, 64, 3)
        self.dense = nn.Linear(64 * ((shape[1] - 4) // 2) * ((shape[2] - 4) // 2), 128)
        self.head = nn.Linear(128, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits."""
        x = F.max_pool2d(F.relu(self.conv2(F.relu(self.conv1(x)))), 2)
        x = F.dropout(x, 0.25, self.training).flatten(1)
        logits: Tensor = self.head(F.dropout(F.relu(self.dense(x)), 0.5, self.training))
        return logits


class MLP(nn.Module):
    """Two hidden layers of 200."""

    def __init__(self, classes: int, shape: tuple[int, ...]) -> None:
        super().__init__()
        pairs = ((shape[0] * shape[1] * shape[2], 200), (200, 200))
        self.hidden = nn.Sequential(*(nn.Sequential(nn.Linear(*pair), nn.ReLU()) for pair in pairs))
        self.head = nn.Linear(200, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits."""
        logits: Tensor = self.head(self.hidden(x.flatten(1)))
        return logits


class _Block(nn.Module):
    """Two convolutions with normalisation beside a shortcut."""

    def __init__(self, channels: int, filters: int, stride: int, norm: Callable[[int], nn.Module]) -> None:
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(channels, filters, 3, stride, 1, bias=False), norm(filters)
        self.conv2, self.norm2 = nn.Conv2d(filters, filters, 3, 1, 1, bias=False), norm(filters)
        self.shortcut = nn.Sequential()
        if stride != 1 or channels != filters:
            self.shortcut.extend([nn.Conv2d(channels, filters, 1, stride, bias=False), norm(filters)])

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x)))))
        return F.relu(y + self.shortcut(x))


class ResNet(nn.Module):
    """ResNet for small images, of stages of ``blocks`` blocks."""

    def __init__(
        self,
        classes: int,
        shape: tuple[int, ...],
        *,
        stages: tuple[int, ...],
        blocks: int,
        norm: Callable[[int], nn.Module],
    ) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(shape[0], stages[0], 3, padding=1, bias=False), norm(stages[0])
        self.blocks, channels = nn.Sequential(), stages[0]
        for number, filters in enumerate(stages):
            for block in range(blocks):
                self.blocks.append(_Block(channels, filters, 2 if number and not block else 1, norm))
                channels = filters
        self.head = nn.Linear(channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits."""
        logits: Tensor = self.head(self.blocks(F.relu(self.norm(self.conv(x)))).mean((2, 3)))
        return logits


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


class MobileNetV2(nn.Module):
    """MobileNetV2 for small images."""

    def __init__(self, classes: int, shape: tuple[int, ...]) -> None:
        super().__init__()
        stages = (
            *((1, 16, 1, 1), (6, 24, 2, 1), (6, 32, 3, 2), (6, 64, 4, 2)),
            *((6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)),
        )
        layers, channels = _layer(shape[0], 32, 3), 32
        for expansion, filters, count, stride in stages:
            for block in range(count):
                layers.append(_Inverted(channels, filters, 1 if block else stride, expansion))
                channels = filters
        self.layers, self.head = nn.Sequential(*layers, *_layer(320, 1280, 1)), nn.Linear(1280, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits."""
        logits: Tensor = self.head(self.layers(x).mean((2, 3)))
        return logits


class CharLSTM(nn.Module):
    """LEAF's network for the next character; ``shape`` is that of the ids."""

    def __init__(
        self, classes: int, shape: tuple[int, ...], vocabulary: int, embedding: int = 8, hidden: int = 256
    ) -> None:
        super().__init__()
        self.embedding, self.head = nn.Embedding(vocabulary, embedding), nn.Linear(hidden, classes)
        self.lstm = nn.LSTM(embedding, hidden, 2, batch_first=True)

    def forward(self, ids: Tensor) -> Tensor:
        """Return the logits."""
        steps, _ = self.lstm(self.embedding(ids))
        logits: Tensor = self.head(steps[:, -1])
        return logits


class _Attention(nn.Module):
    """Attention of 12 heads."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.query, self.key, self.value, self.output = (nn.Linear(size, size) for _ in range(4))

    def forward(self, x: Tensor, excluded: Tensor) -> Tensor:
        query, key, value = (self._heads(layer(x)) for layer in (self.query, self.key, self.value))
        scores = query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5 + excluded
        y: Tensor = self.output((scores.softmax(-1) @ value).transpose(1, 2).reshape(x.shape))
        return y

    def _heads(self, x: Tensor) -> Tensor:
        return x.view(*x.shape[:2], 12, -1).transpose(1, 2)


class _AlbertLayer(nn.Module):
    """Attention and two dense layers, each with a shortcut and LayerNorm."""

    def __init__(self, size: int, wide: int) -> None:
        super().__init__()
        self.attention, self.wide, self.narrow = _Attention(size), nn.Linear(size, wide), nn.Linear(wide, size)
        self.norm1, self.norm2 = nn.LayerNorm(size, 1e-12), nn.LayerNorm(size, 1e-12)

    def forward(self, x: Tensor, excluded: Tensor) -> Tensor:
        x = self.norm1(x + self.attention(x, excluded))
        y: Tensor = self.norm2(x + self.narrow(F.gelu(self.wide(x), approximate="tanh")))
        return y


class Albert(nn.Module):
    """ALBERT of MindSpore Federated's demo: four layers that share their weights."""

    def __init__(self, classes: int, shape: tuple[int, ...], vocabulary: int) -> None:
        super().__init__()
        self.words, self.segments, self.positions = (nn.Embedding(count, 128) for count in (vocabulary, 2, 512))
        self.norm, self.widen, self.layer = nn.LayerNorm(128, 1e-12), nn.Linear(128, 312), _AlbertLayer(312, 1248)
        self.pool, self.head = nn.Linear(312, 312), nn.Linear(312, classes)

    def forward(self, texts: Tensor) -> Tensor:
        """Return the logits of texts (N, 3, length): ids, segment ids and mask."""
        ids, segments, mask = texts.unbind(1)
        excluded = (1 - mask.float())[:, None, None] * -10000.0
        x = self.words(ids) + self.segments(segments) + self.positions(torch.arange(ids.shape[1]))
        x = self.widen(self.norm(x))
        for _ in range(4):
            x = self.layer(x, excluded)
        logits: Tensor = self.head(torch.tanh(self.pool(x[:, 0])))
        return logits


#: network -> its module, from the number of classes, the shape of a sample (channels first), and texts' vocabulary
NETWORKS: dict[str, Callable[..., nn.Module]] = {
    "lenet": LeNet,
    "mlp": MLP,
    "leaf_cnn": LeafCNN,
    "emnist_cnn": EmnistCNN,
    "resnet8": partial(ResNet, stages=(16, 32, 64), blocks=1, norm=nn.BatchNorm2d),
    "resnet18_gn": partial(ResNet, stages=(64, 128, 256, 512), blocks=2, norm=partial(nn.GroupNorm, 2)),
    "mobilenet_v2": MobileNetV2,
    "char_lstm": CharLSTM,
    "albert": Albert,
}
