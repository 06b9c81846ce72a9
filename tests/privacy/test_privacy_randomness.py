"""Randomness that can be had again."""

from __future__ import annotations

import numpy as np

from mindfl.privacy import seeded_bytes


def test_the_same_origin_gives_the_same_bytes_call_by_call() -> None:
    one, same = seeded_bytes("upload", 7, 3, 1), seeded_bytes("upload", 7, 3, 1)
    drawn = [one(size) for size in (8, 1, 100, 0)]
    assert drawn == [same(size) for size in (8, 1, 100, 0)]
    assert [len(part) for part in drawn] == [8, 1, 100, 0]
    assert len({part[:1] + part for part in drawn}) == 4


def test_every_part_of_the_origin_counts() -> None:
    origins = [("upload", 7, 3, 1), ("upload", 7, 31), ("upload", 73, 1), ("upload", 7, 3, 2), ("upload", "7", 3, 1)]
    assert len({seeded_bytes(*origin)(16) for origin in origins}) == len(origins)


def test_known_bytes() -> None:
    assert seeded_bytes("mindfl", 0)(8).hex() == "b7525eea8abb446b"


def test_bytes_are_uniform() -> None:
    counts = np.bincount(np.frombuffer(seeded_bytes(1)(1 << 20), np.uint8), minlength=256)
    expected = (1 << 20) / 256
    chi_square = float(((counts - expected) ** 2 / expected).sum())
    assert 170 < chi_square < 355  # 255 degrees of freedom: 1 in 10,000 lies beyond
