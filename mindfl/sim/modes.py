"""The form in which a job's weights travel: its settings, as a server has them, and in words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mindfl.errors import OptionError
from mindfl.protocol.encryption import DP, MASKED_TYPES, PW_EXACT, SIGN_DS
from mindfl.server.aggregate import MAX_UPLOADS
from mindfl.server.config import MODE_SETTINGS, UNCOMPRESSED_TYPES, ServerConfig

if TYPE_CHECKING:
    from mindfl.sim.config import JobConfig


def mode_settings(config: JobConfig, clients: int) -> dict[str, Any]:
    """Return these settings by the name that they have in :class:`ServerConfig` too, for ``clients`` an iteration."""
    settings = {name: getattr(config, name) for name in MODE_SETTINGS}
    if settings["reconstruct_secrets_threshold"] is None:
        settings["reconstruct_secrets_threshold"] = max(1, min(2 * clients // 3 + 1, clients - 1))
    if config.encrypt_type in UNCOMPRESSED_TYPES:  # as in the reference
        settings["upload_compress_type"] = "NO_COMPRESS"
    return settings


def federated_settings(config: JobConfig, clients: int, window_ms: int) -> dict[str, Any]:
    """Return the same by the names of MindSpore Federated's YAML file, with that time for each step."""
    settings = mode_settings(config, clients)
    del settings["exact_corrupt_ratio"]
    return {**settings, "share_secrets_ratio": 1.0, "cipher_time_window": window_ms}


def check_modes(config: JobConfig) -> None:
    """Raise :class:`OptionError` for a setting without usable value, or with which the other parts do not go."""
    if config.domain_name is None or config.encrypt_type not in MASKED_TYPES:
        clients = min(config.cohort, config.client_num, MAX_UPLOADS)
        ServerConfig(fl_iteration_num=1, start_fl_job_threshold=clients, **mode_settings(config, clients))
    if config.encrypt_type in MASKED_TYPES and config.domain_name is None:
        _check_masks(config)


def _check_masks(config: JobConfig) -> None:
    mode = config.encrypt_type
    if config.executor == "ray":
        raise OptionError(f"executor ray does not work with {mode}: it sums on each node, and masks need all uploads")
    if config.clients == "java":
        raise OptionError(
            f"Java clients do not work with {mode}: 0.1.0 begins its mask anew in every weight, so that no server can "
            "take it out of the sum",
            hint="let embedded clients train, or choose another encrypt_type",
        )
    if config.stack == "federated" and mode == PW_EXACT:
        raise OptionError(f"{mode} is mindfl's own: MindSpore Federated's server does not know it")
    if config.train_weight_name is not None:
        raise OptionError(f"train_weight_name does not work with {mode}: a mask covers all weights")


def mode_words(config: JobConfig) -> str:
    """Return encryption and compression in a few words; empty for plain weights."""
    settings = mode_settings(config, config.cohort)
    words = {
        config.encrypt_type: config.encrypt_type in MASKED_TYPES,
        f"{DP} epsilon {config.dp_eps:g} delta {config.dp_delta:g}": config.encrypt_type == DP,
        f"{SIGN_DS} epsilon {config.sign_eps:g}": config.encrypt_type == SIGN_DS,
        f"uploads {config.upload_compress_type} {config.upload_sparse_rate:g}": settings["upload_compress_type"]
        != "NO_COMPRESS",
        f"downloads {config.download_compress_type}": config.download_compress_type != "NO_COMPRESS",
    }
    return ", ".join(text for text, applies in words.items() if applies)
