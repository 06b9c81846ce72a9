"""The masks: long vectors from short keys. A vector covers all weights end to end, names in ascending order.

MindSpore Federated 0.1.0's Java client starts the mask anew in every weight, which no server can take away again; here
it is one vector, as the server of 0.1.0 expects.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mindfl.privacy.secagg.ciphers import keystream

FloatMask = NDArray[np.float32]
#: "<u4" or "<u8"
WordMask = NDArray[np.uint32] | NDArray[np.uint64]

# float32(2147483647) is 2**31, so that this division is an exact scaling.
_SCALE = np.float32(1 / 2147483648)


class FloatMasks:
    """Masks of ``PW_ENCRYPT`` with ``length`` values in -1..1; holds the memory to make them in. One thread's."""

    def __init__(self, length: int) -> None:
        self._words = np.zeros(length, "<i4")
        self._zeros = bytes(self._words.nbytes)

    def make(self, key: bytes, iv: bytes) -> FloatMask:
        """Return float32(word) / float32(2147483647) for each int32 of the keystream."""
        keystream(key, iv, self._words.view(np.uint8), self._zeros)
        mask = self._words.astype(np.float32)
        mask *= _SCALE
        return mask


class WordMasks:
    """Masks of ``PW_EXACT``, uniform modulo 2**32 or 2**64; holds the memory to make them in. One thread's.

    The initial vector is 0: a key makes one mask only.
    """

    def __init__(self, length: int, bits: int) -> None:
        self._mask: WordMask = np.zeros(length, f"<u{bits // 8}")
        self._zeros = bytes(self._mask.nbytes)

    def add(self, total: WordMask, key: bytes, sign: int) -> None:
        """Add (``sign`` 1) the mask of ``key`` to ``total``, or subtract it (-1), in place and modulo the word."""
        keystream(key, bytes(16), self._mask.view(np.uint8), self._zeros)
        operation = np.add if sign > 0 else np.subtract
        operation(total, self._mask, out=total)


def sign_of(me: str, peer: str) -> int:
    """Return with which sign ``me`` adds the mask it has in common with ``peer``.

    Ids are compared by their UTF-8 bytes, which is the order of their code points.
    """
    return 1 if me > peer else -1
