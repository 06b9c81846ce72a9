"""The coordinator of a federated job: state machine, exact aggregation, counters."""

from __future__ import annotations

from mindfl.server.aggregate import FeatureLayout, FedAvgSum, PartialSum
from mindfl.server.config import ServerConfig
from mindfl.server.coordinator import Coordinator, EdgeCoordinator, Part, ServerState
from mindfl.server.iteration import IterationRecord, Visits
from mindfl.server.refusal import Refusal

__all__ = [
    "Coordinator",
    "EdgeCoordinator",
    "FeatureLayout",
    "FedAvgSum",
    "IterationRecord",
    "Part",
    "PartialSum",
    "Refusal",
    "ServerConfig",
    "ServerState",
    "Visits",
]
