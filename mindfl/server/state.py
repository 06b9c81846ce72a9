"""The state of a job between two iterations, and the texts that say how it came about."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from mindfl.protocol import Weights
from mindfl.server.config import ServerConfig

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
