"""Residual networks for small images, with batch or group normalisation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mindfl.errors import OptionError
from mindfl.models._mindspore import import_mindspore
from mindfl.models.initializers import set_weights
from mindfl.models.network_checks import check_image_size, check_least

_mindspore = import_mindspore()
_nn = _mindspore.nn

#: channels -> a normalisation layer
Norm = Callable[[int], Any]


def _convolution(channels: int, filters: int, size: int, stride: int = 1) -> Any:
    """Return a convolution without bias, padded by half its size on every side, as the papers' networks have it."""
    return _nn.Conv2d(channels, filters, size, stride=stride, pad_mode="pad", padding=size // 2, has_bias=False)


class GroupNorm(_nn.Cell):  # type: ignore[misc, name-defined]
    """Group normalisation: float32 [N, channels, height, width] -> the same shape.

    It is made of LayerNorm, for which MindSpore Lite and ONNX have an operator: MindSpore's own becomes a dozen
    operators when it is converted, and cannot be written as ONNX.

    Args:
        groups: groups of channels that are normalised together.
        channels: channels of the input, a multiple of ``groups``.
    """

    def __init__(self, groups: int, channels: int) -> None:
        super().__init__()
        self.gamma = _mindspore.Parameter(_mindspore.ops.ones(channels, _mindspore.float32), name="gamma")
        self.beta = _mindspore.Parameter(_mindspore.ops.zeros(channels, _mindspore.float32), name="beta")
        self.groups, self.per_channel = groups, (1, channels, 1, 1)
        self.norm = _mindspore.ops.LayerNorm(-1, -1, 1e-5)

    def construct(self, x: Any) -> Any:
        """Return ``x`` normalised over the channels and positions of each group, scaled and shifted by channel."""
        _, channels, height, width = x.shape
        values = channels // self.groups * height * width
        one = _mindspore.ops.ones((values,), _mindspore.float32)
        y, _, _ = self.norm(x.reshape((-1, self.groups, values)), one, one - one)
        y = y.reshape((-1, channels, height, width))
        return y * self.gamma.reshape(self.per_channel) + self.beta.reshape(self.per_channel)


class _BasicBlock(_nn.Cell):  # type: ignore[misc, name-defined]
    """Two 3x3 convolutions beside a shortcut, which is a 1x1 convolution where the shape changes."""

    def __init__(self, channels: int, filters: int, stride: int, norm: Norm) -> None:
        super().__init__()
        self.conv1, self.norm1 = _convolution(channels, filters, 3, stride), norm(filters)
        self.conv2, self.norm2 = _convolution(filters, filters, 3), norm(filters)
        self.relu = _nn.ReLU()
        self.shortcut = None
        if stride != 1 or channels != filters:
            self.shortcut = _nn.SequentialCell(_convolution(channels, filters, 1, stride), norm(filters))

    def construct(self, x: Any) -> Any:
        """Return the block's output."""
        y = self.norm2(self.conv2(self.relu(self.norm1(self.conv1(x)))))
        return self.relu(y + (x if self.shortcut is None else self.shortcut(x)))


class _ResNet(_nn.Cell):  # type: ignore[misc, name-defined]
    """A 3x3 convolution, stages of blocks, the first of each but the first with stride 2, and the mean over positions.

    Args:
        sizes: number of outputs, and channels of the image.
        stages: for each stage the filters and the number of blocks.
        norm: makes a normalisation layer.
    """

    def __init__(self, sizes: tuple[int, int], stages: list[tuple[int, int]], norm: Norm) -> None:
        super().__init__()
        num_class, num_channel = sizes
        first, last = stages[0][0], stages[-1][0]
        self.conv, self.norm, self.relu = _convolution(num_channel, first, 3), norm(first), _nn.ReLU()
        blocks, channels = [], first
        for number, (filters, count) in enumerate(stages):
            for block in range(count):
                blocks.append(_BasicBlock(channels, filters, 2 if number and not block else 1, norm))
                channels = filters
        self.blocks = _nn.SequentialCell(blocks)
        self.head = _nn.Dense(last, num_class)

    def construct(self, x: Any) -> Any:
        """Return the logits of the images ``x``."""
        x = self.blocks(self.relu(self.norm(self.conv(x))))
        return self.head(x.mean((2, 3)))


class ResNet8(_ResNet):
    """ResNet with 8 layers for small images: float32 images [N, num_channel, height, width] -> logits.

    The networks of He et al. 2016 ("Deep Residual Learning for Image Recognition", section 4.2) with one block a stage:
    3x3 convolutions of ``width``, twice and four times as many filters, each with BatchNorm; shortcuts that change
    shape are 1x1 convolutions with BatchNorm. 78,042 trainable values for 10 classes and 3 channels, and 448 running
    means and variances.

    Args:
        num_class: number of outputs, at least 1.
        num_channel: channels of the image, at least 1.
        image_size: height and width of the image, each at least 8; no weight depends on it.
        width: filters of the first stage, at least 1.
        init: ``"lecun"``, ``"he"``, ``"torch"`` or ``"truncated_normal"``
            (:func:`mindfl.models.initializers.initializer`).
        seed: starts the generator of the initial weights.

    Raises:
        OptionError: an argument has no usable value.

    Example:
        >>> sum(parameter.size for parameter in ResNet8().trainable_params())
        78042
    """

    def __init__(
        self,
        num_class: int = 10,
        num_channel: int = 3,
        *,
        image_size: tuple[int, int] = (32, 32),
        width: int = 16,
        init: str = "lecun",
        seed: int = 0,
    ) -> None:
        check_least(num_class=num_class, num_channel=num_channel, width=width)
        check_image_size("resnet8", image_size, 8)
        stages = [(width, 1), (2 * width, 1), (4 * width, 1)]
        super().__init__((num_class, num_channel), stages, _nn.BatchNorm2d)
        set_weights(self, init, seed)


class ResNet18GN(_ResNet):
    """ResNet-18 with GroupNorm: float32 images [N, num_channel, height, width] -> logits, float32 [N, num_class].

    ResNet-18 in the form for small images (a 3x3 convolution first, no pooling) with group instead of batch
    normalisation, which has no running statistics that clients with different data would disagree on (Hsieh et al.
    2020, "The Non-IID Data Quagmire of Decentralized Machine Learning"; two groups as in Reddi et al. 2021).
    11,173,962 values for 10 classes and 3 channels.

    Args:
        num_class: number of outputs, at least 1.
        num_channel: channels of the image, at least 1.
        image_size: height and width of the image, each at least 8; no weight depends on it.
        width: filters of the first stage; the others have 2, 4 and 8 times as many. A multiple of ``groups``.
        groups: groups of channels that are normalised together, at least 1.
        init: ``"lecun"``, ``"he"``, ``"torch"`` or ``"truncated_normal"``
            (:func:`mindfl.models.initializers.initializer`).
        seed: starts the generator of the initial weights.

    Raises:
        OptionError: an argument has no usable value.

    Example:
        >>> sum(parameter.size for parameter in ResNet18GN(width=8).trainable_params())
        176402
    """

    def __init__(
        self,
        num_class: int = 10,
        num_channel: int = 3,
        *,
        image_size: tuple[int, int] = (32, 32),
        width: int = 64,
        groups: int = 2,
        init: str = "lecun",
        seed: int = 0,
    ) -> None:
        check_least(num_class=num_class, num_channel=num_channel, width=width, groups=groups)
        check_image_size("resnet18_gn", image_size, 8)
        if width % groups:
            raise OptionError(f"resnet18_gn: {width} filters cannot be divided into {groups} groups")
        stages = [(width, 2), (2 * width, 2), (4 * width, 2), (8 * width, 2)]
        super().__init__((num_class, num_channel), stages, lambda channels: GroupNorm(groups, channels))
        set_weights(self, init, seed)
