"""The sum of masked whole numbers, and what it has in common with :class:`mindfl.server.aggregate.FedAvgSum`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Set
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from mindfl.protocol import Weights
from mindfl.server.aggregate import FeatureFault, FeatureLayout

if TYPE_CHECKING:
    from mindfl.privacy.secagg import FixedPoint
    from mindfl.privacy.secagg.masks import WordMask


class UploadSum(Protocol):
    """Adds up the uploads of an iteration; the caller serialises all but ``convert``."""

    layout: FeatureLayout

    def convert(self, upload: Any) -> AbstractContextManager[Any]:
        """Yield ``upload`` in the form in which it is added; its ``fault`` says what makes it unusable."""

    def add(self, contribution: Any, data_size: int) -> None:
        """Add a faultless upload."""

    def average(self, previous: Weights, correction: Any = None) -> Weights:
        """Return the new model, the sum being put right by ``correction``."""

    def reset(self) -> None:
        """Forget all uploads."""


@dataclass(frozen=True, slots=True, eq=False)
class MaskedWords:
    """An upload of masked whole numbers. All of its values are possible, so it has no faults."""

    words: WordMask
    fault: FeatureFault | None = None


class WordSum:
    """Running sum of ``PW_EXACT`` uploads modulo 2**64, and of their data sizes. ``constant``: as there."""

    def __init__(self, layout: FeatureLayout, fixed: FixedPoint, constant: Set[str] = frozenset()) -> None:
        self.layout = layout
        self._constant = constant
        self._fixed = fixed
        self._total: WordMask = np.zeros(layout.size, fixed.dtype)
        self._data_size = 0

    @contextmanager
    def convert(self, upload: WordMask) -> Iterator[MaskedWords]:
        """Yield ``upload``, words of the layout's size."""
        yield MaskedWords(upload)

    def add(self, contribution: MaskedWords, data_size: int) -> None:
        """Add an upload, masked and multiplied by ``data_size``."""
        np.add(self._total, contribution.words, out=self._total)
        self._data_size += data_size

    def average(self, previous: Weights, correction: Callable[[WordMask], WordMask] | None = None) -> Weights:
        """Return the new model, read-only; ``correction`` takes the masks out of the sum."""
        clear = correction(self._total) if correction else self._total
        flat = self._fixed.decode(clear, self._data_size)
        for name in self._constant:
            flat[self.layout.slices[name]] = previous[name]
        return self.layout.split(flat)

    def reset(self) -> None:
        """Forget all uploads."""
        self._total.fill(0)
        self._data_size = 0
