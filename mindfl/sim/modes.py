"""The form in which a job's weights travel: its settings, as a server has them, and in words."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from mindfl.errors import OptionError
from mindfl.server.config import DP, MODE_SETTINGS, SIGN_DS, ServerConfig

if TYPE_CHECKING:
    from mindfl.sim.config import JobConfig


def mode_settings(config: JobConfig) -> dict[str, Any]:
    """Return these settings by the name that they have in :class:`ServerConfig` too."""
    settings = {name: getattr(config, name) for name in MODE_SETTINGS}
    if config.encrypt_type == SIGN_DS:  # as in the reference: there are no weights to compress
        settings["upload_compress_type"] = "NO_COMPRESS"
    return settings


def check_modes(config: JobConfig) -> None:
    """Raise :class:`OptionError` for a setting without usable value, or with which the other parts do not go."""
    ServerConfig(fl_iteration_num=1, start_fl_job_threshold=1, **mode_settings(config))
    if config.dp_budget is not None and not 0 < config.dp_budget < math.inf:
        raise OptionError(f"dp_budget must be a number above 0, got {config.dp_budget!r}")
    if config.executor == "ray" and config.encrypt_type == DP:
        raise OptionError(
            f"executor ray does not work with {DP}: a device keeps its clip bound, and may train on another node next"
        )


def mode_words(config: JobConfig) -> str:
    """Return encryption and compression in a few words; empty for plain weights."""
    settings = mode_settings(config)
    words = {
        f"{DP} epsilon {config.dp_eps:g} delta {config.dp_delta:g}": config.encrypt_type == DP,
        f"{SIGN_DS} epsilon {config.sign_eps:g}": config.encrypt_type == SIGN_DS,
        f"uploads {config.upload_compress_type} {config.upload_sparse_rate:g}": settings["upload_compress_type"]
        != "NO_COMPRESS",
        f"downloads {config.download_compress_type}": config.download_compress_type != "NO_COMPRESS",
    }
    return ", ".join(text for text, applies in words.items() if applies)
