"""Losses and optimizers of an exported training graph."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mindfl.errors import OptionError
from mindfl.models import import_mindspore
from mindfl.models.network_inputs import Input
from mindfl.options.job_options import LossName


def with_loss(network: Any, name: LossName, inputs: int = 1, *, per_token: bool = False) -> Any:
    """Return the MindSpore cell of ``network`` followed by a loss of its scores, the mean over the samples.

    It takes the network's ``inputs`` and the labels; ``per_token``: one for each token, and the mean is over those.
    """
    return loss_cell(network, _LOSSES[name](import_mindspore().nn), inputs, per_token=per_token)


def check_predictions(network: Any, inputs: Sequence[Input], targets: int | None, batch_size: int, name: str) -> None:
    """Raise :class:`OptionError` where a regression does not predict as many numbers of a sample as it has targets.

    MindSpore's losses spread arrays of other shapes, so that each prediction would be compared with other samples'
    targets, without a word.

    Args:
        network: the MindSpore cell.
        inputs: what it takes.
        targets: numbers to predict of each sample; None: not known, and nothing is checked.
        batch_size: samples of a batch.
        name: of the network, for the message.
    """
    if targets is None:
        return
    generator, tensor = np.random.default_rng(0), import_mindspore().Tensor
    network.set_train(False)
    scores = network(*(tensor(each.random(batch_size, generator)) for each in inputs))
    network.set_train()
    found, wanted = tuple(scores.shape), (batch_size, targets)
    if found != wanted:
        raise OptionError(
            f"model {name} returns {found} for {batch_size} samples, but their targets are {wanted}: the loss would"
            " compare samples with each other",
            hint=f"return {targets} numbers of each sample, an array [N, {targets}]",
        )


def loss_cell(network: Any, loss: Any, inputs: int = 1, *, per_token: bool = False) -> Any:
    """Return the same for any MindSpore cell ``loss``, which takes scores and labels."""
    nn = import_mindspore().nn
    kind = _of_tokens() if per_token else nn.WithLossCell if inputs == 1 else _several_inputs()
    return kind(network, loss)


@cache
def _several_inputs() -> type[Any]:
    """Return MindSpore's class of a network with a loss, for any number of inputs."""
    nn = import_mindspore().nn

    # The names of the class and of its attributes are in the graph: the Lite trainer knows the loss by them.
    class WithLossCell(nn.WithLossCell):  # type: ignore[misc, name-defined]
        def construct(self, *batch: Any) -> Any:
            return self._loss_fn(self._backbone(*batch[:-1]), batch[-1])

    return WithLossCell


@cache
def _of_tokens() -> type[Any]:
    """Return the same class for labels of each token, int32 [N, tokens]; scores are [N, tokens, classes]."""

    class WithLossCell(_several_inputs()):  # type: ignore[misc]
        def construct(self, *batch: Any) -> Any:
            scores = self._backbone(*batch[:-1])
            return self._loss_fn(scores.reshape(-1, scores.shape[-1]), batch[-1].reshape(-1))

    return WithLossCell


#: name -> MindSpore's loss
_LOSSES: dict[LossName, Callable[[Any], Any]] = {
    "sparse": lambda nn: nn.SoftmaxCrossEntropyWithLogits(sparse=True, reduction="mean"),
    "onehot": lambda nn: nn.SoftmaxCrossEntropyWithLogits(sparse=False, reduction="mean"),
    "mse": lambda nn: nn.MSELoss(),
    "bce": lambda nn: nn.BCEWithLogitsLoss(),
}
#: losses whose labels are numbers to predict
REGRESSIONS: tuple[LossName, ...] = ("mse", "bce")


def as_labels(labels: NDArray[np.int32], classes: int, name: LossName) -> NDArray[Any]:
    """Return labels (class numbers) in the form that the loss takes."""
    return labels if name == "sparse" else np.eye(classes, dtype=np.float32)[labels]


@dataclass(frozen=True)
class OptimizerSettings:
    """An optimizer by name, with values that :class:`mindfl.options.command_options.ExportOptions` allows.

    Nesterov momentum is not offered: MindSpore 2.10's CPU kernel ignores it while MindSpore Lite applies it, so the
    exporter and the device would disagree.
    """

    name: str = "momentum"
    learning_rate: float = 0.01
    momentum: float = 0.9
    weight_decay: float = 0.0

    def build(self, parameters: list[Any]) -> Any:
        """Return the MindSpore optimizer of ``parameters``."""
        return _OPTIMIZERS[self.name](import_mindspore().nn, parameters, self)


def _momentum(nn: Any, parameters: list[Any], settings: OptimizerSettings) -> Any:
    return nn.Momentum(parameters, settings.learning_rate, settings.momentum, weight_decay=settings.weight_decay)


def _sgd(nn: Any, parameters: list[Any], settings: OptimizerSettings) -> Any:
    return nn.SGD(parameters, settings.learning_rate, weight_decay=settings.weight_decay)


def _adam(nn: Any, parameters: list[Any], settings: OptimizerSettings) -> Any:
    return nn.Adam(parameters, settings.learning_rate, weight_decay=settings.weight_decay)


def _adam_weight_decay(nn: Any, parameters: list[Any], settings: OptimizerSettings) -> Any:
    return nn.AdamWeightDecay(parameters, settings.learning_rate, weight_decay=settings.weight_decay)


_OPTIMIZERS: dict[str, Callable[[Any, list[Any], OptimizerSettings], Any]] = {
    "momentum": _momentum,
    "sgd": _sgd,
    "adam": _adam,
    "adam_weight_decay": _adam_weight_decay,
}
