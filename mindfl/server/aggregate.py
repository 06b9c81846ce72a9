"""FedAvg whose result is bitwise independent of the order in which uploads arrive.

Floating-point addition is not associative, so every uploaded value x is first written as two integers,

    hi = rint(x * 2**10),    lo = rint((x - hi * 2**-10) * 2**56),

and both are summed in int64, which is exact. A float32 with abs(x) >= 2**-33 is represented exactly, a smaller one to
within 2**-57. With abs(x) < 2**36 (:data:`LIMIT`) and at most 2**17 - 1 uploads (:data:`MAX_UPLOADS`) neither sum can
overflow. The average of one weight is evaluated in float64 as (hi * 2**-10 + lo * 2**-56) / n, with n the summed data
size of the clients that uploaded it, and rounded once to float32.

To round v to a whole number by adding 1.5 * 2**52 leaves float64 values whose 64 bits, read as an integer, are those of
1.5 * 2**52 plus the rounded v, as long as abs(v) < 2**51. So the bits are summed as they are, which spares a slow
conversion, and their common excess is subtracted from the sum. Integers wrap around at 2**64 on the way; the result
fits.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mindfl.errors import OptionError, ProtocolError
from mindfl.protocol import FloatVector, Weights, split_weights
from mindfl.protocol.values import LIMIT

HIGH_SCALE = 2.0**10
LOW_SCALE = 2.0**56
MAX_UPLOADS = 2**17 - 1

_WHOLE = 1.5 * 2.0**52
_BIAS = int(np.float64(_WHOLE).view(np.int64))


class FeatureFault(Enum):
    """Fault of an uploaded feature map."""

    EMPTY = "no weights"
    UNKNOWN_NAME = "unknown weight name"
    WRONG_SHAPE = "wrong length, dimension or type of a weight"
    NOT_FINITE = "NaN, Inf or a value beyond 2**36"


class FeatureLayout:
    """Names and lengths of a model's weights, and where each lies in one flat vector.

    ``names`` ascend in byte order, as on the wire (code point order and UTF-8 byte order are the same).
    """

    def __init__(self, lengths: Mapping[str, int]) -> None:
        self.names = tuple(sorted(lengths))
        self.slices: dict[str, slice] = {}
        self.size = 0
        for name in self.names:
            self.slices[name] = slice(self.size, self.size + lengths[name])
            self.size += lengths[name]

    def flatten(self, weights: Weights) -> FloatVector:
        """Return a new float32 vector of ``size`` values holding ``weights`` end to end."""
        flat = np.empty(self.size, np.float32)
        for name, part in self.slices.items():
            flat[part] = weights[name]
        return flat

    def split(self, flat: FloatVector) -> Weights:
        """Return read-only named views into ``flat``."""
        return split_weights(flat, self.slices)

    def fault(self, upload: Weights) -> FeatureFault | None:
        """Return the fault of names or shapes of ``upload``, or None. A subset of the names is accepted."""
        if not upload:
            return FeatureFault.EMPTY
        for name, values in upload.items():
            part = self.slices.get(name)
            if part is None:
                return FeatureFault.UNKNOWN_NAME
            if values.dtype != np.float32 or values.shape != (part.stop - part.start,):
                return FeatureFault.WRONG_SHAPE
        return None


class Contribution:
    """One upload in integer form; also the scratch memory for the conversion, reused by later uploads.

    ``high`` and ``low`` are int64 of the layout's size, each :data:`_BIAS` above the upload's ``hi`` and ``lo``.
    """

    def __init__(self, layout: FeatureLayout) -> None:
        self._layout = layout
        self._exact = np.zeros(layout.size)
        self._work = np.zeros(layout.size)
        self._high = np.zeros(layout.size)
        self._low = np.zeros(layout.size)
        self.high = self._high.view(np.int64)
        self.low = self._low.view(np.int64)
        self.names: tuple[str, ...] = ()
        self.fault: FeatureFault | None = None

    def convert(self, upload: Weights) -> None:
        """Take in ``upload``; afterwards ``fault`` is set, or ``high`` and ``low`` hold its values."""
        self.fault = self._layout.fault(upload)
        if self.fault:
            return
        self.names = tuple(upload)
        if len(self.names) < len(self._layout.names):
            self._exact.fill(0.0)
        # A signalling NaN is no reason for a warning on the server's terminal.
        with np.errstate(invalid="ignore"):
            for name in self.names:
                self._exact[self._layout.slices[name]] = upload[name]
        # A NaN makes both comparisons false.
        if not (self._exact.min() > -LIMIT and self._exact.max() < LIMIT):
            self.fault = FeatureFault.NOT_FINITE
            return
        self._split()

    def _split(self) -> None:
        self._exact *= HIGH_SCALE
        np.add(self._exact, _WHOLE, out=self._high)
        np.subtract(self._high, _WHOLE, out=self._work)
        self._exact -= self._work
        self._exact *= LOW_SCALE / HIGH_SCALE
        np.add(self._exact, _WHOLE, out=self._low)


@dataclass(frozen=True, eq=False)
class PartialSum:
    """Sums over some of an iteration's uploads: both limbs int64 (size,), data sizes by weight name, upload count."""

    high: NDArray[np.int64]
    low: NDArray[np.int64]
    data_sizes: Mapping[str, int]
    uploads: int


