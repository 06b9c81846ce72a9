"""Settings of a coordinator, under the names that MindSpore Federated's YAML uses."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from mindfl.errors import OptionError
from mindfl.protocol import CipherPublicParams, DPParams, DSParams, FLPlan, PWParams
from mindfl.server.aggregate import MAX_UPLOADS

_POSITIVE = (
    "fl_iteration_num",
    "start_fl_job_threshold",
    "start_fl_job_time_window",
    "update_model_time_window",
    "global_iteration_time_window",
    "client_epoch_num",
    "client_batch_size",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerConfig:
    """One federated job. Windows are in milliseconds.

    ``start_fl_job_threshold`` clients may start per iteration; it closes when ``update_quota`` of them have uploaded.
    Raises :class:`OptionError` naming the setting that has no usable value.
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

    @property
    def update_quota(self) -> int:
        """Uploads that close an iteration: ceil(threshold x ratio).

        The product is taken in float32, so that a ratio such as 0.07 of 100 gives 7 and not 8.
        """
        product = float(np.float32(self.start_fl_job_threshold) * np.float32(self.update_model_ratio))
        return max(1, min(math.ceil(product), self.start_fl_job_threshold))

    def plan(self) -> FLPlan:
        """Return what clients are told to do, with the fields that the 0.1.0 server fills."""
        cipher = CipherPublicParams(
            encrypt_type="NOT_ENCRYPT",
            pw_params=PWParams(p=bytes(32), prime=bytes(33)),
            dp_params=DPParams(),
            ds_params=DSParams(),
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
