"""Random bytes and numbers: from the operating system on a device, from a seed in a simulation."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from itertools import count
from typing import TypeAlias

RandomBytes: TypeAlias = Callable[[int], bytes]
"""Number of bytes -> that many: ``os.urandom`` on a device, a seeded keystream in a simulation."""


class SeededRandom:
    """A ChaCha20 keystream (RFC 8439's block function) that is the same for the same ``seed`` and ``context``.

    Needs the package cryptography.

    Args:
        seed: of the simulation: any whole number or bytes.
        context: purpose of the stream, such as client and iteration; every combination has its own stream.

    For simulations only: the seed determines every secret. One stream gives at most 256 GiB; not thread-safe.
    """

    def __init__(self, seed: int | bytes, *context: str | int) -> None:
        from cryptography.hazmat.primitives.ciphers import Cipher, algorithms

        parts = [b"mindfl seeded random", seed if isinstance(seed, bytes) else str(seed).encode()]
        parts += [str(part).encode("utf-8", "surrogatepass") for part in context]
        # Lengths before the parts: ("a", "bc") and ("ab", "c") must differ.
        key = hashlib.sha256(b"".join(len(part).to_bytes(8, "big") + part for part in parts)).digest()
        self._stream = Cipher(algorithms.ChaCha20(key, bytes(16)), None).encryptor()

    def __call__(self, count: int) -> bytes:
        """Return the next ``count`` bytes."""
        return self._stream.update(bytes(count))


def below(bound: int, random: RandomBytes) -> int:
    """Return a number that is uniform in 0..``bound`` - 1."""
    bits = (bound - 1).bit_length()
    while True:
        value = int.from_bytes(random((bits + 7) // 8), "little") & ((1 << bits) - 1)
        if value < bound:
            return value


def draw(population: int, count: int, random: RandomBytes) -> list[int]:
    """Return ``count`` different numbers below ``population``, every set equally likely (Floyd's algorithm)."""
    chosen: dict[int, None] = {}
    for last in range(population - count, population):
        number = below(last + 1, random)
        chosen[last if number in chosen else number] = None
    return list(chosen)


def random_below(bound: int, random: RandomBytes) -> int:
    """Return a number that is uniform in 1..``bound`` - 1, by rejection. ``bound`` is at least 2."""
    bits = (bound - 1).bit_length()
    size, mask = (bits + 7) // 8, (1 << bits) - 1
    while True:
        value = int.from_bytes(random(size), "big") & mask
        if 0 < value < bound:
            return value


def seeded_bytes(*origin: int | str) -> RandomBytes:
    """Return a source of bytes that depends only on ``origin``: call i returns the start of SHAKE-256(key, i).

    For simulations, never for devices: ``origin`` determines the bytes. Not thread-safe.
    """
    key = hashlib.sha256(repr(origin).encode()).digest()
    calls = count()
    return lambda size: hashlib.shake_256(key + next(calls).to_bytes(8, "little")).digest(size)
