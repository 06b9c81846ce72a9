"""The letters of LEAF's Shakespeare task: text as numbers from 0 to 79, and windows of it as samples."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

#: the vocabulary of LEAF's language models, in its order
LETTERS = "\n !\"&'(),-.0123456789:;>?ABCDEFGHIJKLMNOPQRSTUVWXYZ[]abcdefghijklmnopqrstuvwxyz}"
#: names of the letters as classes
LETTER_NAMES = tuple({"\n": "newline", " ": "space"}.get(letter, letter) for letter in LETTERS)
_SPACE = LETTERS.index(" ")
_NONE = 255
_PLAIN = str.maketrans({"\u2018": "'", "\u2019": "'", "\u201c": '"', "\u201d": '"', "\u2013": "-", "\u2014": "--"})
_IDS = np.full(128, _NONE, np.uint8)
_IDS[[ord(letter) for letter in LETTERS]] = range(len(LETTERS))


def letter_ids(text: str) -> NDArray[np.uint8]:
    """Return the numbers of a text's letters. Accents, and what has no letter in the vocabulary, are left out.

    Example:
        >>> letter_ids("Héllo*").tolist() == [LETTERS.index(letter) for letter in "Hello"]
        True
    """
    plain = unicodedata.normalize("NFKD", text.translate(_PLAIN))
    points = np.frombuffer(plain.encode("utf-32-le", "surrogatepass"), "<u4")
    ids: NDArray[np.uint8] = _IDS[points[points < len(_IDS)]]
    known: NDArray[np.uint8] = ids[ids != _NONE]
    return known


def padded(lines: Sequence[NDArray[np.uint8]], length: int) -> NDArray[np.uint8]:
    """Return ``lines`` in a row, each behind ``length`` spaces."""
    space = np.full(length, _SPACE, np.uint8)
    return np.concatenate([part for line in lines for part in (space, line)])


def window_starts(sizes: Sequence[int], length: int, stride: int) -> NDArray[np.int64]:
    """Return where samples begin in what :func:`padded` returns for lines of ``sizes``.

    A sample is ``length`` letters, its label the one behind them; every ``stride``-th letter of each line is a label,
    from the first.
    """
    first = np.cumsum([0, *(length + size for size in sizes[:-1])])
    return np.concatenate([start + np.arange(0, size, stride) for start, size in zip(first, sizes, strict=True)])
