"""A coordinator that serves part of a job's clients for another one."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from mindfl.protocol import Weights
from mindfl.server.coordinator import Coordinator
from mindfl.server.iteration import Part
from mindfl.server.server_config import ServerConfig


class EdgeCoordinator(Coordinator):
    """Answers part of a job's clients on another coordinator's behalf, for one iteration.

    Uploads are summed here and wait to be taken; clients that ask for the model are told to wait until it is published.
    ``config.start_fl_job_threshold`` is the number of clients of this part.
    """

    def __init__(self, config: ServerConfig, model: Mapping[str, NDArray[np.float32]], iteration: int) -> None:
        super().__init__(config, model)
        self.job.begin_part(iteration)

    def part(self) -> Part:
        """Return what the clients did so far, to be absorbed by the other coordinator."""
        return self.job.part()

    def publish(self, model: Weights, now_ms: int) -> None:
        """End the iteration with the model that the other coordinator made of it."""
        self.job.end_part(model, now_ms)
