"""Texts as numbers of word pieces, as the device of MindSpore Federated's ALBERT demo makes them.

Ideographs (U+4E00 to U+9FA5) and ASCII punctuation are words of their own. A word is cut into the longest pieces that
the vocabulary has, from its beginning; a piece that does not begin a word is written ``##piece`` there. A word that
cannot be cut completely is ``[UNK]``.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mindfl.data.text_files import read_text
from mindfl.errors import DataError

UNKNOWN, FIRST, LAST = "[UNK]", "[CLS]", "[SEP]"
#: what a vocabulary that is made from texts begins with
_SPECIAL = ("[PAD]", UNKNOWN, FIRST, LAST, "[MASK]")
#: the demo's size
MOST_TOKENS = 11682
_MOST_ID = (1 << 31) - 1
_ALONE = re.compile(r"([\u4e00-\u9fa5!-/:-@\[-`{-~])")
_SPACE = re.compile(r"[ \t\n\x0b\f\r]+")
#: what is cut off both ends of a text: spaces and control characters
_ENDS = "".join(map(chr, range(33)))


def words(text: str) -> list[str]:
    """Return the words of a text.

    Example:
        >>> words("  It's fine, 很好!")
        ['It', "'", 's', 'fine', ',', '很', '好', '!']
    """
    spaced = _ALONE.sub(r" \1 ", text.strip(_ENDS)).strip(_ENDS)
    return _SPACE.split(spaced) if spaced else []


def without_case(text: str) -> str:
    """Return a text in lower case without accents and control characters, as the demo's Python scripts clean it."""
    seen = (" " if letter in "\t\r\n" else letter for letter in text)
    clean = "".join(letter for letter in seen if unicodedata.category(letter)[0] != "C" and letter != "\ufffd")
    apart = unicodedata.normalize("NFD", clean.lower())
    return "".join(letter for letter in apart if unicodedata.category(letter) != "Mn")


class Tokenizer:
    """Cuts texts into the word pieces of a ``vocabulary``, which maps each to its number.

    Raises :class:`DataError` if the vocabulary lacks ``[UNK]``, ``[CLS]`` or ``[SEP]``.
    """

    def __init__(self, vocabulary: Mapping[str, int]) -> None:
        if missing := [token for token in (UNKNOWN, FIRST, LAST) if token not in vocabulary]:
            raise DataError(f"the vocabulary has no {missing[0]}", hint=f"it needs {UNKNOWN}, {FIRST} and {LAST}")
        self._numbers = vocabulary
        self._longest = max(map(len, vocabulary))
        self._known: dict[str, list[int]] = {}

    @property
    def size(self) -> int:
        """The largest number and one."""
        return max(self._numbers.values()) + 1

    def pieces(self, text: str) -> list[int]:
        """Return the numbers of a text's word pieces."""
        return list(chain.from_iterable(map(self._pieces, words(text))))

    def features(self, pieces: list[int], length: int, start: int = 0) -> NDArray[np.int32]:
        """Return a sample (3, ``length``): numbers, segment numbers (0), and mask (1, or 0 for padding).

        ``[CLS]`` is put before the pieces and ``[SEP]`` behind them. Of too many pieces those from ``start`` on are
        taken, going on with the first behind the last; behind too few there are zeros.
        """
        room = length - 2
        if len(pieces) > room:
            pieces = [pieces[(start + place) % len(pieces)] for place in range(room)]
        ids = [self._numbers[FIRST], *pieces, self._numbers[LAST]]
        sample = np.zeros((3, length), np.int32)
        sample[0, : len(ids)] = ids
        sample[2, : len(ids)] = 1
        return sample

    def _pieces(self, word: str) -> list[int]:
        found = self._known.get(word)
        if found is None:
            found = self._known[word] = self._cut(word)
        return found

    def _cut(self, word: str) -> list[int]:
        numbers: list[int] = []
        start = 0
        while start < len(word):
            before = "##" if start else ""
            ends = range(min(len(word), start + self._longest), start, -1)
            end = next((end for end in ends if before + word[start:end] in self._numbers), None)
            if end is None:
                return [self._numbers[UNKNOWN]]
            numbers.append(self._numbers[before + word[start:end]])
            start = end
        return numbers


def read_vocabulary(vocabulary: Path, ids: Path | None) -> dict[str, int]:
    """Return the pieces of ``vocabulary``, one a line, with the numbers in the lines of ``ids``; None: the lines' own.

    Raises :class:`DataError` naming the line of what is no number, and if the files have different numbers of lines.
    """
    pieces = _lines(vocabulary)
    if ids is None:
        return {piece: number for number, piece in enumerate(pieces)}
    numbers = []
    for line, text in enumerate(_lines(ids), 1):
        if not re.fullmatch(r"[0-9]{1,10}", text.strip()) or int(text) > _MOST_ID:
            raise DataError(f"{ids}, line {line}: {text[:40]!r} is no number of a token")
        numbers.append(int(text))
    if len(numbers) != len(pieces):
        raise DataError(f"{vocabulary} has {len(pieces)} lines, but {ids} {len(numbers)}", hint="they belong together")
    return dict(zip(pieces, numbers, strict=True))


def _lines(path: Path) -> list[str]:
    lines = read_text(path).removesuffix("\n").split("\n")
    if lines == [""]:
        raise DataError(f"{path} is empty")
    return lines


def make_vocabulary(texts: Iterable[str], most: int) -> dict[str, int]:
    """Return a vocabulary of at most ``most`` pieces for ``texts``: letters first, then words, the frequent ones first.

    Every letter of the texts is a piece, at the beginning of words and inside them, as far as half of the room goes.
    """
    counts = Counter(chain.from_iterable(map(words, texts)))
    letters: Counter[str] = Counter()
    for word, count in counts.items():
        letters[word[0]] += count
        for letter in word[1:]:
            letters[f"##{letter}"] += count
    ordered = (_frequent(letters)[: (most - len(_SPECIAL)) // 2], _frequent(counts))
    pieces = dict.fromkeys(chain(_SPECIAL, *ordered))
    return {piece: number for number, piece in enumerate(list(pieces)[:most])}


def _frequent(counts: Counter[str]) -> list[str]:
    return sorted(counts, key=lambda each: (-counts[each], each))
