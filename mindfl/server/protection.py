"""What secure aggregation protects in a job, in words."""

from __future__ import annotations

from mindfl.protocol.encryption import MASKED_TYPES, PW, PW_EXACT, STABLE_PW
from mindfl.server.config import ServerConfig
from mindfl.words import counted


def protection(config: ServerConfig) -> list[str]:
    """Return what masks promise and how many devices may be lost; nothing in a job without masks."""
    mode, lost = config.encrypt_type, config.share_quota - config.update_quota
    if mode == PW_EXACT:
        first, *others = config.graph.lines()
        return [f"{mode}: {first}", *others]
    if mode == PW:
        return [
            f"{mode}: {config.reconstruct_secrets_threshold} of {config.share_quota - 1} others recover a secret; "
            f"up to {counted(lost, 'device')} may be lost between shares and upload"
        ]
    if mode == STABLE_PW:
        return [f"{mode}: all {config.update_quota} devices that publish keys must upload"]
    return []


def weaknesses(config: ServerConfig) -> list[str]:
    """Return a line for each choice that leaves the devices less protected than they could be."""
    found = []
    devices, threshold = config.share_quota, config.reconstruct_secrets_threshold
    if config.encrypt_type == PW and 3 * threshold <= 2 * devices:
        found.append(
            f"reconstruct_secrets_threshold {threshold} is not more than two thirds of {devices} devices: a server "
            "that tells them different survivors can get at an upload"
        )
    if config.encrypt_type == PW and threshold > config.update_quota - 2:
        found.append(
            f"reconstruct_secrets_threshold {threshold} leaves no share to spare among {config.update_quota} uploads: "
            "an altered share of a seed would not be found"
        )
    if config.encrypt_type in MASKED_TYPES and config.update_quota == 2:
        found.append("the sum of 2 devices shows each of them the other's upload")
    return found
