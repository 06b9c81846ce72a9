"""Uploads in the forms of :mod:`mindfl.privacy`, as if they had come as plain weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mindfl.privacy.faults import EncodingError
from mindfl.privacy.signds import decode_signs
from mindfl.privacy.sparse import decode_update
from mindfl.protocol import CompressType, RequestUpdateModel, Weights
from mindfl.protocol.encryption import MASKED_TYPES, PW_EXACT, SIGN_DS
from mindfl.server.config import ServerConfig
from mindfl.server.events import Content
from mindfl.server.refusal import FAULT_REFUSALS, Refusal

if TYPE_CHECKING:
    from mindfl.server.secure import Rounds


@dataclass(frozen=True, slots=True, eq=False)
class Basis:
    """What an upload builds on: the job's settings, the model that the iteration began with, the device's samples, and
    the rounds of secure aggregation."""

    config: ServerConfig
    model: Weights
    data_size: int
    rounds: Rounds[Any] | None = None


def uploaded_content(request: RequestUpdateModel, basis: Basis) -> Content | Refusal:
    """Return the weights of an upload, each multiplied by the data size, or why they cannot be known.

    With ``PW_EXACT`` they are masked words, see :class:`mindfl.privacy.secagg.FixedPoint`.
    """
    decoder = _decoder(request, basis.config)
    try:
        return decoder(request, basis) if decoder else request.feature_map or {}
    except EncodingError as error:
        return FAULT_REFUSALS[error.fault]


def _decoder(
    request: RequestUpdateModel, config: ServerConfig
) -> Callable[[RequestUpdateModel, Basis], Content | Refusal] | None:
    if config.encrypt_type in MASKED_TYPES:
        return _words if config.encrypt_type == PW_EXACT else _masked
    if request.upload_compress_type == CompressType.DIFF_SPARSE_QUANT:
        return _sparse
    return _signs if config.encrypt_type == SIGN_DS and request.sign else None


def _masked(request: RequestUpdateModel, basis: Basis) -> Content | Refusal:
    # A mask lies over all weights end to end: with one missing, nobody could take it away.
    weights = request.feature_map or {}
    return weights if weights.keys() >= basis.model.keys() else Refusal.WEIGHTS_MISSING


def _words(request: RequestUpdateModel, basis: Basis) -> Content | Refusal:
    entries = request.compress_feature_map or ()
    data = entries[0].compress_data if len(entries) == 1 else None
    fixed, length = basis.config.fixed_point, sum(values.size for values in basis.model.values())
    if data is None or data.nbytes != length * fixed.dtype.itemsize:
        return Refusal.WEIGHTS_WRONG_SHAPE
    assert basis.rounds is not None
    # A message of another instance, where this iteration was numbered likewise, would spoil the sum.
    if entries[0].weight_fullname != basis.rounds.upload_name(request.fl_id or ""):
        return Refusal.UPDATE_STALE
    return fixed.unpack(data.tobytes(), length, request.fl_id or "")


def _sparse(request: RequestUpdateModel, basis: Basis) -> Weights:
    return decode_update(
        request.compress_feature_map,
        request.name_vec,
        basis.model,
        data_size=basis.data_size,
        rate=basis.config.sparse_rate,
        upload_rate=request.upload_sparse_rate,
        iteration=request.iteration,
    )


def _signs(request: RequestUpdateModel, basis: Basis) -> Weights:
    return decode_signs(
        request.sign,
        request.index_array,
        tuple(request.feature_map or ()),
        basis.model,
        data_size=basis.data_size,
        global_lr=basis.config.ds_params.sign_global_lr,
    )
