"""Labels of tables and rows, numbers or names, as class numbers."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mindfl.data.samples import natural_key
from mindfl.errors import DataError

#: more classes than any classifier has; a larger label is a mistake
MOST_CLASSES = 1 << 20


def label_numbers(
    labels: Sequence[Any], place: Callable[[int], str]
) -> tuple[NDArray[np.int64], tuple[str, ...] | None]:
    """Return labels as class numbers.

    Args:
        labels: whole numbers, or texts of whole numbers; or names, which are numbered in natural order (2 before 10).
        place: returns where the label at a position stands, for messages.

    Returns:
        The numbers, and the names of the classes where labels are names.

    Raises:
        DataError: a label is negative, above :data:`MOST_CLASSES`, or something else.

    Example:
        >>> label_numbers(["dog", "cat", "dog"], str)[0].tolist()
        [1, 0, 1]
    """
    numbers = list(map(_whole, labels))
    if labels and all(isinstance(label, str) for label in labels) and numbers.count(None) == len(numbers):
        names = tuple(sorted(set(labels), key=natural_key))
        places = {name: number for number, name in enumerate(names)}
        return np.array([places[label] for label in labels]), names
    for position, number in enumerate(numbers):
        if number is None:
            raise DataError(
                f"{place(position)}: the label {labels[position]!r:.60} is no whole number",
                hint="labels are numbers from 0, or all of them are names",
            )
        if not 0 <= number < MOST_CLASSES:
            raise DataError(f"{place(position)}: the label {number} is outside 0..{MOST_CLASSES - 1}")
    return np.array(numbers, np.int64), None


def _whole(label: Any) -> int | None:
    try:
        return int(label) if isinstance(label, str) else operator.index(label)
    except (TypeError, ValueError):
        return None
