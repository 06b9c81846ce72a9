"""The networks that can be named on the command line."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mindfl.errors import OptionError


@dataclass(frozen=True)
class ModelSpec:
    """A network by name: how to make it, and the shape of one sample as the network takes it.

    ``build(num_class, num_channel, init=..., seed=...)`` returns the MindSpore cell (imports MindSpore).
    """

    name: str
    build: Callable[..., Any]
    image_size: tuple[int, int]
    num_class: int
    num_channel: int

    def input_shape(self, batch_size: int, num_channel: int) -> tuple[int, int, int, int]:
        """Return the shape [N, C, H, W] of a batch of images."""
        return (batch_size, num_channel, *self.image_size)


def _lenet(*args: Any, **options: Any) -> Any:
    from mindfl.models.lenet import LeNet5

    return LeNet5(*args, **options)


MODELS = {"lenet": ModelSpec("lenet", _lenet, image_size=(32, 32), num_class=62, num_channel=3)}


def model_spec(name: str) -> ModelSpec:
    """Return the entry of ``name``; raise :class:`OptionError` that lists the known names otherwise."""
    if name not in MODELS:
        raise OptionError(f"unknown model {name!r}", hint=f"choose one of {', '.join(MODELS)}")
    return MODELS[name]
