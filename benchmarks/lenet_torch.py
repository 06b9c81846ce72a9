"""LeNet, local training and evaluation in PyTorch: the same for the bare loop and for Flower."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - as everyone calls it
from work import Client, Work

Weights = Mapping[str, NDArray[np.float32]]


class LeNet(nn.Module):
    """LeNet; by default mindfl's LeNet5: 32x32 images of three channels, convolutions without bias, 62 classes."""

    def __init__(self, classes: int = 62, *, channels: int = 3, size: int = 32, bias: bool = False) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, 6, 5, bias=bias)
        self.conv2 = nn.Conv2d(6, 16, 5, bias=bias)
        self.fc1 = nn.Linear(16 * (size // 4 - 3) ** 2, 120)
        self.fc2 = nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits."""
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        x = F.relu(self.fc1(x.flatten(1)))
        logits: Tensor = self.fc3(F.relu(self.fc2(x)))
        return logits


def tensors(weights: Weights) -> dict[str, Tensor]:
    """Return weights as PyTorch takes them."""
    return {name: torch.from_numpy(value) for name, value in weights.items()}


def train(model: LeNet, work: Work, client: Client) -> float:
    """Train on a client's samples with a fresh Momentum optimizer; return the mean loss of the last epoch."""
    settings = work.settings
    images, labels = (torch.from_numpy(array) for array in work.train_batches(client))
    batches = list(zip(*(torch.split(samples, settings.batch_size) for samples in (images, labels)), strict=True))
    optimizer = torch.optim.SGD(model.parameters(), settings.learning_rate, settings.momentum)
    model.train()
    total = torch.zeros(())
    for _ in range(settings.epochs):
        total = torch.zeros(())
        for x, y in batches:
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x), y)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            total += loss.detach()
    return total.item() / len(batches)


@torch.inference_mode()
def evaluate(model: LeNet, work: Work, client: Client) -> float:
    """Return the share of a client's test samples that are predicted, all of them in one batch."""
    images, labels = (torch.from_numpy(array) for array in work.test_samples(client))
    model.eval()
    return float((model(images).argmax(1) == labels).float().mean())
