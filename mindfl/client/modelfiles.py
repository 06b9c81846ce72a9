"""What a device client does with its model files, where it has any."""

from __future__ import annotations

from typing import Protocol

from mindfl.protocol import Weights


class ModelFiles(Protocol):
    """The model files of one client. All methods raise :class:`mindfl.errors.MindflError` naming the file."""

    def back_up(self) -> None:
        """Keep a copy of the file as it is now."""

    def restore(self) -> None:
        """Put the copy back."""

    def save(self, weights: Weights) -> None:
        """Write the model with these weights; they are only lent."""
