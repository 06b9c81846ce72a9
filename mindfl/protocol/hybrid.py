"""Messages of cross-silo and hybrid training, one dataclass per FlatBuffers table; device clients do not use them.

The rules of :mod:`mindfl.protocol.messages` hold. The server of MindSpore Federated 0.1.0 has no endpoint for the two
asynchronous pairs; their tables are part of its schema all the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from mindfl.protocol.values import Weights


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FeatureMapList:
    """A model on its own, as servers of one job hand it to each other."""

    feature_map: Weights | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RequestAsyncUpdateModel:
    """A worker uploads its trained weights."""

    fl_name: str | None = None
    fl_id: str | None = None
    iteration: int = 0
    data_size: int = 0
    feature_map: Weights | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ResponseAsyncUpdateModel:
    """Answer to :class:`RequestAsyncUpdateModel`."""

    retcode: int = 0
    reason: str | None = None
    iteration: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestAsyncGetModel:
    """A worker asks for the model of ``iteration``."""

    fl_name: str | None = None
    iteration: int = 0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ResponseAsyncGetModel:
    """Answer to :class:`RequestAsyncGetModel`."""

    retcode: int = 0
    reason: str | None = None
    iteration: int = 0
    feature_map: Weights | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RequestPushWeight:
    """A worker replaces weights of the server's model (endpoint ``pushWeight``)."""

    iteration: int = 0
    feature_map: Weights | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ResponsePushWeight:
    """Answer to :class:`RequestPushWeight`."""

    retcode: int = 0
    reason: str | None = None
    iteration: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestPullWeight:
    """A worker asks for some weights by name (endpoint ``pullWeight``)."""

    iteration: int = 0
    weight_names: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ResponsePullWeight:
    """Answer to :class:`RequestPullWeight`."""

    retcode: int = 0
    reason: str | None = None
    iteration: int = 0
    feature_map: Weights | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestPushMetrics:
    """A worker reports its loss and accuracy (endpoint ``pushMetrics``)."""

    loss: float = 0.0
    accuracy: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ResponsePushMetrics:
    """Answer to :class:`RequestPushMetrics`."""

    retcode: int = 0


HybridRequest: TypeAlias = RequestPullWeight | RequestPushWeight | RequestPushMetrics
HybridResponse: TypeAlias = ResponsePullWeight | ResponsePushWeight | ResponsePushMetrics
