"""The networks that can be named on the command line."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mindfl.errors import OptionError
from mindfl.spelling import did_you_mean


@dataclass(frozen=True)
class ModelSpec:
    """A network by name: how to make it, and the shape of one sample as the network takes it.

    ``build(num_class, num_channel, init=..., seed=...)`` returns the MindSpore cell (imports MindSpore). ``parameters``
    are the names of its trainable parameters, by which a model file is known to hold it; empty: they are not compared.
    """

    name: str
    build: Callable[..., Any]
    image_size: tuple[int, int]
    num_class: int
    num_channel: int
    parameters: frozenset[str] = frozenset()

    def input_shape(self, batch_size: int, num_channel: int) -> tuple[int, int, int, int]:
        """Return the shape [N, C, H, W] of a batch of images."""
        return (batch_size, num_channel, *self.image_size)


def _lenet(*args: Any, **options: Any) -> Any:
    from mindfl.models.lenet import LeNet5

    return LeNet5(*args, **options)


_LENET_PARAMETERS = frozenset(
    {"conv1.weight", "conv2.weight", *(f"fc{layer}.{kind}" for layer in (1, 2, 3) for kind in ("weight", "bias"))}
)
MODELS = {
    "lenet": ModelSpec("lenet", _lenet, image_size=(32, 32), num_class=62, num_channel=3, parameters=_LENET_PARAMETERS)
}


def model_spec(name: str) -> ModelSpec:
    """Return the entry of ``name``; raise :class:`OptionError` that lists the known names otherwise."""
    if name not in MODELS:
        raise OptionError(f"unknown model {name!r}", hint=did_you_mean(name, MODELS))
    return MODELS[name]
