"""Numbers in messages."""

from __future__ import annotations


def counted(number: int, noun: str, plural: str = "") -> str:
    """Return ``number`` and ``noun``, which gets an s (or is ``plural``) for any number but one.

    Example:
        >>> counted(1, "client"), counted(3, "client"), counted(0, "batch", "batches")
        ('1 client', '3 clients', '0 batches')
    """
    return f"{number} {noun}" if number == 1 else f"{number} {plural or f'{noun}s'}"
