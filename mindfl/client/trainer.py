"""What a device client is given: what trains, one client's data bound to one engine; and its model files, if any."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from mindfl.protocol import Weights

EpochReport: TypeAlias = Callable[[int, Sequence[float]], None]
"""Called after each epoch with its number (from 0) and the loss of each of its batches."""


class Trainer(Protocol):
    """A model with one client's data. Sizes count true samples; ``eval_size`` is 0 where there are no test data."""

    @property
    def train_size(self) -> int:
        """Training samples."""

    @property
    def eval_size(self) -> int:
        """Test samples."""

    @property
    def batch_size(self) -> int:
        """Samples per training step."""

    def load(self, weights: Weights) -> None:
        """Take over ``weights``. They are only lent: copy what is needed after the call."""

    def train(self, epochs: int, learning_rate: float, report: EpochReport) -> float:
        """Train on all samples ``epochs`` times and return the mean loss of the last epoch."""

    def evaluate(self) -> float:
        """Return the share of test samples, 0..1, whose label is predicted."""

    @property
    def class_scores(self) -> NDArray[np.float32] | None:
        """Mean score of each class over the test samples, from the last ``evaluate``; None before."""

    def weights(self) -> Weights:
        """Return the current weights as flat float32 views, valid until the next ``load`` or ``train``."""

    def predict(self) -> NDArray[np.int_]:
        """Return the predicted label of each test sample, in order."""


class ModelFiles(Protocol):
    """The model files of one client. All methods raise :class:`mindfl.errors.MindflError` naming the file."""

    def back_up(self) -> None:
        """Keep a copy of the file as it is now."""

    def restore(self) -> None:
        """Put the copy back."""

    def save(self, weights: Weights) -> None:
        """Write the model with these weights; they are only lent."""
