"""Named weights: what the protocol calls a feature map."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

FloatVector: TypeAlias = NDArray[np.float32]
"""One weight: float32, one dimension, row-major order of the tensor."""

Weights: TypeAlias = Mapping[str, FloatVector]
"""Name -> flat float32 values. The mapping's order is the order of the entries on the wire."""


def split_weights(flat: FloatVector, slices: Mapping[str, slice]) -> Weights:
    """Return read-only named views into ``flat`` (float32, one dimension), in the order of ``slices``."""
    whole = flat.view()
    whole.flags.writeable = False
    return MappingProxyType({name: whole[part] for name, part in slices.items()})


def weights_bytes(weights: Weights | None) -> int:
    """Return the number of bytes of the values in ``weights``; 0 for None."""
    return sum(values.nbytes for values in weights.values()) if weights else 0
