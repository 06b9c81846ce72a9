"""Whether an iteration aggregated anything, judged from the two models that a device gets and from its own upload.

A server whose iteration failed gives the model away that the iteration began with. A device that uploaded something
else, and gets bitwise that model, knows. It knows nothing where the average of such uploads could be that model: where
training hardly moved a weight, so that averaging with others, rounding or fixed-point numbers take it back.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from mindfl.modes import Trained, UploadMode
from mindfl.privacy.compression import Rounding, dequantise, quantise
from mindfl.protocol import CompressType, FloatVector, Weights

#: a weight that was moved less, in units of its last place, may come back as it was
_LEAST_PLACES = 1024

#: where every iteration of a server elsewhere failed
LIKELY_REASON = (
    "the server's start_fl_job_threshold is likely above the number of devices that take part, or its windows are too"
    " short: its log says which"
)

Digests = Mapping[str, bytes]


def digests(weights: Weights) -> Digests:
    """Return what tells the weights from others, bit by bit, in a few bytes."""
    return {name: hashlib.blake2b(values.tobytes(), digest_size=16).digest() for name, values in weights.items()}


def unchanged(before: Digests, after: Digests) -> bool:
    """Return whether the weights that both hold are bitwise the same; False where there are none."""
    common = before.keys() & after.keys()
    return bool(common) and all(before[name] == after[name] for name in common)


def uploads_change(mode: UploadMode, fields: Mapping[str, Any], trained: Trained, download: CompressType) -> bool:
    """Return whether the average of uploads like this one is sure to be another model than the received one.

    Args:
        mode: the form of the upload.
        fields: those of RequestUpdateModel that hold it.
        trained: what was uploaded.
        download: the form in which the next model comes.
    """
    content, received = mode.meant(fields, trained), trained.received
    if download == CompressType.QUANT:
        content = {name: dequantise(quantise(name, values, Rounding.HALF_AWAY)) for name, values in content.items()}
    return any(
        bool((np.abs(values - received[name]) > _least_move(received[name], mode)).any())
        for name, values in content.items()
        if name in received
    )


def _least_move(values: FloatVector, mode: UploadMode) -> FloatVector:
    least: FloatVector = np.maximum(_LEAST_PLACES * np.spacing(np.abs(values)), np.float32(mode.least_move))
    return least
