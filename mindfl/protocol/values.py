"""Values in messages: weights by name, and enumerations, whose values are those on the wire."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from types import MappingProxyType
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

#: a server sums weights that are smaller than this
LIMIT = 2.0**36


class Int8Enum(IntEnum):
    """An enumeration stored as int8. A value that a newer peer knows and we do not becomes a member without a name."""

    @classmethod
    def _missing_(cls, value: object) -> Int8Enum | None:
        if not isinstance(value, int) or not -128 <= value <= 127:
            return None
        member = int.__new__(cls, value)
        member._name_ = f"UNKNOWN_{value}"
        member._value_ = value
        return member


class ResponseCode(IntEnum):
    """Value of the ``retcode`` field (int32)."""

    SUCCEED = 200
    SUC_NOT_READY = 201
    OUT_OF_TIME = 300
    REQUEST_ERROR = 400
    SYSTEM_ERROR = 500


class AggregationType(Int8Enum):
    """How uploads become the next model (int8)."""

    FED_AVG = 0
    FED_PROX = 1
    SCAFFOLD = 2
    FED_NOVA = 3
    QFFL = 4


class Metric(Int8Enum):
    """Metric that a plan may ask for (int8)."""

    ACCURACY = 0
    PRECISION = 1
    RECALL = 2
    AUC = 3
    F1 = 4
    FBETA = 5


class EarlyStopType(Int8Enum):
    """Criterion of :class:`mindfl.protocol.EarlyStop` (int8)."""

    LOSS_DIFF = 0
    LOSS_ABS = 1
    WEIGHT_DIFF = 2


class UnsupervisedEvalFlag(Int8Enum):
    """Whether the server evaluates clients without labels (int8)."""

    EVAL_DISABLE = 0
    EVAL_ENABLE = 1


class CompressType(Int8Enum):
    """Form in which weights travel (int8)."""

    NO_COMPRESS = 0
    DIFF_SPARSE_QUANT = 1
    QUANT = 2


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
