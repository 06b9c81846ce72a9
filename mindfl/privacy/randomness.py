"""Randomness that can be had again: a simulation with the same seed draws the same noise."""

from __future__ import annotations

import hashlib
from itertools import count

from mindfl.privacy.dp import RandomBytes


def seeded_bytes(*origin: int | str) -> RandomBytes:
    """Return a source of bytes that depends on ``origin`` alone: call i gives the start of SHAKE-256(key, i).

    Who knows ``origin`` knows the bytes: for simulations, never for devices. Not for several threads.
    """
    key = hashlib.sha256(repr(origin).encode()).digest()
    calls = count()
    return lambda size: hashlib.shake_256(key + next(calls).to_bytes(8, "little")).digest(size)
