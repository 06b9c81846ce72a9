"""MindSpore Federated 0.1.0 as processes of this machine: its server, its Java clients, and the record of all of them.

Optional: jobs find it through :mod:`mindfl.sim.backends`. The names below are loaded when first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mindfl.imports import lazy_names

if TYPE_CHECKING:
    from mindfl.real.federated_config import FederatedConfig, TlsFiles
    from mindfl.real.federated_environment import install
    from mindfl.real.federated_server import FederatedServer, FederatedState
    from mindfl.real.java_clients import JavaClients
    from mindfl.real.java_files import JavaClientFiles
    from mindfl.real.java_settings import JavaSettings
    from mindfl.real.process_registry import ProcessRegistry

#: name -> module that defines it
_HOMES = {
    "FederatedConfig": "mindfl.real.federated_config",
    "FederatedServer": "mindfl.real.federated_server",
    "FederatedState": "mindfl.real.federated_server",
    "JavaClientFiles": "mindfl.real.java_files",
    "JavaClients": "mindfl.real.java_clients",
    "JavaSettings": "mindfl.real.java_settings",
    "ProcessRegistry": "mindfl.real.process_registry",
    "TlsFiles": "mindfl.real.federated_config",
    "install": "mindfl.real.federated_environment",
}

__all__ = [
    "FederatedConfig",
    "FederatedServer",
    "FederatedState",
    "JavaClientFiles",
    "JavaClients",
    "JavaSettings",
    "ProcessRegistry",
    "TlsFiles",
    "install",
]

__getattr__ = lazy_names(__name__, _HOMES)
