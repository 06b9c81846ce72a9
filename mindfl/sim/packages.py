"""Packages that a job needs: looked for before anything is exported, converted, read or started."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from mindfl.imports import require
from mindfl.modes import mode_of
from mindfl.sim.config import JobConfig


class _Need(NamedTuple):
    """Where ``applies``, the tasks ``tasks`` need ``package``, because of ``what``."""

    package: str
    tasks: tuple[str, ...]
    applies: Callable[[JobConfig], bool]
    what: Callable[[JobConfig], str]


def check_packages(config: JobConfig, task: str = "train") -> None:
    """Raise :class:`OptionError` naming a package that ``task``, ``train`` or ``getModel``, needs and does not find."""
    for need in _NEEDS:
        if task in need.tasks and need.applies(config):
            require(need.what(config), need.package)


def _own_server(config: JobConfig) -> bool:
    return config.server_side.planned_here


def _masks(config: JobConfig) -> bool:
    has_part = config.server_side.embedded or config.client_side.simulated
    return _own_server(config) and mode_of(config).masked and has_part


def _counts_sampled(config: JobConfig) -> bool:
    return _own_server(config) and bool(mode_of(config).accounting_package) and (config.sampling_rate or 1) < 1


_NEEDS = (
    _Need("ray", ("train",), lambda config: config.client_side.spread, lambda config: "--executor ray"),
    _Need("cryptography", ("train",), _masks, lambda config: f"--encrypt_type {mode_of(config).name}"),
    _Need(
        "cryptography",
        ("train", "getModel"),
        lambda config: config.enable_ssl,
        lambda config: "--enable_ssl makes certificates, which",
    ),
    _Need(
        "dp-accounting",
        ("train",),
        _counts_sampled,
        lambda config: f"what {mode_of(config).name} costs with {config.cohort} of {config.client_num} clients",
    ),
    _Need(
        "redis",
        ("train", "getModel"),
        lambda config: config.redis_address is not None and config.server_side.started,
        lambda config: f"--redis_address {config.redis_address}",
    ),
)
