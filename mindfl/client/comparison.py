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

from mindfl.privacy import decode_signs, decode_update
from mindfl.privacy.quantiser import Rounding, dequantise, quantise
from mindfl.protocol import CipherPublicParams, CompressType, ResponseFLJob, Weights
from mindfl.protocol.encryption import PW_EXACT

#: a weight that was moved less may come back as it was: absolute, by encryption, and in units of its last place
_LEAST_MOVE = {PW_EXACT: 2.0**-7}
_LEAST_MOVE_ELSE = 1e-4
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


def uploads_change(
    fields: Mapping[str, Any], trained: Weights, received: Weights, asked: ResponseFLJob, samples: int
) -> bool:
    """Return whether the average of uploads like this one is sure to be another model than ``received``.

    Args:
        fields: those of RequestUpdateModel that hold the upload.
        trained: the weights in it, with noise if it has any, before they were compressed or masked.
        asked: the answer to startFLJob, which says in which form weights travel.
        samples: the number of samples that the device registered.
    """
    content = _content(fields, trained, received, asked, samples)
    if asked.download_compress_type == CompressType.QUANT:
        content = {name: dequantise(quantise(name, values, Rounding.HALF_AWAY)) for name, values in content.items()}
    plan = asked.fl_plan_config
    cipher = plan.cipher if plan and plan.cipher else CipherPublicParams()
    least = _LEAST_MOVE.get(cipher.encrypt_type or "", _LEAST_MOVE_ELSE)
    return any(
        bool(
            (
                np.abs(values - received[name]) > np.maximum(_LEAST_PLACES * np.spacing(np.abs(received[name])), least)
            ).any()
        )
        for name, values in content.items()
        if name in received
    )


def _content(
    fields: Mapping[str, Any], trained: Weights, received: Weights, asked: ResponseFLJob, samples: int
) -> Weights:
    """Return the weights that the server makes of the upload."""
    size = np.float32(samples)
    if "index_array" in fields:
        plan = asked.fl_plan_config
        params = plan.cipher.ds_params if plan and plan.cipher else None
        scaled = decode_signs(
            fields["sign"],
            fields["index_array"],
            tuple(fields["feature_map"]),
            received,
            data_size=samples,
            global_lr=params.sign_global_lr if params else 0.0,
        )
    elif "name_vec" in fields:
        scaled = decode_update(
            fields["compress_feature_map"],
            fields["name_vec"],
            received,
            data_size=samples,
            rate=fields["upload_sparse_rate"],
            upload_rate=fields["upload_sparse_rate"],
            iteration=asked.iteration,
        )
    else:
        return trained
    return {name: values / size for name, values in scaled.items()}
