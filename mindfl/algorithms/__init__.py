"""Federated algorithms: what clients do beside plain training, and how the server makes the next model.

An algorithm is a value: its settings never change, and its state is named arrays that the job keeps, saves
and gives back. So a run can be resumed, replayed and spread over processes with the same bits.
"""

from __future__ import annotations

from mindfl.algorithms.algorithm import (
    Algorithm,
    Client,
    ClientUpload,
    Correction,
    Round,
    Step,
    Training,
    Upload,
    zeros_like,
)
from mindfl.algorithms.apfl import APFL
from mindfl.algorithms.baselines import Centralized, Local
from mindfl.algorithms.ditto import Ditto
from mindfl.algorithms.fedcm import FedCM
from mindfl.algorithms.feddyn import FedDyn
from mindfl.algorithms.fedexp import FedExP
from mindfl.algorithms.fednova import FedNova
from mindfl.algorithms.fedprox import FedProx
from mindfl.algorithms.learning_rates import ConstantRate, CosineDecay, Schedule, StepDecay
from mindfl.algorithms.local_optimizer import LocalOptimizer
from mindfl.algorithms.local_parts import FedBN, FedPer
from mindfl.algorithms.qfedavg import QFedAvg
from mindfl.algorithms.robust import Krum, Median, MultiKrum, TrimmedMean
from mindfl.algorithms.sampler import Sampler, Uniform
from mindfl.algorithms.scaffold import Scaffold, ScaffoldNIID
from mindfl.algorithms.server_optimizers import FedAdagrad, FedAdam, FedAvg, FedAvgM, FedYogi

__all__ = [
    "APFL",
    "Algorithm",
    "Centralized",
    "Client",
    "ClientUpload",
    "ConstantRate",
    "Correction",
    "CosineDecay",
    "Ditto",
    "FedAdagrad",
    "FedAdam",
    "FedAvg",
    "FedAvgM",
    "FedBN",
    "FedCM",
    "FedDyn",
    "FedExP",
    "FedNova",
    "FedPer",
    "FedProx",
    "FedYogi",
    "Krum",
    "Local",
    "LocalOptimizer",
    "Median",
    "MultiKrum",
    "QFedAvg",
    "Round",
    "Sampler",
    "Scaffold",
    "ScaffoldNIID",
    "Schedule",
    "Step",
    "StepDecay",
    "Training",
    "TrimmedMean",
    "Uniform",
    "Upload",
    "zeros_like",
]
