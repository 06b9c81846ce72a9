"""Bytes that must not be seen."""

from __future__ import annotations

import hmac
from typing import NoReturn


class Secret:
    """Bytes that are not shown, not pickled, and compared in constant time.

    :meth:`wipe` overwrites them. Copies that :meth:`reveal` gave out, and those that a cipher's library made, are not
    reached by it: Python cannot promise more.
    """

    __slots__ = ("_value",)
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, value: bytes) -> None:
        self._value = bytearray(value)

    def reveal(self) -> bytes:
        """Return a copy. Raises ``ValueError`` after :meth:`wipe`."""
        if not self._value:
            raise ValueError("this secret was wiped")
        return bytes(self._value)

    def wipe(self) -> None:
        """Overwrite and forget the bytes."""
        self._value[:] = bytes(len(self._value))
        self._value = bytearray()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and hmac.compare_digest(self._value, other._value)

    def __repr__(self) -> str:
        return "Secret()"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret is not written anywhere")