class UploadSum(Protocol):
    """Adds up the uploads of an iteration; the caller serialises all but ``convert``."""

    layout: FeatureLayout

    def convert(self, upload: Any) -> AbstractContextManager[Any]:
        """Yield ``upload`` in the form in which it is added; its ``fault`` says why it is unusable."""

    def add(self, contribution: Any, data_size: int) -> None:
        """Add a faultless upload."""

    def average(self, previous: Weights, correction: Any = None) -> Weights:
        """Return the new model, the sum being put right by ``correction``."""

    def reset(self) -> None:
        """Forget all uploads."""


class FedAvgSum:
    """Running sums of one iteration's uploads. Not locked: the caller serialises ``add``, ``merge`` and ``average``.

    Weights named in ``constant`` are never averaged.
    """

    def __init__(self, layout: FeatureLayout, constant: Set[str] = frozenset()) -> None:
        self.layout = layout
        self._constant = constant
        self._high = np.zeros(layout.size, np.int64)
        self._low = np.zeros(layout.size, np.int64)
        self._data_sizes = dict.fromkeys(layout.names, 0)
        self._uploads = 0
        self._biased = 0
        self._free: list[Contribution] = []

    @contextmanager
    def convert(self, upload: Weights) -> Iterator[Contribution]:
        """Yield ``upload`` in integer form; it is valid inside the context only. Safe to call from many threads."""
        try:
            contribution = self._free.pop()
        except IndexError:
            contribution = Contribution(self.layout)
        try:
            contribution.convert(upload)
            yield contribution
        finally:
            self._free.append(contribution)

    def add(self, contribution: Contribution, data_size: int) -> None:
        """Add one faultless upload (weights already multiplied by ``data_size``, as clients do)."""
        self._count(1)
        self._biased += 1
        self._high += contribution.high
        self._low += contribution.low
        for name in contribution.names:
            if name not in self._constant:
                self._data_sizes[name] += data_size

    def merge(self, other: PartialSum) -> None:
        """Add the sums of another worker on the same layout; the result is that of one worker seeing all uploads."""
        self._count(other.uploads)
        self._high += other.high
        self._low += other.low
        for name, data_size in other.data_sizes.items():
            self._data_sizes[name] += data_size

    def partial(self) -> PartialSum:
        """Return a copy of the sums, to be merged elsewhere."""
        return PartialSum(*self._unbiased(), dict(self._data_sizes), self._uploads)

    def average(self, previous: Weights, correction: NDArray[np.float64] | None = None) -> Weights:
        """Return the new model, read-only.

        Weights that are constant or were not uploaded keep their ``previous`` value. ``correction``, of the layout's
        size, is added to the sum.
        """
        high, low = self._unbiased()
        total: NDArray[np.float64] = np.multiply(high, 1 / HIGH_SCALE, dtype=np.float64)
        total += np.multiply(low, 1 / LOW_SCALE, dtype=np.float64)
        if correction is not None:
            total += correction
        flat = np.empty(self.layout.size, np.float32)
        for name, part in self.layout.slices.items():
            data_size = self._data_sizes[name]
            flat[part] = total[part] / data_size if data_size else previous[name]
        return self.layout.split(flat)

    def reset(self) -> None:
        """Forget all uploads."""
        self._high.fill(0)
        self._low.fill(0)
        self._data_sizes = dict.fromkeys(self.layout.names, 0)
        self._uploads = self._biased = 0

    def _unbiased(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        excess = np.uint64(self._biased * _BIAS % 2**64).astype(np.int64)
        return self._high - excess, self._low - excess

    def _count(self, uploads: int) -> None:
        if self._uploads + uploads > MAX_UPLOADS:
            raise ProtocolError(f"more than {MAX_UPLOADS} uploads in one iteration cannot be summed exactly")
        self._uploads += uploads


class WithoutConstant:
    """Leaves the weights named in ``constant`` out of models; gives the same object again for the same model."""

    def __init__(self, constant: Set[str]) -> None:
        self._constant = constant
        self._last: tuple[Weights, Weights] | None = None

    def __call__(self, model: Weights) -> Weights:
        """Return ``model`` without them."""
        if not self._constant:
            return model
        if self._last is None or self._last[0] is not model:
            self._last = model, {name: values for name, values in model.items() if name not in self._constant}
        return self._last[1]


def initial_model(weights: Mapping[str, NDArray[np.float32]]) -> tuple[FeatureLayout, Weights]:
    """Return the layout of ``weights`` (float32, any shape) and a flat read-only copy of them.

    Raises :class:`OptionError` if there are no weights, or one is empty, not float32 or not finite.
    """
    if not weights:
        raise OptionError("the initial model has no weights")
    for name, values in weights.items():
        if values.dtype != np.float32 or values.size == 0 or not np.isfinite(values).all():
            raise OptionError(f"initial weight {name} is not a non-empty, finite float32 array")
    layout = FeatureLayout({name: values.size for name, values in weights.items()})
    return layout, layout.split(layout.flatten({name: values.reshape(-1) for name, values in weights.items()}))
