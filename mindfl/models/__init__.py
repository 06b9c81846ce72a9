"""Networks for MindSpore. Importing this package is cheap; MindSpore is loaded when a network is made."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mindfl.imports import lazy_names
from mindfl.models._mindspore import (
    first_sentence,
    has_avx512,
    import_mindspore,
    mindspore_lock,
)
from mindfl.models.initializers import INITIALIZERS
from mindfl.models.networks import DEFAULT_INIT, MODELS, Model, ModelSpec, NetworkSizes, model_spec

if TYPE_CHECKING:
    from mindfl.models.lenet import LeNet5

__all__ = [
    "DEFAULT_INIT",
    "INITIALIZERS",
    "MODELS",
    "LeNet5",
    "Model",
    "ModelSpec",
    "NetworkSizes",
    "first_sentence",
    "has_avx512",
    "import_mindspore",
    "mindspore_lock",
    "model_spec",
]


__getattr__ = lazy_names(__name__, {"LeNet5": "mindfl.models.lenet"})
