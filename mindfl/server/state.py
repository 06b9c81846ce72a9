"""The state of a job between two iterations, and the reasons that ended iterations report."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from mindfl.protocol import Weights
from mindfl.server.server_config import ServerConfig

if TYPE_CHECKING:
    from mindfl.server.coordinator import Coordinator

DIGEST_SIZE = 16
MODELS_KEPT = 3

AGGREGATED = "Weight aggregation finished! This iteration is valid. Proceed to next iteration."
UNMASKED = "Weight unmask finished! This iteration is valid. Proceed to next iteration."
#: not a text of the reference, whose sum is then silently wrong
UNMASK_FAILED = "Weight unmask failed! This iteration is invalid. Proceed to next iteration."
DISABLED = "Instance disabled! This iteration is invalid. Proceed to next iteration."

#: likewise: the reference has no iteration without clients
NO_CLIENTS = "No client was chosen! This iteration is valid. Proceed to next iteration."
#: likewise: the reference begins a new job
EMPTIED = "Distributed cache emptied! This iteration is invalid. Proceed to next iteration."

# Answers of the 0.1.0 scheduler.
COMPLETED = "The instance is completed and cannot be {done}."
ALREADY = "The instance has already been {done}."


class ServerState(Enum):
    """The state of a job."""

    RUNNING = "running"
    FINISHED = "finished"
    DISABLED = "disabled"


@dataclass(frozen=True, slots=True)
class JobProgress:
    """How far a job is: a :class:`ServerState`'s value, the current iteration, and how many there are to be."""

    state: str
    iteration: int
    iterations: int

    @classmethod
    def of(cls, coordinator: Coordinator) -> JobProgress:
        """Return how far the job of ``coordinator`` is."""
        return cls(coordinator.state.value, coordinator.iteration, coordinator.config.fl_iteration_num)


@dataclass(frozen=True, eq=False)
class JobState:
    """A coordinator between two iterations: settings, instance name, current iteration and the models kept.

    ``counted`` has the :func:`digest` of each client whose upload was counted, for the iterations among those of the
    models whose quota of uploads was met. ``models`` hold the algorithm's further arrays too, ``arrays`` are its state.
    """

    config: ServerConfig
    instance: str
    iteration: int
    enabled: bool
    models: Mapping[int, Weights]
    counted: Mapping[int, frozenset[bytes]] = field(default_factory=dict)
    arrays: Mapping[str, NDArray[Any]] = field(default_factory=dict)


class EndedIterations:
    """The latest models, and the clients counted in their iterations. See :class:`JobState`."""

    def __init__(self, models: Mapping[int, Weights], counted: Mapping[int, frozenset[bytes]]) -> None:
        self.models = dict(models)
        self.counted = dict(counted)

    def keep(self, number: int, model: Weights, uploaders: Iterable[str] | None) -> None:
        """Note the model of iteration ``number``, and the clients that uploaded to it; None: it failed."""
        self.models[number] = model
        if uploaders is not None:
            self.counted[number] = frozenset(map(digest, uploaders))
        self.models.pop(number - MODELS_KEPT, None)
        self.counted.pop(number - MODELS_KEPT, None)

    def was_counted(self, fl_id: str, number: int) -> bool:
        """Say whether the upload of ``fl_id`` was counted in iteration ``number``."""
        return digest(fl_id) in self.counted.get(number, ())


def digest(fl_id: str) -> bytes:
    """Return 16 bytes that stand for a client's id, which may have any length."""
    return hashlib.blake2b(fl_id.encode(errors="surrogatepass"), digest_size=DIGEST_SIZE).digest()
