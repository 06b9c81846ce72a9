"""The coordinator of a federated job: state machine, exact aggregation, counters."""

from __future__ import annotations

from mindfl.server.aggregate import FeatureLayout, FedAvgSum, PartialSum
from mindfl.server.coordinator import Coordinator, EdgeCoordinator
from mindfl.server.iteration import IterationRecord, Part, Visits
from mindfl.server.refusal import Refusal
from mindfl.server.server_config import ServerConfig
from mindfl.server.state import JobState, ServerState

__all__ = [
    "Coordinator",
    "EdgeCoordinator",
    "FeatureLayout",
    "FedAvgSum",
    "IterationRecord",
    "JobState",
    "Part",
    "PartialSum",
    "Refusal",
    "ServerConfig",
    "ServerState",
    "Visits",
]
