"""A model file as a place for weights: what fetching a model needs, whatever operators the file holds."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from mindfl.client import EpochReport
from mindfl.data import UserData
from mindfl.errors import ModelFormatError
from mindfl.lite import LiteModel

_WEIGHTS_ONLY = "this model was opened for its weights only"


class WeightsTrainer:
    """A :class:`~mindfl.client.Trainer` that holds the weights of a model file and cannot execute it."""

    def __init__(self, model: LiteModel, user: UserData) -> None:
        self.train_size = user.train.size
        self.eval_size = user.test.size
        self.batch_size = batch_of(model)
        self.last_loss = math.nan
        self.class_scores: NDArray[np.float32] | None = None
        self._weights = {name: values.reshape(-1) for name, values in model.weights.items()}

    def load(self, weights: Mapping[str, NDArray[np.float32]]) -> None:
        """Take over ``weights``. Raises :class:`ModelFormatError` for one that the file lacks; then none is changed."""
        for name, values in weights.items():
            if name not in self._weights or self._weights[name].size != values.size:
                raise ModelFormatError(f"the model has no parameter {name} of {values.size} elements")
        self._weights |= {name: values.reshape(-1).copy() for name, values in weights.items()}

    def weights(self) -> Mapping[str, NDArray[np.float32]]:
        """Return the weights, flat."""
        return self._weights

    def train(self, epochs: int, learning_rate: float, report: EpochReport) -> float:
        """Refuse to train."""
        raise ModelFormatError(_WEIGHTS_ONLY)

    def evaluate(self) -> float:
        """Refuse to evaluate."""
        raise ModelFormatError(_WEIGHTS_ONLY)

    def predict(self) -> NDArray[np.int_]:
        """Refuse to predict."""
        raise ModelFormatError(_WEIGHTS_ONLY)


def batch_of(model: LiteModel) -> int:
    """Return the first dimension of the model's largest input: its batch size; 1 where no input has dimensions."""
    inputs = [model.tensors[index] for index in model.inputs if model.tensors[index].dims]
    return max(inputs, key=lambda tensor: tensor.size).dims[0] if inputs else 1
