"""How much arithmetic a LeNet training step is."""

from __future__ import annotations

from typing import NamedTuple


class Layer(NamedTuple):
    """Multiply-adds of one sample's forward pass, and how many products of that size a training step takes.

    The products are the forward pass, the weight gradient and the input gradient, which the first layer does not need.
    """

    multiply_adds: int
    products: int


def layers(channels: int, classes: int = 62) -> tuple[Layer, ...]:
    """Return LeNet's layers for 32x32 images with ``channels`` that are computed."""
    return (
        Layer(28 * 28 * 6 * 5 * 5 * channels, 2),
        Layer(10 * 10 * 16 * 5 * 5 * 6, 3),
        Layer(400 * 120, 3),
        Layer(120 * 84, 3),
        Layer(84 * classes, 3),
    )


def flop_per_step(batch_size: int, channels: int) -> int:
    """Return the floating-point operations of one training step, two to a multiply-add.

    Bias, ReLU, pooling, loss and optimizer are left out. ``channels`` is 1 where equal channels are computed once.
    """
    return 2 * batch_size * sum(layer.multiply_adds * layer.products for layer in layers(channels))
