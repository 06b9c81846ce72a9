"""Checks of the arguments of the shipped networks."""

from __future__ import annotations

from mindfl.errors import OptionError


def check_least(**values: int) -> None:
    """Raise :class:`OptionError` for the first of ``values`` that is no whole number of at least 1."""
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise OptionError(f"{name} must be a whole number of at least 1, got {value}")


def check_image_size(network: str, image_size: tuple[int, int], least: int) -> None:
    """Raise :class:`OptionError` for images that are lower or narrower than ``least``."""
    if min(image_size) < least:
        raise OptionError(
            f"{network} takes images of at least {least}x{least}, not {image_size[0]}x{image_size[1]}",
            hint="enlarge them, as with mindfl data images --resize 28, or give --model with a network of your own",
        )
