"""The one place that holds the version, and the versions of other packages."""

from __future__ import annotations

__version__ = "0.2.0.dev0"


def package_version(name: str) -> str | None:
    """Return the version of an installed package without importing it; None where it is not installed."""
    from importlib.metadata import PackageNotFoundError, version  # slow to import, and --help needs none

    try:
        return version(name)
    except PackageNotFoundError:
        return None
