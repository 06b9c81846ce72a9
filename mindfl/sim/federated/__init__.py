"""The real MindSpore Federated 0.1.0 server under mindfl's control."""

from __future__ import annotations

from mindfl.sim.federated.config import FederatedConfig, TlsFiles
from mindfl.sim.federated.environment import install
from mindfl.sim.federated.management import FederatedState
from mindfl.sim.federated.server import FederatedServer

__all__ = ["FederatedConfig", "FederatedServer", "FederatedState", "TlsFiles", "install"]
