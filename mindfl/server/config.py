"""Settings of a coordinator, under the names that MindSpore Federated's YAML uses."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from mindfl.errors import OptionError
from mindfl.protocol import CipherPublicParams, CompressType, DPParams, DSParams, FLPlan, PWParams
from mindfl.server.aggregate import MAX_UPLOADS

PLAIN, DP, SIGN_DS = "NOT_ENCRYPT", "DP_ENCRYPT", "SIGNDS"
ENCRYPT_TYPES = (PLAIN, DP, SIGN_DS)
UPLOAD_TYPES = ("NO_COMPRESS", "DIFF_SPARSE_QUANT")
DOWNLOAD_TYPES = ("NO_COMPRESS", "QUANT")

_POSITIVE = (
    "fl_iteration_num",
    "start_fl_job_threshold",
    "start_fl_job_time_window",
    "update_model_time_window",
    "global_iteration_time_window",
    "client_epoch_num",
    "client_batch_size",
)
_WORDS = {
    "encrypt_type": ENCRYPT_TYPES,
    "upload_compress_type": UPLOAD_TYPES,
    "download_compress_type": DOWNLOAD_TYPES,
}
_INF = math.inf
_LARGEST = float(np.finfo(np.float32).max)
#: setting -> the ``encrypt_type`` or ``upload_compress_type`` that it is for, and its limits: from, up to, and whether
#: the first is a value itself. They are those of MindSpore Federated 0.1.0
_RANGES: dict[str, tuple[str, float, float, bool]] = {
    "dp_eps": (DP, 0, _INF, False),
    "dp_delta": (DP, 0, 1 - 2**-24, False),
    "dp_norm_clip": (DP, 0, _INF, False),
    "sign_k": (SIGN_DS, 0, 0.25, False),
    "sign_eps": (SIGN_DS, 0, 100, False),
    "sign_thr_ratio": (SIGN_DS, 0.5, 1, True),
    "sign_global_lr": (SIGN_DS, 0, _INF, False),
    "sign_dim_out": (SIGN_DS, 0, 50, True),
    "upload_sparse_rate": ("DIFF_SPARSE_QUANT", 0, 1, False),
}
#: the settings that say in which form weights travel
MODE_SETTINGS = (*_WORDS, *_RANGES)


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
    encrypt_type: str = PLAIN
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
        if not (math.isfinite(self.client_learning_rate) and self.client_learning_rate > 0):
            raise OptionError(f"client_learning_rate must be above 0, not {self.client_learning_rate}")
        self._check_modes()

    def _check_modes(self) -> None:
        for name, words in _WORDS.items():
            if getattr(self, name) not in words:
                raise OptionError(f"{name} must be one of {', '.join(words)}, not {getattr(self, name)!r}")
        for name, (mode, least, most, inclusive) in _RANGES.items():
            value = getattr(self, name)
            fits = (least < value or (inclusive and value == least)) and value <= min(most, _LARGEST)
            if not fits and mode in (self.encrypt_type, self.upload_compress_type):
                limit = "" if most == _INF else f" and at most {most:g}"
                first = "at least" if inclusive else "above"
                raise OptionError(f"{name} must be {first} {least:g}{limit}, not {value}")
        if self.encrypt_type == SIGN_DS and self.upload_compress_type != "NO_COMPRESS":
            raise OptionError(f"{SIGN_DS} uploads hold no weights: upload_compress_type must be NO_COMPRESS")

    @property
    def update_quota(self) -> int:
        """Uploads that close an iteration: ceil(threshold x ratio).

        The product is taken in float32, so that a ratio such as 0.07 of 100 gives 7 and not 8.
        """
        product = float(np.float32(self.start_fl_job_threshold) * np.float32(self.update_model_ratio))
        return max(1, min(math.ceil(product), self.start_fl_job_threshold))

    def plan(self) -> FLPlan:
        """Return what clients are told to do, with the fields that the 0.1.0 server fills."""
        # With any encryption the 0.1.0 server fills all of them, those that do not matter with its defaults.
        encrypts = self.encrypt_type != PLAIN
        cipher = CipherPublicParams(
            encrypt_type=self.encrypt_type,
            pw_params=PWParams(t=int(encrypts), p=bytes(32), g=int(encrypts), prime=bytes(33)),
            dp_params=self.dp_params if encrypts else DPParams(),
            ds_params=self.ds_params if encrypts else DSParams(),
        )
        return FLPlan(
            server_mode="FEDERATED_LEARNING",
            fl_name=self.fl_name,
            iterations=self.fl_iteration_num,
            epochs=self.client_epoch_num,
            mini_batch=self.client_batch_size,
            lr=self.client_learning_rate,
            cipher=cipher,
        )

    @property
    def upload_compression(self) -> CompressType:
        """The form in which clients are asked to upload."""
        return CompressType[self.upload_compress_type]

    @property
    def sparse_rate(self) -> float:
        """The share of values that compressed uploads keep, as on the wire."""
        return _on_the_wire(self.upload_sparse_rate)

    @property
    def dp_params(self) -> DPParams:
        """What clients are told with ``DP_ENCRYPT``."""
        names = ("dp_eps", "dp_delta", "dp_norm_clip")
        return DPParams(**{name: _on_the_wire(getattr(self, name)) for name in names})

    @property
    def ds_params(self) -> DSParams:
        """What clients are told with ``SIGNDS``."""
        names = ("sign_k", "sign_eps", "sign_thr_ratio", "sign_global_lr")
        return DSParams(sign_dim_out=self.sign_dim_out, **{name: _on_the_wire(getattr(self, name)) for name in names})


def _on_the_wire(value: float) -> float:
    """Return ``value`` as float32 holds it, so that clients calculate with the same number over every transport."""
    return float(np.float32(value))
