"""Fixed-point weights: integers modulo 2**32 or 2**64, so that sums are exact and masks uniform (``PW_EXACT``).

A weight w becomes q = rint(w * 2**f), ties to even; a device uploads its data size times q. The sum over all devices is
at most total data size * 2**r * 2**f in magnitude, with weights below 2**r; f is the largest number of fraction bits
for which that stays below half the modulus. So the sum cannot wrap around, and is read as a signed number.

==========================================================  ====  ===================  ==========================
job                                                         bits  weights are below    rounded by at most
==========================================================  ====  ===================  ==========================
1,000 devices of 65,535 samples                               64  128                  2**-31 (f = 30)
100,000 devices of 65,535 samples                             64  128                  2**-24 (f = 23)
50 devices of 500 samples                                     32  8                    2**-14 (f = 13)
==========================================================  ====  ===================  ==========================
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mindfl.errors import OptionError
from mindfl.privacy.faults import Fault, SecureAggregationError
from mindfl.privacy.secagg.ciphers import WordMask

WORD_BITS = (32, 64)
#: weights must be below 2**7; larger ones mean that training has diverged
RANGE_BITS = 7
#: fewer fraction bits would harm training
LEAST_FRACTION_BITS = 8


@dataclass(frozen=True, slots=True)
class FixedPoint:
    """``bits`` of a word, the weights' range 2**``range_bits``, ``fraction_bits``, and the largest total data size."""

    bits: int
    range_bits: int
    fraction_bits: int
    max_total: int

    @staticmethod
    def for_job(uploads: int, max_data_size: int, *, range_bits: int = RANGE_BITS, bits: int = 64) -> FixedPoint:
        """Return the finest fixed point for ``uploads`` devices of up to ``max_data_size`` samples each.

        Raises :class:`OptionError` if fewer than 8 fraction bits would be left.
        """
        if bits not in WORD_BITS or uploads < 1 or max_data_size < 1 or range_bits < 0:
            raise OptionError(f"no fixed point of {bits} bits for {uploads} uploads of {max_data_size} samples")
        total = uploads * max_data_size
        fraction_bits = bits - 1 - range_bits - total.bit_length()
        if fraction_bits < LEAST_FRACTION_BITS:
            raise OptionError(
                f"{bits}-bit sums over {total} samples leave {fraction_bits} fraction bits, "
                f"and {LEAST_FRACTION_BITS} are needed",
                hint="use 64 bits, fewer clients per iteration or a smaller range",
            )
        return FixedPoint(bits, range_bits, fraction_bits, total)

    @property
    def dtype(self) -> np.dtype[np.uint32] | np.dtype[np.uint64]:
        """The words' type, little endian."""
        return np.dtype(f"<u{self.bits // 8}")

    def encode(self, weights: NDArray[np.float32], data_size: int, who: str) -> WordMask:
        """Return the words of an upload before it is masked, a new vector like ``weights``.

        Raises :class:`SecureAggregationError` naming ``who`` if a weight is not finite or out of range.
        """
        scaled = np.rint(weights.astype(np.float64) * 2.0**self.fraction_bits)
        # NaN makes the comparison false.
        if weights.size and not np.abs(scaled).max() <= 2.0 ** (self.range_bits + self.fraction_bits):
            limit = f"beyond {2**self.range_bits}"
            raise SecureAggregationError(
                Fault.OUT_OF_RANGE, f"the upload of {who}", limit, hint="lower the learning rate"
            )
        words: WordMask = (scaled.astype(np.int64) * np.int64(data_size)).astype(self.dtype)
        return words

    def decode(self, total: WordMask, data_size: int) -> NDArray[np.float32]:
        """Return the average float32 weights from the unmasked sum and the summed data size, at least 1.

        Computed in float64 and rounded once: the same bits on every machine.
        """
        if not 1 <= data_size <= self.max_total:
            raise OptionError(f"a total data size of {data_size} was not planned for: at most {self.max_total}")
        signed = total.view(f"<i{self.bits // 8}").astype(np.float64)
        average: NDArray[np.float32] = (signed / (data_size * 2.0**self.fraction_bits)).astype(np.float32)
        return average

    def pack(self, words: WordMask) -> bytes:
        """Return ``words`` as they travel, little endian."""
        return words.astype(self.dtype, copy=False).tobytes()

    def unpack(self, data: bytes, length: int, who: str) -> WordMask:
        """Return the ``length`` words, read-only, that ``who`` sent as ``data``.

        Every pattern of bits is a word, so the length is all that can be wrong: :class:`SecureAggregationError`.
        """
        if len(data) != length * self.dtype.itemsize:
            detail = f"{len(data)} bytes instead of {length * self.dtype.itemsize}"
            raise SecureAggregationError(Fault.UPLOAD_LENGTH, f"the upload of {who}", detail)
        words: WordMask = np.frombuffer(data, np.uint8).view(self.dtype)
        return words
