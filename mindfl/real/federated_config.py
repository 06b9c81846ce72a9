"""What a real server is to do, and the YAML file that tells it so."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from mindfl.errors import OptionError
from mindfl.files import PathLike, write_atomic
from mindfl.modes import MODES
from mindfl.server.settings import JobSettings, read_settings
from mindfl.server.settings.document import Ignored, Section
from mindfl.spelling import checked_arguments

MOST_SERVERS = 100
CIPHERS = ":".join(
    f"ECDHE-{key}-{cipher}" for key in ("ECDSA", "RSA") for cipher in ("AES128-GCM-SHA256", "AES256-GCM-SHA384")
)

#: field of :class:`FederatedConfig` -> key of the YAML file
_KEYS = {
    "fl_name": "fl_name",
    "iterations": "fl_iteration_num",
    "clients": "round.start_fl_job_threshold",
    "update_model_ratio": "round.update_model_ratio",
    "start_fl_job_time_window": "round.start_fl_job_time_window",
    "update_model_time_window": "round.update_model_time_window",
    "global_iteration_time_window": "round.global_iteration_time_window",
    "epochs": "client.client_epoch_num",
    "batch_size": "client.client_batch_size",
    "learning_rate": "client.client_learning_rate",
    "http_url_prefix": "client.http_url_prefix",
}
#: keys that other fields of :class:`FederatedConfig` decide, or that are the driver's own
_DECIDED = ("enable_ssl", "distributed_cache.address", "distributed_cache.type")
_PATHS = (
    "checkpoint_dir",
    "distributed_cache.cacert_filename",
    "distributed_cache.capath",
    "distributed_cache.cert_filename",
    "distributed_cache.plugin_lib_path",
    "distributed_cache.private_key_filename",
    "ssl.crl_path",
    "summary.data_rate_dir",
)
_DEFAULTS: dict[str, object] = {
    "server_mode": "FEDERATED_LEARNING",
    "distributed_cache.type": "redis",
    "summary.metrics_file": "metrics.json",
    "summary.failure_event_file": "event.txt",
    # With a folder here the 0.1.0 server takes up to a minute to stop.
    "summary.data_rate_dir": "",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsFiles:
    """Certificates of a server: PKCS#12 for itself and as a client of the other servers, PEM for the authority.

    The passwords are those of the two PKCS#12 files. Raises :class:`OptionError` where one has none: the real server
    does not take such files.
    """

    server_p12: Path
    client_p12: Path
    ca_cert: Path
    server_password: str = field(repr=False)
    client_password: str = field(repr=False)
    cipher_list: str = CIPHERS

    def __post_init__(self) -> None:
        for path, password in ((self.server_p12, self.server_password), (self.client_p12, self.client_password)):
            if not password:
                raise OptionError(
                    f"MindSpore Federated 0.1.0 needs a PKCS#12 file with a password, and none is given for {path}",
                    hint="make the files with `mindfl server certs --password_file FILE`, and name that file here too",
                )

    def entries(self) -> dict[str, object]:
        """Return the keys of the ``ssl`` section."""
        return {
            "ssl.server_cert_path": str(self.server_p12.absolute()),
            "ssl.client_cert_path": str(self.client_p12.absolute()),
            "ssl.ca_cert_path": str(self.ca_cert.absolute()),
            "ssl.cipher_list": self.cipher_list,
        }


@checked_arguments
@dataclass(frozen=True, kw_only=True)
class FederatedConfig:
    """A job on the real MindSpore Federated 0.1.0 server.

    Args:
        fl_name: name of the job.
        iterations, epochs, batch_size, learning_rate: the federated plan.
        clients: how many clients each iteration waits for (``start_fl_job_threshold``).
        update_model_ratio: the part of them whose uploads end it.
        start_fl_job_time_window, update_model_time_window, global_iteration_time_window: milliseconds after which an
            iteration fails; long, since a simulated device shares its processor with all others.
        server_num: servers of the job, on consecutive ports.
        tls: True: with certificates made for this run; or the files of your own.
        http_address: host and first port of the servers; port 0: any free ones.
        manage_address: where the scheduler answers; port 0: any free one; None: no scheduler.
        http_url_prefix: of every request's path.
        redis_address: a Redis that runs; None: one is started, and ended with the servers.
        resume: go on with the job that the Redis holds; else a name that it holds already gets something behind it.
        tcp_server_ip: where the servers reach each other.
        checkpoint_dir: existing folder for a checkpoint of each iteration. A job goes on after the newest one in it.
        settings: further keys of the YAML file, dotted: ``{"encrypt.encrypt_type": "PW_ENCRYPT"}``.
        python: see :func:`mindfl.real.install`.

    Raises :class:`OptionError` naming the argument without usable value; those that are keys of the YAML file are
    checked when it is written.
    """

    fl_name: str
    iterations: int
    clients: int
    epochs: int
    batch_size: int
    learning_rate: float
    update_model_ratio: float = 1.0
    start_fl_job_time_window: int = 3_600_000
    update_model_time_window: int = 3_600_000
    global_iteration_time_window: int = 7_200_000
    server_num: int = 1
    tls: bool | TlsFiles = False
    http_address: str = "127.0.0.1:0"
    manage_address: str | None = "127.0.0.1:0"
    http_url_prefix: str = ""
    redis_address: str | None = None
    resume: bool = False
    tcp_server_ip: str = "127.0.0.1"
    checkpoint_dir: Path | None = None
    settings: Mapping[str, object] = field(default_factory=dict)
    python: PathLike | None = None

    def __post_init__(self) -> None:
        from mindfl.server.http import Address

        if not isinstance(self.server_num, int) or not 1 <= self.server_num <= MOST_SERVERS:
            raise OptionError(f"server_num must be a whole number from 1 to {MOST_SERVERS}, got {self.server_num!r}")
        Address.parse(self.http_address, "http_address")
        for name in ("manage_address", "redis_address"):
            if getattr(self, name) is not None:
                Address.parse(getattr(self, name), name)
        if self.resume and self.redis_address is None:
            raise OptionError("resume goes on with the job that a Redis holds: give its redis_address")
        if self.checkpoint_dir is not None and not Path(self.checkpoint_dir).is_dir():
            raise OptionError(f"checkpoint_dir: {self.checkpoint_dir} is no folder", hint="make it first")

    @classmethod
    def from_settings(cls, settings: JobSettings, **others: Any) -> FederatedConfig:
        """Return the job of a server's YAML file, with ``others`` for what is not in such a file.

        Files named in it are relative to the current folder; metrics and events are written beside each server's log.
        Raises :class:`OptionError` for an encryption that is not the real server's.
        """
        mode = MODES[settings.encrypt.encrypt_type]
        if not mode.in_reference:
            place = settings.origin.place("encrypt.encrypt_type")
            raise OptionError(f"{place}: {mode.name} is mindfl's own: MindSpore Federated's server does not know it")
        given = {key: entry.value for key, entry in settings.origin.entries.items()}
        known = (*_KEYS.values(), *_DECIDED)
        further = {
            key: str(Path(str(value)).absolute()) if key in _PATHS and value else value
            for key, value in given.items()
            if key not in known and not isinstance(value, (Section, Ignored))
        }
        values: dict[str, Any] = {name: _setting(settings, key) for name, key in _KEYS.items()}
        return cls(**values, settings=further, **others)

    def entries(self) -> dict[str, object]:
        """Return the keys of the YAML file, dotted; those of Redis and TLS are the running stack's to add."""
        values = {key: getattr(self, name) for name, key in _KEYS.items()}
        return {**_DEFAULTS, **self.settings, **values, "enable_ssl": bool(self.tls)}


def write_config(path: Path, entries: Mapping[str, object]) -> JobSettings:
    """Write the YAML file for ``entries``; return it as read back. Raises :class:`OptionError` naming bad values."""
    document: dict[str, Any] = {}
    for key, value in entries.items():
        *sections, name = key.split(".")
        place = document
        for section in sections:
            place = place.setdefault(section, {})
            if not isinstance(place, dict):
                raise OptionError(f"settings: {section} of {key} is no section: it is given a value as well")
        place[name] = value
    try:
        # The real server reads it in whatever encoding its locale has: plain ASCII is the same in all.
        text = yaml.safe_dump(document, sort_keys=False, allow_unicode=False, width=1000)
    except yaml.YAMLError as error:
        raise OptionError(f"the settings cannot be written as YAML: {error}") from None
    write_atomic(path, text)
    return read_settings(path)


def _setting(settings: JobSettings, key: str) -> Any:
    value: Any = settings
    for name in key.split("."):
        value = getattr(value, name)
    return value
