"""A second model beside that of a session, trained in turn with it on the same batches."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mindfl.errors import OptionError
from mindfl.lite.session import Batches, Floats, Labels, Session

if TYPE_CHECKING:
    from mindfl.algorithms.algorithm import Training


class Companion:
    """A model v that takes a step after each of the model w, with the gradient at ``share * v + (1 - share) * w``.

    Both steps of a turn begin from what v and w were before it, so w is trained as without v, to the bit. v has an
    optimizer of its own of the same kind: its momentum is that of its own gradients.

    Args:
        model: the session that trains w.
        own: another session of the same model file, which trains v.
        training: where v begins (weights that are missing begin as w), its share, and what corrects its gradients. A
            correction's pull acts on the mixture.

    Raises:
        OptionError: the share is not between 0 and 1, or the correction does not fit the model.
    """

    def __init__(self, model: Session, own: Session, training: Training) -> None:
        if not (isinstance(training.share, int | float | np.floating) and 0 <= training.share <= 1):
            raise OptionError(f"the share of a training must be between 0 and 1, got {training.share!r}")
        self._model, self._own = model, own
        self._share = np.float32(training.share)
        own.set_correction(training.correction)
        begun = {name: np.reshape(values, -1) for name, values in {**model.weight_views(), **training.start}.items()}
        # one array each, as allocating them anew in each step would be slow
        self._v = np.concatenate(list(begun.values())).astype(np.float32)
        self._mixture, self._room = np.empty_like(self._v), np.empty_like(self._v)
        ends = np.cumsum([values.size for values in begun.values()])
        self._slices = {name: slice(end - begun[name].size, end) for name, end in zip(begun, ends, strict=True)}
        #: mean loss of the mixture in the last pass
        self.loss = math.nan

    @property
    def weights(self) -> dict[str, Floats]:
        """The weights of v, flat."""
        return self._named(self._v)

    def begin(self, rate: float, seed: int = 0) -> None:
        """Begin with fresh optimizer state, this learning rate, and ``seed`` for dropout."""
        self._own.reset_optimizer()
        self._own.set_learning_rate(rate)
        self._own.set_seed(seed)

    def train(self, images: Batches, labels: Labels) -> Floats:
        """Train both for one pass over the samples in order, and return the loss of w in each step."""
        losses, own = [], []
        for batch, classes in _steps(images, labels, self._model.batch_size):
            self._mix()
            own.append(self._own.train(batch, classes))
            self._unmix()
            losses.append(self._model.train(batch, classes))
        self.loss = float(np.mean(own, dtype=np.float64))
        return np.concatenate(losses)

    def _mix(self) -> None:
        """Put the mixture in the place of v's session, to be moved by its optimizer."""
        np.multiply(self._v, self._share, out=self._mixture)
        self._mixture += np.multiply(self._gathered(self._model), np.float32(1) - self._share, out=self._room)
        self._own.set_weights(self._named(self._mixture))

    def _unmix(self) -> None:
        """Move v by what the optimizer moved the mixture."""
        self._v -= np.subtract(self._mixture, self._gathered(self._own), out=self._room)

    def _gathered(self, session: Session) -> Floats:
        """Return a session's weights in one piece, which holds until the next call."""
        for name, values in session.weight_views().items():
            self._room[self._slices[name]] = values
        return self._room

    def _named(self, whole: Floats) -> dict[str, Floats]:
        return {name: whole[place] for name, place in self._slices.items()}


def _steps(images: Batches, labels: NDArray[np.int32], size: int) -> Iterator[tuple[Batches, Labels]]:
    """Yield the batches of one pass, each with its labels; the last is filled from the first sample on."""
    for step in range(-(-images.count // size)):
        rows = np.arange(step * size, (step + 1) * size) % images.count
        numbers = images.numbers[rows % len(images.numbers)]
        yield Batches(images.packed[step % len(images.packed)][None], numbers, size, images.folded), labels[rows]
