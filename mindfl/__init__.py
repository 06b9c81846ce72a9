"""MindSpore-native cross-device federated learning: federated averaging (FedAvg) over non-IID data of many devices.

The names below are the public interface; they are loaded when first used, so importing mindfl is cheap.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mindfl._version import __version__
from mindfl.imports import lazy_names

if TYPE_CHECKING:
    from mindfl.client import DeviceClient
    from mindfl.convert import convert_model, inspect_model
    from mindfl.data import (
        convert_dataset,
        convert_images,
        convert_leaf,
        inspect_dataset,
        make_synthetic,
        open_dataset,
    )
    from mindfl.errors import MindflError, MindflWarning
    from mindfl.export import export_mindir, export_trained
    from mindfl.lite import LiteModel, Session
    from mindfl.models import LeNet5
    from mindfl.server import Coordinator
    from mindfl.sim import FederatedJob, FederatedLeNetJob, History, IterationRow, Result, weight_hash
    from mindfl.sweeps import run_sweep

#: public name -> module that defines it
_HOMES = {
    "Coordinator": "mindfl.server",
    "DeviceClient": "mindfl.client",
    "FederatedJob": "mindfl.sim",
    "FederatedLeNetJob": "mindfl.sim",
    "History": "mindfl.sim",
    "IterationRow": "mindfl.sim",
    "LeNet5": "mindfl.models",
    "LiteModel": "mindfl.lite",
    "MindflError": "mindfl.errors",
    "MindflWarning": "mindfl.errors",
    "Result": "mindfl.sim",
    "Session": "mindfl.lite",
    "convert_dataset": "mindfl.data",
    "convert_images": "mindfl.data",
    "convert_leaf": "mindfl.data",
    "convert_model": "mindfl.convert",
    "export_mindir": "mindfl.export",
    "export_trained": "mindfl.export",
    "inspect_dataset": "mindfl.data",
    "inspect_model": "mindfl.convert",
    "make_synthetic": "mindfl.data",
    "open_dataset": "mindfl.data",
    "run_sweep": "mindfl.sweeps",
    "weight_hash": "mindfl.sim",
}

__all__ = [
    "Coordinator",
    "DeviceClient",
    "FederatedJob",
    "FederatedLeNetJob",
    "History",
    "IterationRow",
    "LeNet5",
    "LiteModel",
    "MindflError",
    "MindflWarning",
    "Result",
    "Session",
    "__version__",
    "convert_dataset",
    "convert_images",
    "convert_leaf",
    "convert_model",
    "export_mindir",
    "export_trained",
    "inspect_dataset",
    "inspect_model",
    "make_synthetic",
    "open_dataset",
    "run_sweep",
    "weight_hash",
]


__getattr__ = lazy_names(__name__, _HOMES)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
