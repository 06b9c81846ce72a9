"""The state of a job between two iterations, and the texts that say how it came about."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from mindfl.protocol import Weights
from mindfl.server.config import ServerConfig

if TYPE_CHECKING:
    from mindfl.server.coordinator import Coordinator

AGGREGATED = "Weight aggregation finished! This iteration is valid. Proceed to next iteration."
DISABLED = "Instance disabled! This iteration is invalid. Proceed to next iteration."

# What the scheduler of the 0.1.0 server answers.
COMPLETED = "The instance is completed and cannot be {done}."
ALREADY = "The instance has already been {done}."


class ServerState(Enum):
    """What the job is doing."""

    RUNNING = "running"
    FINISHED = "finished"
    DISABLED = "disabled"


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a job is: a :class:`ServerState`'s value, the current iteration, and how many there are to be."""

    state: str
    iteration: int
    iterations: int

    @classmethod
    def of(cls, coordinator: Coordinator) -> Progress:
        """Return how far the job of ``coordinator`` is."""
        return cls(coordinator.state.value, coordinator.iteration, coordinator.config.fl_iteration_num)


@dataclass(frozen=True, eq=False)
class JobState:
    """A coordinator between two iterations: settings, instance name, current iteration and the models kept.

    ``filled`` is the iteration before if its quota of uploads was met, else None.
    """

    config: ServerConfig
    instance: str
    iteration: int
    enabled: bool
    filled: int | None
    models: Mapping[int, Weights]
