"""Simulation of a federated job."""

from mindfl.sim.config import JobConfig
from mindfl.sim.evaluation import Accuracy
from mindfl.sim.history import History, IterationRow
from mindfl.sim.job import FederatedJob, FederatedLeNetJob, Reporter
from mindfl.sim.result import Result, weight_hash

__all__ = [
    "Accuracy",
    "FederatedJob",
    "FederatedLeNetJob",
    "History",
    "IterationRow",
    "JobConfig",
    "Reporter",
    "Result",
    "weight_hash",
]
