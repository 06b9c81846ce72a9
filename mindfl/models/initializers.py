"""Initial weights, drawn with NumPy so that a seed gives the same network under every MindSpore version."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from mindfl.errors import OptionError
from mindfl.models._mindspore import import_mindspore
from mindfl.options.job_options import InitName
from mindfl.spelling import did_you_mean

#: name -> standard deviation of a normal distribution, for a weight with the given number of inputs per output
_SCALED = {
    "he": lambda fan_in: math.sqrt(2.0 / fan_in),
    "lecun": lambda fan_in: math.sqrt(1.0 / fan_in),
}
_REFERENCE = "truncated_normal"
_REFERENCE_SIGMA = 0.02  # MindSpore Federated 0.1.0, the demo's LeNet
#: parameters of normalisation layers, whose initial value is no draw
_NORMAL = {"gamma": 1.0, "beta": 0.0}

INITIALIZERS: tuple[InitName, ...] = get_args(InitName)

#: shape -> float32 values
Draw = Callable[[tuple[int, ...]], NDArray[np.float32]]


def initializer(name: str, seed: int) -> Draw:
    """Return a function that draws one parameter after another, float32, from the generator that ``seed`` starts.

    ``"lecun"`` and ``"he"`` scale normal weights by 1 / sqrt(fan in) and sqrt(2 / fan in) and set biases (1-D shapes)
    to zero, so that the network learns from its first step. ``"torch"`` is what PyTorch's convolutions and dense layers
    begin with: uniform within 1 / sqrt(fan in), biases within the same bound as the weights of their layer, which are
    drawn just before. ``"truncated_normal"`` is the reference's: sigma 0.02, cut off at two sigma, biases too; with it
    LeNet stays at chance for about ten federated iterations. Raises :class:`OptionError` for another name or a negative
    seed.
    """
    if name not in INITIALIZERS:
        raise OptionError(f"unknown initialisation {name!r}", hint=did_you_mean(name, INITIALIZERS))
    if seed < 0:
        raise OptionError(f"the seed must not be negative, got {seed}")
    generator = np.random.default_rng(seed)

    def scaled(shape: tuple[int, ...]) -> NDArray[np.float32]:
        if len(shape) == 1:
            return np.zeros(shape, np.float32)
        return generator.normal(0.0, _SCALED[name](math.prod(shape[1:])), shape).astype(np.float32)

    def truncated(shape: tuple[int, ...]) -> NDArray[np.float32]:
        return (_REFERENCE_SIGMA * _truncated_normal(generator, shape)).astype(np.float32)

    bound = 1.0

    def uniform(shape: tuple[int, ...]) -> NDArray[np.float32]:
        nonlocal bound
        if len(shape) > 1:
            bound = 1.0 / math.sqrt(math.prod(shape[1:]))
        return generator.uniform(-bound, bound, shape).astype(np.float32)

    return {_REFERENCE: truncated, "torch": uniform}.get(name, scaled)


def _truncated_normal(generator: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.float64]:
    values = generator.standard_normal(shape)
    while (outside := np.abs(values) > 2.0).any():
        values[outside] = generator.standard_normal(int(outside.sum()))
    return values


def set_weights(cell: Any, name: str, seed: int) -> None:
    """Draw the trainable parameters of a MindSpore cell, in its order, as :func:`initializer` does.

    Scales and shifts of normalisation layers (``gamma``, ``beta``) are 1 and 0 with every initialisation.
    """
    draw, tensor = initializer(name, seed), import_mindspore().Tensor
    for parameter in cell.trainable_params():
        constant = _NORMAL.get(parameter.name.rpartition(".")[2])
        shape = tuple(parameter.shape)
        parameter.set_data(tensor(draw(shape) if constant is None else np.full(shape, constant, np.float32)))
