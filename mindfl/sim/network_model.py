"""A job's model without a ``.ms`` file: the weights of a network of MindSpore, in a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from mindfl.errors import ModelFormatError
from mindfl.files import PathLike, write_atomic
from mindfl.lite import LiteModel
from mindfl.models import NetworkSizes
from mindfl.server.ckpt import encode_ckpt, read_ckpt

Weights = Mapping[str, NDArray[np.float32]]
#: ending of its files
CHECKPOINT = ".ckpt"


@dataclass(frozen=True)
class NetworkModel:
    """All weights of a network, in MindSpore's order and shapes; what the network computes is in its class alone.

    It has those methods of :class:`~mindfl.lite.LiteModel` that a job needs of its model.

    Args:
        weights: float32 by name, trained or not.
        sizes: what the network is made for.
    """

    weights: Weights = field(repr=False)
    sizes: NetworkSizes

    def __reduce__(self) -> tuple[type[NetworkModel], tuple[dict[str, NDArray[np.float32]], NetworkSizes]]:
        """Read-only views cannot be pickled: a dictionary stands for the weights."""
        return NetworkModel, (dict(self.weights), self.sizes)

    @staticmethod
    def load(path: PathLike, sizes: NetworkSizes) -> NetworkModel:
        """Read a checkpoint. Raises :class:`StorageError` if unreadable, :class:`ModelFormatError` if it is none."""
        return NetworkModel(MappingProxyType(read_ckpt(path)), sizes)

    @cached_property
    def content(self) -> bytes:
        """The checkpoint."""
        return encode_ckpt(self.weights)

    def patched(self, values: Weights) -> bytes:
        """Return the checkpoint with the weights named in ``values`` replaced, which may be flat.

        Raises :class:`ModelFormatError` for a name that the network does not have, and for a wrong size.
        """
        return encode_ckpt(self.to_mindspore(values))

    def save(self, path: PathLike, values: Weights | None = None) -> None:
        """Write the checkpoint, with ``values`` replaced as in :meth:`patched`, atomically."""
        write_atomic(path, self.patched(values or {}))

    def to_mindspore(self, values: Weights | None = None) -> dict[str, NDArray[np.float32]]:
        """Return all weights in their shapes, those in ``values`` with these values.

        Raises :class:`ModelFormatError` for a name that the network does not have, and for a wrong size.
        """
        changed = {}
        for name, value in (values or {}).items():
            known = self.weights.get(name)
            if known is None or known.size != value.size:
                raise ModelFormatError(f"the network has no parameter {name} of {value.size} elements")
            changed[name] = value.reshape(known.shape)
        return {name: np.array(changed.get(name, value), np.float32) for name, value in self.weights.items()}


#: a model as a job holds it
JobModel: TypeAlias = LiteModel | NetworkModel


def load_model(path: Path, sizes: NetworkSizes) -> JobModel:
    """Read a model file of a job; ``sizes`` are those of a network whose file does not say them."""
    return NetworkModel.load(path, sizes) if path.suffix == CHECKPOINT else LiteModel.load(path)
