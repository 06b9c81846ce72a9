"""Two convolutional networks for handwritten characters that federated learning is compared on."""

from __future__ import annotations

from typing import Any

from mindfl.errors import OptionError
from mindfl.models._mindspore import import_mindspore
from mindfl.models.initializers import set_weights
from mindfl.models.network_checks import check_image_size, check_least

_nn = import_mindspore().nn


class LeafCNN(_nn.Cell):  # type: ignore[misc, name-defined]
    """LEAF's network for FEMNIST: float32 images [N, num_channel, height, width] -> logits, float32 [N, num_class].

    Two 5x5 convolutions (32 and 64 filters with bias, same padding), each with ReLU and 2x2 max pooling, then dense
    layers of ``dense`` and ``num_class`` outputs. 6,603,710 values for 62 classes and 1 channel of 28x28 (Caldas et al.
    2018, "LEAF: A Benchmark for Federated Settings").

    Args:
        num_class: number of outputs, at least 1.
        num_channel: channels of the image, at least 1.
        image_size: height and width of the image, each at least 4.
        dense: outputs of the dense layer, at least 1.
        init: ``"lecun"``, ``"he"``, ``"torch"`` or ``"truncated_normal"``
            (:func:`mindfl.models.initializers.initializer`).
        seed: starts the generator of the initial weights.

    Raises:
        OptionError: an argument has no usable value.

    Example:
        >>> sum(parameter.size for parameter in LeafCNN().trainable_params())
        6603710
    """

    def __init__(
        self,
        num_class: int = 62,
        num_channel: int = 1,
        *,
        image_size: tuple[int, int] = (28, 28),
        dense: int = 2048,
        init: str = "lecun",
        seed: int = 0,
    ) -> None:
        super().__init__()
        check_least(num_class=num_class, num_channel=num_channel, dense=dense)
        check_image_size("leaf_cnn", image_size, 4)
        height, width = (side // 2 // 2 for side in image_size)
        self.conv1 = _nn.Conv2d(num_channel, 32, 5, pad_mode="same", has_bias=True)
        self.conv2 = _nn.Conv2d(32, 64, 5, pad_mode="same", has_bias=True)
        self.dense = _nn.Dense(64 * height * width, dense)
        self.head = _nn.Dense(dense, num_class)
        self.relu = _nn.ReLU()
        self.pool = _nn.MaxPool2d(kernel_size=2, stride=2)
        self.flatten = _nn.Flatten()
        set_weights(self, init, seed)

    def construct(self, x: Any) -> Any:
        """Return the logits of the images ``x``."""
        x = self.pool(self.relu(self.conv1(x)))
        x = self.pool(self.relu(self.conv2(x)))
        return self.head(self.relu(self.dense(self.flatten(x))))


class EmnistCNN(_nn.Cell):  # type: ignore[misc, name-defined]
    """Network of "Adaptive Federated Optimization": float32 images [N, num_channel, height, width] -> logits.

    3x3 convolutions of 32 and 64 filters without padding, each with ReLU, 2x2 max pooling, dropout of a quarter, a
    dense layer of ``dense`` outputs with ReLU, dropout of a half, and a dense layer of ``num_class`` outputs.
    1,206,590 values for 62 classes and 1 channel of 28x28 (Reddi et al. 2021, table 4).

    Args:
        num_class: number of outputs, at least 1.
        num_channel: channels of the image, at least 1.
        image_size: height and width of the image, each at least 6.
        dense: outputs of the first dense layer, at least 1.
        dropout: False leaves both dropouts out.
        init: ``"lecun"``, ``"he"``, ``"torch"`` or ``"truncated_normal"``
            (:func:`mindfl.models.initializers.initializer`).
        seed: starts the generator of the initial weights.

    Raises:
        OptionError: an argument has no usable value.

    Example:
        >>> sum(parameter.size for parameter in EmnistCNN().trainable_params())
        1206590
    """

    def __init__(
        self,
        num_class: int = 62,
        num_channel: int = 1,
        *,
        image_size: tuple[int, int] = (28, 28),
        dense: int = 128,
        dropout: bool = True,
        init: str = "lecun",
        seed: int = 0,
    ) -> None:
        super().__init__()
        check_least(num_class=num_class, num_channel=num_channel, dense=dense)
        check_image_size("emnist_cnn", image_size, 6)
        if not isinstance(dropout, bool):
            raise OptionError(f"emnist_cnn: dropout must be true or false, got {dropout!r}")
        height, width = ((side - 4) // 2 for side in image_size)
        self.conv1 = _nn.Conv2d(num_channel, 32, 3, pad_mode="valid", has_bias=True)
        self.conv2 = _nn.Conv2d(32, 64, 3, pad_mode="valid", has_bias=True)
        self.dense = _nn.Dense(64 * height * width, dense)
        self.head = _nn.Dense(dense, num_class)
        self.relu = _nn.ReLU()
        self.pool = _nn.MaxPool2d(kernel_size=2, stride=2)
        self.drop1 = _nn.Dropout(p=0.25 if dropout else 0.0)
        self.drop2 = _nn.Dropout(p=0.5 if dropout else 0.0)
        self.flatten = _nn.Flatten()
        set_weights(self, init, seed)

    def construct(self, x: Any) -> Any:
        """Return the logits of the images ``x``."""
        x = self.relu(self.conv2(self.relu(self.conv1(x))))
        x = self.drop1(self.pool(x))
        x = self.relu(self.dense(self.flatten(x)))
        return self.head(self.drop2(x))
