"""Messages of a plain federated round, one dataclass per FlatBuffers table of MindSpore Federated 0.1.0.

The declaration order of the fields is the field index of the table (a codec can be driven by ``dataclasses.fields``),
and the names are the table's own. ``None`` stands for an absent string, vector or table; scalars default to the
schema's default. Times are strings of decimal milliseconds since the epoch. Two fields have a handier shape than on
the wire: ``[FeatureMap]`` is :data:`~mindfl.protocol.values.Weights`, and ``[u8]`` is ``bytes``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from mindfl.protocol.secure import SecureRequest, SecureResponse
from mindfl.protocol.values import (
    AggregationType,
    CompressType,
    EarlyStopType,
    FloatVector,
    Metric,
    UnsupervisedEvalFlag,
    Weights,
)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CompressFeatureMap:
    """One weight, quantised to int8 between ``min_val`` and ``max_val``."""

    weight_fullname: str | None = None
    compress_data: NDArray[np.int8] | None = None
    min_val: float = 0.0
    max_val: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class UnsupervisedEvalItem:
    """One named vector of an evaluation without labels."""

    eval_name: str | None = None
    eval_data: FloatVector | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class UnsupervisedEvalItems:
    """The evaluation vectors of one client."""

    eval_items: tuple[UnsupervisedEvalItem, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Aggregation:
    """How the server aggregates; the reference server leaves it out of its plan."""

    type: AggregationType = AggregationType.FED_AVG
    weights: FloatVector | None = None
    iid_rate: float = 0.0
    total_client_num: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class EarlyStop:
    """When a client may stop early; the reference server leaves it out of its plan."""

    early_stop_type: EarlyStopType = EarlyStopType.LOSS_DIFF
    weight: float = 0.0
    rounds: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class PWParams:
    """Parameters of pairwise masking."""

    t: int = 0
    p: bytes | None = None
    g: int = 0
    prime: bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DPParams:
    """Parameters of local differential privacy."""

    dp_eps: float = 0.0
    dp_delta: float = 0.0
    dp_norm_clip: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class DSParams:
    """Parameters of SignDS."""

    sign_k: float = 0.0
    sign_eps: float = 0.0
    sign_thr_ratio: float = 0.0
    sign_global_lr: float = 0.0
    sign_dim_out: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class CipherPublicParams:
    """Parameters for the encryption of uploads."""

    encrypt_type: str | None = None
    pw_params: PWParams | None = None
    dp_params: DPParams | None = None
    ds_params: DSParams | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FLPlan:
    """The server's plan for clients: local ``epochs``, ``mini_batch`` samples per step, learning rate ``lr``."""

    server_mode: str | None = None
    fl_name: str | None = None
    iterations: int = 0
    epochs: int = 0
    early_stop: EarlyStop | None = None
    mini_batch: int = 0
    shuffle: bool = False
    lr: float = 0.0
    aggregation: Aggregation | None = None
    metrics: tuple[Metric, ...] | None = None
    cipher: CipherPublicParams | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestFLJob:
    """A client asks to join the current iteration (endpoint ``startFLJob``).

    ``encrypt_types`` is not part of MindSpore Federated 0.1.0, whose server ignores it: it names the client's upload
    modes beyond those of 0.1.0.
    """

    fl_name: str | None = None
    fl_id: str | None = None
    iteration: int = 0
    data_size: int = 0
    timestamp: str | None = None
    sign_data: bytes | None = None
    key_attestation: str | None = None
    equip_cert: str | None = None
    equip_ca_cert: str | None = None
    root_cert: str | None = None
    download_compress_types: tuple[CompressType, ...] | None = None
    eval_data_size: int = 0
    encrypt_types: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ResponseFLJob:
    """Answer to :class:`RequestFLJob`: with 200 the iteration, the plan and the model of the iteration before."""

    retcode: int = 0
    reason: str | None = None
    iteration: int = 0
    is_selected: bool = False
    next_req_time: str | None = None
    fl_plan_config: FLPlan | None = None
    feature_map: Weights | None = None
    timestamp: str | None = None
    upload_compress_type: CompressType = CompressType.NO_COMPRESS
    upload_sparse_rate: float = 0.0
    download_compress_type: CompressType = CompressType.NO_COMPRESS
    compress_feature_map: tuple[CompressFeatureMap, ...] | None = None
    unsupervised_eval_flg: UnsupervisedEvalFlag = UnsupervisedEvalFlag.EVAL_DISABLE


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RequestUpdateModel:
    """A client uploads its trained weights, each multiplied by its data size (endpoint ``updateModel``)."""

    fl_name: str | None = None
    fl_id: str | None = None
    iteration: int = 0
    feature_map: Weights | None = None
    timestamp: str | None = None
    signature: bytes | None = None
    upload_loss: float = 0.0
    sign: int = 0
    index_array: NDArray[np.int32] | None = None
    compress_feature_map: tuple[CompressFeatureMap, ...] | None = None
    upload_compress_type: CompressType = CompressType.NO_COMPRESS
    upload_sparse_rate: float = 0.0
    name_vec: tuple[str, ...] | None = None
    upload_accuracy: float = 0.0
    unsupervised_eval_items: UnsupervisedEvalItems | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ResponseUpdateModel:
    """Answer to :class:`RequestUpdateModel`."""

    retcode: int = 0
    reason: str | None = None
    feature_map: Weights | None = None
    next_req_time: str | None = None
    timestamp: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestGetModel:
    """A client asks for the model of ``iteration`` (endpoint ``getModel``)."""

    fl_name: str | None = None
    iteration: int = 0
    timestamp: str | None = None
    download_compress_types: tuple[CompressType, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ResponseGetModel:
    """Answer to :class:`RequestGetModel`; ``iteration`` is the server's current one."""

    retcode: int = 0
    reason: str | None = None
    iteration: int = 0
    feature_map: Weights | None = None
    timestamp: str | None = None
    download_compress_type: CompressType = CompressType.NO_COMPRESS
    compress_feature_map: tuple[CompressFeatureMap, ...] | None = None


@dataclass(frozen=True, slots=True)
class PlainText:
    """An answer that is bare text instead of a table (see :mod:`mindfl.protocol.texts`)."""

    text: str


Request: TypeAlias = RequestFLJob | RequestUpdateModel | RequestGetModel | SecureRequest
"""Requests of devices; the secure ones belong to jobs with secure aggregation only."""

Response: TypeAlias = ResponseFLJob | ResponseUpdateModel | ResponseGetModel | SecureResponse | PlainText
"""Answers to devices."""
