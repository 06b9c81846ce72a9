"""Settings of a coordinator, under the names that MindSpore Federated's YAML uses."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mindfl.errors import OptionError
from mindfl.modes import MODES, PLAIN, UPLOAD_TYPES, UploadMode, mode_of
from mindfl.modes.base import on_the_wire
from mindfl.protocol import CompressType, DPParams, DSParams, FLPlan
from mindfl.server.aggregate import MAX_UPLOADS
from mindfl.spelling import checked_arguments, nearest

if TYPE_CHECKING:
    from mindfl.privacy.secagg import FixedPoint, GraphPlan

MAX_DATA_SIZE = 65535
"""Samples that a client may have, as with MindSpore Federated 0.1.0."""

DOWNLOAD_TYPES = ("NO_COMPRESS", "QUANT")

_POSITIVE = (
    "fl_iteration_num",
    "start_fl_job_threshold",
    "start_fl_job_time_window",
    "update_model_time_window",
    "global_iteration_time_window",
    "cipher_time_window",
    "client_epoch_num",
    "client_batch_size",
)
_WORDS = {
    "upload_compress_type": UPLOAD_TYPES,
    "download_compress_type": DOWNLOAD_TYPES,
}
_INF = math.inf
_LARGEST = float(np.finfo(np.float32).max)
_RATE = "upload_sparse_rate"
#: setting of an upload mode, or of its compression -> its limits: from, up to, and whether the first is a value itself.
#: They are those of MindSpore Federated 0.1.0
_RANGES: dict[str, tuple[float, float, bool]] = {
    "dp_eps": (0, _INF, False),
    "dp_delta": (0, 1 - 2**-24, False),
    "dp_norm_clip": (0, _INF, False),
    "sign_k": (0, 0.25, False),
    "sign_eps": (0, 100, False),
    "sign_thr_ratio": (0.5, 1, True),
    "sign_global_lr": (0, _INF, False),
    "sign_dim_out": (0, 50, True),
    _RATE: (0, 1, False),
    "exact_corrupt_ratio": (0, 0.9, True),
}
#: the settings that say in which form weights travel
MODE_SETTINGS = ("encrypt_type", *_WORDS, _RATE, *(name for mode in MODES.values() for name in mode.settings))


@checked_arguments
@dataclass(frozen=True, slots=True, kw_only=True)
class ServerConfig:
    """One federated job. Windows are in milliseconds.

    ``start_fl_job_threshold`` clients may start per iteration; it closes when ``update_quota`` of them have uploaded.
    From ``encrypt_type`` on: the form in which weights travel (see :mod:`mindfl.privacy`), with MindSpore Federated
    0.1.0's defaults. Raises :class:`OptionError` naming the setting that has no usable value.
    """

    fl_iteration_num: int
    start_fl_job_threshold: int
    update_model_ratio: float = 1.0
    start_fl_job_time_window: int = 30_000
    update_model_time_window: int = 30_000
    global_iteration_time_window: int = 60_000
    client_epoch_num: int = 1
    client_batch_size: int = 32
    client_learning_rate: float = 0.01
    fl_name: str = "Lenet"
    encrypt_type: str | UploadMode = PLAIN
    dp_eps: float = 50.0
    dp_delta: float = 0.01
    dp_norm_clip: float = 1.0
    sign_k: float = 0.01
    sign_eps: float = 100.0
    sign_thr_ratio: float = 0.6
    sign_global_lr: float = 0.1
    sign_dim_out: int = 0
    upload_compress_type: str = "NO_COMPRESS"
    upload_sparse_rate: float = 0.4
    download_compress_type: str = "NO_COMPRESS"
    share_secrets_ratio: float = 1.0
    cipher_time_window: int = 30_000
    reconstruct_secrets_threshold: int = 1
    exact_corrupt_ratio: float = 0.1

    def __post_init__(self) -> None:
        for name in _POSITIVE:
            if getattr(self, name) < 1:
                raise OptionError(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.start_fl_job_threshold > MAX_UPLOADS:
            raise OptionError(
                f"start_fl_job_threshold must be at most {MAX_UPLOADS}, not {self.start_fl_job_threshold}"
            )
        if not 0 < self.update_model_ratio <= 1:
            raise OptionError(f"update_model_ratio must be above 0 and at most 1, not {self.update_model_ratio}")
        if not 0 < self.share_secrets_ratio <= 1:
            raise OptionError(f"share_secrets_ratio must be above 0 and at most 1, not {self.share_secrets_ratio}")
        if not (math.isfinite(self.client_learning_rate) and self.client_learning_rate > 0):
            raise OptionError(f"client_learning_rate must be above 0, not {self.client_learning_rate}")
        self._check_modes()

    @property
    def mode(self) -> UploadMode:
        """The form in which clients upload."""
        return mode_of(self)

    def _check_modes(self) -> None:
        mode = self.mode
        for name, words in _WORDS.items():
            if getattr(self, name) not in words:
                given = getattr(self, name)
                near = nearest(str(given), words)
                hint = f"did you mean {near}?" if near else ""
                raise OptionError(f"{name} must be one of {', '.join(words)}, not {given!r}", hint=hint)
        for name, (least, most, inclusive) in _RANGES.items():
            value = getattr(self, name)
            fits = (least < value or (inclusive and value == least)) and value <= min(most, _LARGEST)
            used = name in mode.settings or (name == _RATE and self.upload_compression)
            if not fits and used:
                limit = "" if most == _INF else f" and at most {most:g}"
                first = "at least" if inclusive else "above"
                raise OptionError(f"{name} must be {first} {least:g}{limit}, not {value}")
        if self.upload_compression and mode.uncompressed:
            raise OptionError(f"with {mode.name} upload_compress_type must be {UPLOAD_TYPES[0]}")
        mode.check(self)

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
        who are that share of those that published some."""
        fetched = max(_share(self.exchange_quota, self.share_secrets_ratio), self.update_quota)
        return max(_share(fetched, self.share_secrets_ratio), self.update_quota)

    @property
    def graph(self) -> GraphPlan:
        """Who shares secrets with whom with ``PW_EXACT``: room for as many lost clients as an iteration can do without.

        Raises :class:`OptionError` where nothing could be protected, or the package cryptography is missing.
        """
        from mindfl.privacy.secagg import plan_graph

        devices = self.exchange_quota
        corrupt = math.floor(devices * self.exact_corrupt_ratio)
        return plan_graph(devices, corrupt, devices - self.update_quota)

    @property
    def fixed_point(self) -> FixedPoint:
        """In which whole numbers ``PW_EXACT`` uploads are."""
        from mindfl.privacy.secagg import FixedPoint

        return FixedPoint.for_job(self.start_fl_job_threshold, MAX_DATA_SIZE)

    def plan(self, instance: str = "") -> FLPlan:
        """Return what clients are told to do in a job's ``instance``, with the fields that the 0.1.0 server fills."""
        return FLPlan(
            server_mode="FEDERATED_LEARNING",
            fl_name=self.fl_name,
            iterations=self.fl_iteration_num,
            epochs=self.client_epoch_num,
            mini_batch=self.client_batch_size,
            lr=self.client_learning_rate,
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
        """What clients are told with ``DP_ENCRYPT``."""
        names = ("dp_eps", "dp_delta", "dp_norm_clip")
        return DPParams(**{name: on_the_wire(getattr(self, name)) for name in names})

    @property
    def ds_params(self) -> DSParams:
        """What clients are told with ``SIGNDS``."""
        names = ("sign_k", "sign_eps", "sign_thr_ratio", "sign_global_lr")
        return DSParams(sign_dim_out=self.sign_dim_out, **{name: on_the_wire(getattr(self, name)) for name in names})


def _share(count: int, ratio: float) -> int:
    """Return ceil(``count`` x ``ratio``), at least 1 and at most ``count``.

    The product is taken in float32, so that a ratio such as 0.07 of 100 gives 7 and not 8.
    """
    return max(1, min(math.ceil(float(np.float32(count) * np.float32(ratio))), count))
