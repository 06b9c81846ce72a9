"""LeNet-5 as the federated image classification tutorial trains it."""

from __future__ import annotations

from typing import Any

from mindfl.models._mindspore import import_mindspore
from mindfl.models.initializers import set_weights
from mindfl.models.network_checks import check_image_size, check_least

_nn = import_mindspore().nn


_LEAST_SIZE = 16


class LeNet5(_nn.Cell):  # type: ignore[misc, name-defined]
    """LeNet-5: float32 images [N, num_channel, height, width] -> logits, float32 [N, num_class].

    Two 5x5 convolutions (6 and 16 filters, no padding, no bias unless asked for), each with ReLU and 2x2 max pooling,
    then dense layers of 120, 84 and ``num_class`` outputs. Parameters: ``conv1.weight``, ``conv2.weight``,
    ``fc1.weight``, ``fc1.bias`` and so on to ``fc3.bias``; 66,404 values for 62 classes and 3 channels of 32x32
    (MindSpore Federated 0.1.0, demo LeNet).

    Args:
        num_class: number of outputs, at least 1.
        num_channel: channels of the image, at least 1.
        image_size: height and width of the image, each at least 16.
        bias: whether the convolutions have one, as in most frameworks' LeNet.
        init: ``"lecun"``, ``"he"``, ``"torch"`` or ``"truncated_normal"``
            (:func:`mindfl.models.initializers.initializer`).
        seed: starts the generator of the initial weights.

    Raises:
        OptionError: an argument has no usable value.

    Example:
        >>> sum(parameter.size for parameter in LeNet5().trainable_params())
        66404
    """

    def __init__(
        self,
        num_class: int = 62,
        num_channel: int = 3,
        *,
        image_size: tuple[int, int] = (32, 32),
        bias: bool = False,
        init: str = "lecun",
        seed: int = 0,
    ) -> None:
        super().__init__()
        check_least(num_class=num_class, num_channel=num_channel)
        check_image_size("LeNet", image_size, _LEAST_SIZE)
        height, width = (((side - 4) // 2 - 4) // 2 for side in image_size)
        self.conv1 = _nn.Conv2d(num_channel, 6, 5, pad_mode="valid", has_bias=bias)
        self.conv2 = _nn.Conv2d(6, 16, 5, pad_mode="valid", has_bias=bias)
        self.fc1 = _nn.Dense(16 * height * width, 120)
        self.fc2 = _nn.Dense(120, 84)
        self.fc3 = _nn.Dense(84, num_class)
        self.relu = _nn.ReLU()
        self.max_pool2d = _nn.MaxPool2d(kernel_size=2, stride=2)
        self.flatten = _nn.Flatten()
        set_weights(self, init, seed)

    def construct(self, x: Any) -> Any:
        """Return the logits of the images ``x``."""
        x = self.max_pool2d(self.relu(self.conv1(x)))
        x = self.max_pool2d(self.relu(self.conv2(x)))
        x = self.flatten(x)
        x = self.relu(self.fc1(x))
        x = self.relu(self.fc2(x))
        return self.fc3(x)
