"""What a network takes: the shapes and types of its inputs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mindfl.errors import OptionError

if TYPE_CHECKING:
    from mindfl.models.networks import NetworkSizes

_DTYPES = ("float32", "int32")


class Input(NamedTuple):
    """One input of a network.

    Args:
        shape: of one sample, without the batch.
        dtype: ``"float32"`` or ``"int32"``.
        below: values of an int32 input are whole numbers from 0 to below this.

    Example:
        >>> Input((80,), "int32", 90).random(2, np.random.default_rng(0)).shape
        (2, 80)
    """

    shape: tuple[int, ...]
    dtype: str = "float32"
    below: int = 2

    def random(self, batch_size: int, generator: np.random.Generator) -> NDArray[Any]:
        """Return a random batch: float32 from 0 to 1, or int32 from 0 to below :attr:`below`."""
        shape = (batch_size, *self.shape)
        if self.dtype == "int32":
            return generator.integers(0, self.below, shape, np.int32)
        return generator.random(shape, np.float32)


def network_inputs(cell: Any, sizes: NetworkSizes, name: str) -> tuple[Input, ...]:
    """Return what the network ``cell`` takes: its attribute ``inputs``, or images of ``sizes``.

    Args:
        cell: the MindSpore cell. ``inputs`` is a list or tuple with a ``(shape, dtype)`` or ``(shape, dtype, below)``
            for each argument of ``construct``, as :class:`Input` has them; other attributes of that name are ignored.
        sizes: of the images.
        name: of the network, for messages.

    Raises:
        OptionError: ``inputs`` is not of that form, or there is none and ``sizes`` lack those of an image.
    """
    stated = getattr(cell, "inputs", None)
    if isinstance(stated, list | tuple) and stated:
        return tuple(_input(each, name) for each in stated)
    for size in ("num_channel", "image_size"):
        if getattr(sizes, size) is None:
            raise OptionError(
                f"{name} has no {size} of its own",
                hint=f"give --{size}; a network of other inputs has an attribute `inputs` (docs/extending.md)",
            )
    return (Input(sizes.input_shape(1)[1:]),)


def tokens_labelled(cell: Any, name: str) -> int:
    """Return the number of labels of a sample, such as one for each token; 0 where a sample has one label.

    Args:
        cell: the MindSpore cell. Its attribute ``labels`` is the shape of a sample's labels, ``(length,)``; others of
            that name, which are no tuples or lists, are ignored.
        name: of the network, for messages.

    Raises:
        OptionError: ``labels`` is a tuple or list of another form.
    """
    stated = getattr(cell, "labels", None)
    if not isinstance(stated, list | tuple):
        return 0
    if len(stated) != 1 or type(stated[0]) is not int or stated[0] < 1:
        raise OptionError(
            f"model {name} states labels of the shape {stated!r}",
            hint="such as labels = (80,): one class number for each of 80 tokens",
        )
    return stated[0]


def _input(stated: Any, name: str) -> Input:
    try:
        shape, dtype, below = Input(*stated)
        found = Input(tuple(int(size) for size in shape), dtype, int(below))
    except (TypeError, ValueError):
        found = None
    if found is None or found.dtype not in _DTYPES or min(*found.shape, found.below, 1) < 1:
        raise OptionError(
            f"model {name} states the input {stated!r}, which is no shape and {' or '.join(_DTYPES)}",
            hint='such as inputs = [((80,), "int32", 90)]: the shape of a sample, its type, and the number of ids',
        )
    return found
