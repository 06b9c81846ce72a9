"""The upload mode of a job: its settings, as a server has them, and in words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mindfl.algorithms.sampler import Uniform
from mindfl.errors import OptionError
from mindfl.modes import UPLOAD_TYPES, UploadMode, mode_of
from mindfl.server.aggregate import MAX_UPLOADS
from mindfl.server.server_config import MODE_SETTINGS, ServerConfig

if TYPE_CHECKING:
    from mindfl.sim.config import JobConfig


def mode_settings(config: JobConfig, clients: int) -> dict[str, Any]:
    """Return these settings by the name that they have in :class:`ServerConfig` too, for ``clients`` an iteration."""
    settings = {name: getattr(config, name) for name in MODE_SETTINGS}
    if settings["reconstruct_secrets_threshold"] is None:
        settings["reconstruct_secrets_threshold"] = max(1, min(2 * clients // 3 + 1, clients - 1))
    if mode_of(config).uncompressed:  # as in the reference
        settings["upload_compress_type"] = UPLOAD_TYPES[0]
    return settings


def federated_settings(config: JobConfig, clients: int, window_ms: int) -> dict[str, Any]:
    """Return the same by the names of MindSpore Federated's YAML file, with that time for each step."""
    settings = mode_settings(config, clients)
    del settings["exact_corrupt_ratio"]
    return {**settings, "share_secrets_ratio": 1.0, "cipher_time_window": window_ms}


def check_modes(config: JobConfig) -> None:
    """Raise :class:`OptionError` for a setting without usable value, or with which the other parts do not go."""
    mode = mode_of(config)
    if config.server_side.planned_here or not mode.masked:
        clients = min(config.cohort, config.client_num, MAX_UPLOADS)
        ServerConfig(fl_iteration_num=1, start_fl_job_threshold=clients, **mode_settings(config, clients))
    if config.server_side.planned_here:
        _check_parts(config, mode)


def _check_parts(config: JobConfig, mode: UploadMode) -> None:
    """Raise :class:`OptionError` where the mode does not go with the job's other parts."""
    if mode.masked and config.client_side.spread:
        raise OptionError(
            f"executor ray does not work with {mode.name}: it sums on each node, and masks need all uploads"
        )
    if mode.masked and not isinstance(config.chooser, Uniform):
        raise OptionError(
            f"sampler does not work with {mode.name}: masks are made for a fixed number of clients",
            hint="choose clients_per_iteration, or another encrypt_type",
        )
    if not config.client_side.simulated:
        if mode.masked:
            raise OptionError(
                f"Java clients do not work with {mode.name}: 0.1.0 begins its mask anew in every weight, so that no "
                "server can take it out of the sum",
                hint="let embedded clients train, or choose another encrypt_type",
            )
        if not mode.in_reference:
            raise OptionError(
                f"Java clients do not know the upload mode {mode.name}", hint="let embedded clients train"
            )
    if config.server_side.reference and not mode.in_reference:
        raise OptionError(
            f"{mode.name} is {mode.origin}: MindSpore Federated's server does not know it",
            hint="leave --stack out, or choose another encrypt_type",
        )
    if mode.masked and config.train_weight_name is not None:
        raise OptionError(f"train_weight_name does not work with {mode.name}: a mask covers all weights")


def mode_words(config: JobConfig) -> str:
    """Return encryption and compression in a few words; empty for plain weights."""
    download = config.download_compress_type
    words = (mode_of(config).describe(), "" if download == "NO_COMPRESS" else f"downloads {download}")
    return ", ".join(filter(None, words))
