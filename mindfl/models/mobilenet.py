"""MobileNetV2 for small images."""

from __future__ import annotations

from typing import Any

from mindfl.errors import OptionError
from mindfl.models._mindspore import import_mindspore
from mindfl.models.initializers import set_weights
from mindfl.models.network_checks import check_image_size, check_least

_nn = import_mindspore().nn

#: expansion, filters, blocks, stride of the first block
_STAGES = ((1, 16, 1, 1), (6, 24, 2, 1), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
_FIRST, _LAST, _MULTIPLE = 32, 1280, 8


def _scaled(filters: int, width: float) -> int:
    """Return the multiple of 8 nearest to ``width * filters``, but no less than nine tenths of it."""
    wanted = filters * width
    nearest = max(_MULTIPLE, int(wanted + _MULTIPLE / 2) // _MULTIPLE * _MULTIPLE)
    return nearest if nearest >= 0.9 * wanted else nearest + _MULTIPLE


def _layer(channels: int, filters: int, size: int, stride: int = 1, *, depthwise: bool = False) -> list[Any]:
    """Return a convolution without bias, its BatchNorm and ReLU6."""
    convolution = _nn.Conv2d(
        channels,
        filters,
        size,
        stride=stride,
        pad_mode="pad",
        padding=size // 2,
        group=channels if depthwise else 1,
        has_bias=False,
    )
    return [convolution, _nn.BatchNorm2d(filters), _nn.ReLU6()]


class _InvertedResidual(_nn.Cell):  # type: ignore[misc, name-defined]
    """Expansion, depthwise convolution and linear projection, with a shortcut where the shape stays."""

    def __init__(self, channels: int, filters: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = channels * expansion
        expand = _layer(channels, inner, 1) if expansion > 1 else []
        depthwise = _layer(inner, inner, 3, stride, depthwise=True)
        self.layers = _nn.SequentialCell([*expand, *depthwise, *_layer(inner, filters, 1)[:-1]])
        self.shortcut = stride == 1 and channels == filters

    def construct(self, x: Any) -> Any:
        """Return the block's output."""
        y = self.layers(x)
        return x + y if self.shortcut else y


class MobileNetV2(_nn.Cell):  # type: ignore[misc, name-defined]
    """MobileNetV2 for images of about 32x32: float32 images [N, num_channel, height, width] -> logits.

    The network of Sandler et al. 2018 ("MobileNetV2: Inverted Residuals and Linear Bottlenecks") without dropout, and
    with a stride of 1 in its first convolution and in the stage of 24 filters, as is usual for such images: they are
    halved three times instead of five. 2,236,682 trainable values for 10 classes and 3 channels, and 34,112 running
    means and variances.

    Args:
        num_class: number of outputs, at least 1.
        num_channel: channels of the image, at least 1.
        image_size: height and width of the image, each at least 8; no weight depends on it.
        width: factor of all numbers of filters, which are rounded to multiples of 8; above 0. The last convolution
            has 1,280 filters or more.
        init: ``"lecun"``, ``"he"``, ``"torch"`` or ``"truncated_normal"``
            (:func:`mindfl.models.initializers.initializer`).
        seed: starts the generator of the initial weights.

    Raises:
        OptionError: an argument has no usable value.

    Example:
        >>> sum(parameter.size for parameter in MobileNetV2(width=0.25).trainable_params())
        250922
    """

    def __init__(
        self,
        num_class: int = 10,
        num_channel: int = 3,
        *,
        image_size: tuple[int, int] = (32, 32),
        width: float = 1.0,
        init: str = "lecun",
        seed: int = 0,
    ) -> None:
        super().__init__()
        check_least(num_class=num_class, num_channel=num_channel)
        check_image_size("mobilenet_v2", image_size, 8)
        if not 0 < width <= 8:
            raise OptionError(f"mobilenet_v2: width must be above 0 and at most 8, got {width}")
        channels = _scaled(_FIRST, width)
        layers = _layer(num_channel, channels, 3)
        for expansion, base, count, first in _STAGES:
            filters = _scaled(base, width)
            for block in range(count):
                layers.append(_InvertedResidual(channels, filters, 1 if block else first, expansion))
                channels = filters
        last = _scaled(_LAST, max(width, 1.0))
        self.layers = _nn.SequentialCell([*layers, *_layer(channels, last, 1)])
        self.head = _nn.Dense(last, num_class)
        set_weights(self, init, seed)

    def construct(self, x: Any) -> Any:
        """Return the logits of the images ``x``."""
        return self.head(self.layers(x).mean((2, 3)))
