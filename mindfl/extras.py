"""Packages that mindfl uses where they are installed: the extras of setup.cfg, what each enables, and the hints."""

from __future__ import annotations

import importlib.util
from typing import NamedTuple


class Extra(NamedTuple):
    """An extra: ``packages`` as the index knows them, the modules they give, and what they enable."""

    packages: tuple[str, ...]
    modules: tuple[str, ...]
    enables: str


EXTRAS = {
    "tls": Extra(("cryptography",), ("cryptography",), "serving TLS, test certificates"),
    "privacy": Extra(
        ("cryptography", "dp-accounting"),
        ("cryptography", "dp_accounting"),
        "secure aggregation, accounting for sampled clients",
    ),
    "ray": Extra(("ray",), ("ray",), "--executor ray: clients on several machines"),
    "redis": Extra(("redis",), ("redis",), "a job shared by servers through a Redis, a Redis of your own"),
}


def install_hint(package: str) -> str:
    """Return what installs ``package``: by its own name, since mindfl itself is on no index."""
    return f"pip install {package}"


def missing(extra: str) -> tuple[str, ...]:
    """Return the packages of ``extra`` that are not installed."""
    packages, modules, _ = EXTRAS[extra]
    pairs = zip(packages, modules, strict=True)
    return tuple(package for package, module in pairs if importlib.util.find_spec(module) is None)
