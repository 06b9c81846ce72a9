"""Settings of a coordinator, under the names that MindSpore Federated's YAML uses."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from mindfl.errors import OptionError
from mindfl.modes import MODES, UPLOAD_TYPES, UploadMode, mode_of
from mindfl.modes.mode import on_the_wire
from mindfl.modes.plain_mode import is_compressed
from mindfl.options import options_of
from mindfl.options.mode_options import ModeOptions
from mindfl.options.server_options import ServerJobOptions
from mindfl.protocol import CompressType, DPParams, DSParams, FLPlan
from mindfl.server.aggregate import MAX_UPLOADS
from mindfl.spelling import checked_arguments

if TYPE_CHECKING:
    from mindfl.privacy.secagg import FixedPoint, GraphPlan

MAX_DATA_SIZE = 65535
"""Samples that a client may have, as with MindSpore Federated 0.1.0."""

#: the settings that say in which form weights travel
MODE_SETTINGS = tuple(options_of(ModeOptions))
_RATE = "upload_sparse_rate"
_OF_MODES = ("encrypt_type", _RATE, *(name for mode in MODES.values() for name in mode.settings))


@checked_arguments
@dataclass(frozen=True, kw_only=True)
class ServerConfig(ServerJobOptions):
    """One federated job; its options are declared in :class:`~mindfl.options.server_options.ServerJobOptions`.

    ``start_fl_job_threshold`` clients may start per iteration; it closes when ``update_quota`` of them have uploaded.
    The settings of an upload mode that is not chosen are not checked. Raises :class:`OptionError` naming the setting
    that has no usable value.
    """

    def __post_init__(self) -> None:
        options, mode = options_of(ServerJobOptions), mode_of(self)
        used = (*mode.settings, _RATE) if self._compresses() else mode.settings
        for name, declared in options.items():
            if name not in _OF_MODES or (name in used and name != "encrypt_type"):
                object.__setattr__(self, name, declared.check(getattr(self, name)))
        if self.start_fl_job_threshold > MAX_UPLOADS:
            raise OptionError(
                f"start_fl_job_threshold must be at most {MAX_UPLOADS}, not {self.start_fl_job_threshold}"
            )
        if self._compresses() and self.mode.uncompressed:
            raise OptionError(f"with {self.mode.name} upload_compress_type must be {UPLOAD_TYPES[0]}")
        self.mode.check(self)

    def _compresses(self) -> bool:
        return is_compressed(self.upload_compress_type)

    @cached_property
    def mode(self) -> UploadMode:
        """The form in which clients upload."""
        return mode_of(self)

    def __getstate__(self) -> dict[str, object]:
        return {item.name: getattr(self, item.name) for item in fields(self)}

    @property
    def update_quota(self) -> int:
        """Uploads that an iteration takes: ceil(threshold x ratio), or all that published keys with
        ``STABLE_PW_ENCRYPT``."""
        return self.quota_of(self.start_fl_job_threshold)

    def quota_of(self, clients: int) -> int:
        """Return how many uploads end an iteration that this many clients may start in."""
        return self.mode.upload_quota(_share(clients, self.update_model_ratio), self.exchange_quota)

    @property
    def exchange_quota(self) -> int:
        """Clients that publish keys in an iteration, with secure aggregation."""
        least = _share(self.start_fl_job_threshold, self.update_model_ratio)
        return max(_share(self.start_fl_job_threshold, self.share_secrets_ratio), least)

    @property
    def share_quota(self) -> int:
        """Clients that deposit shares of their secrets: ``share_secrets_ratio`` is taken of those that fetched keys,
        which are that share of those that published some."""
        fetched = max(_share(self.exchange_quota, self.share_secrets_ratio), self.update_quota)
        return max(_share(fetched, self.share_secrets_ratio), self.update_quota)

    @property
    def graph(self) -> GraphPlan:
        """The graph of clients that share secrets with ``PW_EXACT``, with room for as many lost ones as can be spared.

        Raises :class:`OptionError` where nothing could be protected, or the package cryptography is missing.
        """
        from mindfl.privacy.secagg import plan_graph

        devices = self.exchange_quota
        corrupt = math.floor(devices * self.exact_corrupt_ratio)
        return plan_graph(devices, corrupt, devices - self.update_quota)

    @property
    def fixed_point(self) -> FixedPoint:
        """The fixed-point numbers of ``PW_EXACT`` uploads."""
        from mindfl.privacy.secagg import FixedPoint

        return FixedPoint.for_job(self.start_fl_job_threshold, MAX_DATA_SIZE)

    def plan(self, instance: str = "") -> FLPlan:
        """Return the plan for the clients in a job's ``instance``, with the fields that the 0.1.0 server fills."""
        return FLPlan(
            server_mode="FEDERATED_LEARNING",
            fl_name=self.fl_name,
            iterations=self.fl_iteration_num,
            epochs=self.client_epoch_num,
            mini_batch=self.client_batch_size,
            lr=on_the_wire(self.client_learning_rate),
            cipher=self.mode.cipher(self, instance),
        )

    @property
    def upload_compression(self) -> CompressType:
        """The form in which clients are asked to upload."""
        return CompressType[self.upload_compress_type]

    @property
    def sparse_rate(self) -> float:
        """The share of values that compressed uploads keep, as on the wire."""
        return on_the_wire(self.upload_sparse_rate)

    @property
    def dp_params(self) -> DPParams:
        """Parameters of ``DP_ENCRYPT`` in the plan."""
        names = ("dp_eps", "dp_delta", "dp_norm_clip")
        return DPParams(**{name: on_the_wire(getattr(self, name)) for name in names})

    @property
    def ds_params(self) -> DSParams:
        """Parameters of ``SIGNDS`` in the plan."""
        names = ("sign_k", "sign_eps", "sign_thr_ratio", "sign_global_lr")
        return DSParams(sign_dim_out=self.sign_dim_out, **{name: on_the_wire(getattr(self, name)) for name in names})


def _share(count: int, ratio: float) -> int:
    """Return ceil(``count`` x ``ratio``), at least 1 and at most ``count``.

    The product is taken in float32, so that a ratio such as 0.07 of 100 gives 7 and not 8.
    """
    return max(1, min(math.ceil(float(np.float32(count) * np.float32(ratio))), count))
