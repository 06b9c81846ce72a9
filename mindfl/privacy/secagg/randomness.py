"""Where secrets come from: the operating system on a real device, a seed in a simulation."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import TypeAlias

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms

#: number of bytes -> that many random bytes. ``os.urandom`` is the one for real devices.
RandomBytes: TypeAlias = Callable[[int], bytes]


class SeededRandom:
    """A ChaCha20 keystream (RFC 8439's block function) that is the same for the same ``seed`` and ``context``.

    Args:
        seed: of the simulation: any whole number or bytes.
        context: what the stream is for, such as client and iteration; every combination has a stream of its own.

    For simulations: who knows the seed knows every secret. One stream gives at most 256 GiB; not for several threads.
    """

    def __init__(self, seed: int | bytes, *context: str | int) -> None:
        parts = [b"mindfl seeded random", seed if isinstance(seed, bytes) else str(seed).encode()]
        parts += [str(part).encode("utf-8", "surrogatepass") for part in context]
        # Lengths before the parts: ("a", "bc") and ("ab", "c") must differ.
        key = hashlib.sha256(b"".join(len(part).to_bytes(8, "big") + part for part in parts)).digest()
        self._stream = Cipher(algorithms.ChaCha20(key, bytes(16)), None).encryptor()

    def __call__(self, count: int) -> bytes:
        """Return the next ``count`` bytes."""
        return self._stream.update(bytes(count))


def random_below(bound: int, random: RandomBytes) -> int:
    """Return a number that is uniform in 1..``bound`` - 1, by rejection. ``bound`` is at least 2."""
    bits = (bound - 1).bit_length()
    size, mask = (bits + 7) // 8, (1 << bits) - 1
    while True:
        value = int.from_bytes(random(size), "big") & mask
        if 0 < value < bound:
            return value
