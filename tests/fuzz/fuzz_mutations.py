"""Changes to valid files and messages, of the kinds that readers get wrong."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence

from hypothesis import strategies as st

_NUMBERS = (0, 1, 2, 3, 4, 7, 8, 0x7F, 0x80, 0xFF, 0x100, 0x7FFF, 0x8000, 0xFFFF, 2**24, 2**31 - 1, 2**31, 2**32 - 1)
_LONGEST_RUN = 64

#: (bytes, place 0..1, number) -> bytes
_Change = Callable[[bytes, float, int], bytes]


def _place(content: bytes, share: float, step: int = 1) -> int:
    return int(share * len(content)) // step * step


def _flip(content: bytes, share: float, number: int) -> bytes:
    return _put(content, _place(content, share), bytes([content[_place(content, share)] ^ 1 << number % 8]))


def _byte(content: bytes, share: float, number: int) -> bytes:
    return _put(content, _place(content, share), bytes([number & 0xFF]))


def _short(content: bytes, share: float, number: int) -> bytes:
    return _put(content, _place(content, share, 2), struct.pack("<H", number & 0xFFFF))


def _word(content: bytes, share: float, number: int) -> bytes:
    return _put(content, _place(content, share, 4), struct.pack("<I", number & 0xFFFFFFFF))


def _near_word(content: bytes, share: float, number: int) -> bytes:
    """Move an offset or a length a little."""
    at = _place(content, share, 4)
    old = int.from_bytes(content[at : at + 4], "little")
    return _put(content, at, struct.pack("<I", old + number % 33 - 16 & 0xFFFFFFFF))


def _cut(content: bytes, share: float, number: int) -> bytes:
    return content[: _place(content, share)]


def _remove(content: bytes, share: float, number: int) -> bytes:
    at = _place(content, share)
    return content[:at] + content[at + 1 + number % _LONGEST_RUN :]


def _insert(content: bytes, share: float, number: int) -> bytes:
    at = _place(content, share)
    return content[:at] + bytes([number & 0xFF]) * (1 + number % 7) + content[at:]


def _repeat(content: bytes, share: float, number: int) -> bytes:
    at = _place(content, share)
    run = content[at : at + 1 + number % _LONGEST_RUN]
    return content[:at] + run * 3 + content[at:]


def _put(content: bytes, at: int, new: bytes) -> bytes:
    return content[:at] + new[: len(content) - at] + content[at + len(new) :]


_CHANGES: tuple[_Change, ...] = (
    *(_flip, _byte, _short, _word, _word, _near_word, _near_word),
    *(_cut, _remove, _insert, _repeat),
)
_CHANGE = st.tuples(
    st.sampled_from(_CHANGES),
    st.floats(0, 1, exclude_max=True),
    st.sampled_from(_NUMBERS) | st.integers(0, 2**32 - 1),
)


def changed(content: bytes, most: int = 5) -> st.SearchStrategy[bytes]:
    """Draw ``content`` with one to ``most`` changes; an empty one stays as it is."""

    def apply(changes: Sequence[tuple[_Change, float, int]]) -> bytes:
        result = content
        for change, share, number in changes:
            result = change(result, share, number) if result else result
        return result

    return st.lists(_CHANGE, min_size=1, max_size=most).map(apply)
