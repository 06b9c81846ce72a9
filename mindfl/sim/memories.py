"""What simulated clients keep from one iteration to the next."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from mindfl.algorithms.base import Arrays


@dataclass(frozen=True, eq=False)
class Memory:
    """What one client keeps: plain ``values`` by name, and the ``arrays`` of its algorithm."""

    values: Mapping[str, Any] = field(default_factory=dict)
    arrays: Arrays = field(default_factory=dict)


class Memories:
    """The memory of each client, by its number.

    Args:
        values, arrays: what the properties of these names were.
    """

    def __init__(self, values: Mapping[str, Any] | None = None, arrays: Arrays | None = None) -> None:
        self._kept = {int(index): Memory(plain) for index, plain in (values or {}).items()}
        for key, array in (arrays or {}).items():
            index, _, name = key.partition("/")
            memory = self[int(index)]
            self[int(index)] = Memory(memory.values, {**memory.arrays, name: array})

    def __getitem__(self, index: int) -> Memory:
        return self._kept.get(index, Memory())

    def __setitem__(self, index: int, memory: Memory) -> None:
        self._kept.pop(index, None)
        if memory.values or memory.arrays:
            self._kept[index] = memory

    def part(self, indices: Iterable[int]) -> Memories:
        """Return the memories of these clients alone, to be sent elsewhere."""
        part = Memories()
        for index in indices:
            part[index] = self[index]
        return part

    @property
    def values(self) -> dict[int, Mapping[str, Any]]:
        """The plain values of the clients that keep any."""
        return {index: memory.values for index, memory in self._kept.items() if memory.values}

    @property
    def arrays(self) -> Arrays:
        """The arrays by ``<number>/<name>``."""
        return {f"{i}/{name}": array for i, memory in self._kept.items() for name, array in memory.arrays.items()}
