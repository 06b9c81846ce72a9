"""Everything that a server's YAML file says, section by section; the options are declared in
:mod:`mindfl.options.server_options`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mindfl.errors import OptionError
from mindfl.options import options_of
from mindfl.options.mode_options import CompressionOptions, DpOptions, EncryptOptions, SignDsOptions
from mindfl.options.server_options import (
    EMBEDDED,
    AggregationOptions,
    CacheOptions,
    ClientVerifyOptions,
    LinkOptions,
    PwOptions,
    RoundOptions,
    ServerFilesOptions,
    ServerJobOptions,
    SslOptions,
    TopOptions,
    TrainingOptions,
    UnsupervisedOptions,
)
from mindfl.server.server_config import ServerConfig

#: setting -> the values that a server can be started with
_SUPPORTED: dict[str, tuple[object, ...]] = {
    "server_mode": ("FEDERATED_LEARNING",),
    "distributed_cache.type": ("redis", EMBEDDED),
    "distributed_cache.plugin_lib_path": ("",),
    "client_verify.pki_verify": (False,),
    "aggregation.aggregation_type": ("FedAvg",),
}


@dataclass(frozen=True, kw_only=True)
class EncryptSettings(EncryptOptions):
    """How uploads are protected. Only the block of the chosen type is read; the others keep their defaults."""

    pw_encrypt: PwOptions
    dp_encrypt: DpOptions
    signds: SignDsOptions


@dataclass(frozen=True, kw_only=True)
class ClientSettings(TrainingOptions, LinkOptions):
    """How clients train, and how they reach the server."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One value and where it was given: ``fl.yaml:7`` or ``--fl_name``."""

    value: object
    place: str


@dataclass(frozen=True, slots=True)
class SettingsOrigin:
    """Where settings come from: the file, every value given by dotted key, and warnings."""

    path: str
    entries: Mapping[str, Entry]
    warnings: tuple[str, ...] = ()

    def place(self, key: str) -> str:
        """Return where ``key`` was given, or the file's name where its default stands."""
        return self.entries[key].place if key in self.entries else self.path


@dataclass(frozen=True, kw_only=True)
class JobSettings(TopOptions):
    """Everything that a server's YAML file says. ``origin`` tells which line a value came from."""

    distributed_cache: CacheOptions
    round: RoundOptions
    summary: ServerFilesOptions
    unsupervised: UnsupervisedOptions
    encrypt: EncryptSettings
    compression: CompressionOptions
    ssl: SslOptions
    client_verify: ClientVerifyOptions
    client: ClientSettings
    aggregation: AggregationOptions
    origin: SettingsOrigin = field(repr=False, compare=False)

    @property
    def warnings(self) -> tuple[str, ...]:
        """One line each: values that are overruled, as the reference does with a warning in its log."""
        return self.origin.warnings

    def value(self, key: str) -> object:
        """Return the setting with the dotted ``key``."""
        value: object = self
        for name in key.split("."):
            value = getattr(value, name)
        return value

    def server_config(self) -> ServerConfig:
        """Return the coordinator's settings. Raises :class:`OptionError` for a quota that it cannot sum exactly."""
        encrypt = self.encrypt
        homes: tuple[Any, ...] = (self, self.round, self.client, self.compression, encrypt)
        given: dict[str, Any] = {}
        for home in (*homes, encrypt.pw_encrypt, encrypt.dp_encrypt, encrypt.signds):
            given |= {name: getattr(home, name) for name in options_of(home.__class__)}
        return ServerConfig(**{name: given[name] for name in options_of(ServerJobOptions)})


def require_supported(settings: JobSettings) -> None:
    """Raise one :class:`OptionError` that names every setting with a value that no server can be started with yet."""
    found = []
    for key, supported in _SUPPORTED.items():
        value = settings.value(key)
        if value not in supported:
            usable = " or ".join(repr(item) for item in supported)
            found.append(f"{settings.origin.place(key)}: {key} {value} is not yet supported, only {usable}")
    if found:
        raise OptionError("; ".join(found))
