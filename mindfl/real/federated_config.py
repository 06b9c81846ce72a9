"""What a real server is started with: its job, addresses, certificates, and the YAML file that holds them."""

from __future__ import annotations

import secrets
import socket
from collections.abc import Mapping
from contextlib import ExitStack, closing
from dataclasses import MISSING, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from mindfl.errors import OptionError
from mindfl.files import PathLike, write_atomic
from mindfl.modes import MODES
from mindfl.options import check_options
from mindfl.options.declaration import same_option
from mindfl.options.job_options import JobOptions
from mindfl.options.server_options import ServerJobOptions
from mindfl.server.http import Address, bound_address, listen
from mindfl.server.settings import JobSettings, read_settings
from mindfl.server.settings.document import IgnoredSetting, Section
from mindfl.spelling import checked_arguments

CIPHERS = ":".join(
    f"ECDHE-{key}-{cipher}" for key in ("ECDSA", "RSA") for cipher in ("AES128-GCM-SHA256", "AES256-GCM-SHA384")
)
_ANY_HOST = "0.0.0.0"

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
#: keys that other fields of :class:`FederatedConfig` set
_SET_ELSEWHERE = ("enable_ssl", "distributed_cache.address", "distributed_cache.type")
_PATHS = (
    *("checkpoint_dir", "ssl.crl_path", "summary.data_rate_dir", "distributed_cache.plugin_lib_path"),
    *("distributed_cache.cacert_filename", "distributed_cache.capath"),
    *("distributed_cache.cert_filename", "distributed_cache.private_key_filename"),
)
_DEFAULTS: dict[str, object] = {
    "server_mode": "FEDERATED_LEARNING",
    "distributed_cache.type": "redis",
    "summary.metrics_file": "metrics.json",
    "summary.failure_event_file": "event.txt",
    # With a folder here the 0.1.0 server takes up to a minute to stop.
    "summary.data_rate_dir": "",
}
_of_server = partial(same_option, ServerJobOptions)
_of_job = partial(same_option, JobOptions)


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsFiles:
    """Certificates of a server.

    Args:
        server_p12: PKCS#12 file of the server.
        client_p12: PKCS#12 file of the server as a client of the other servers.
        ca_cert: PEM file of the authority.
        server_password: password of ``server_p12``.
        client_password: password of ``client_p12``.
        cipher_list: ciphers of TLS 1.2, in OpenSSL's names.

    Raises:
        OptionError: a password is empty, which the real server does not accept.
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

    @classmethod
    def generated(cls, folder: Path, host: str) -> TlsFiles:
        """Make an authority and certificates for ``host`` and this machine in ``folder``, with a random password.

        Raises :class:`OptionError` without the package cryptography, :class:`StorageError`.
        """
        from mindfl.server.certificates import LOCAL_HOSTS, make_certificates

        password = secrets.token_hex(16)
        names = dict.fromkeys([*LOCAL_HOSTS, socket.gethostname() if host == _ANY_HOST else host])
        files = make_certificates(folder, list(names), password=password, force=True)
        return cls(
            server_p12=files.server_p12,
            client_p12=files.client_p12,
            ca_cert=files.ca_cert,
            server_password=password,
            client_password=password,
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
        iterations: number of iterations.
        clients: clients in each iteration (``start_fl_job_threshold``).
        epochs: local epochs per iteration.
        batch_size: samples per training step.
        learning_rate: local learning rate.
        update_model_ratio: share of the clients whose uploads end the iteration.
        start_fl_job_time_window: ms in which enough clients must start; long by default, as simulated clients share
            processors.
        update_model_time_window: ms in which enough clients must upload.
        global_iteration_time_window: ms in which an iteration must end.
        server_num: servers of the job, on consecutive ports.
        tls: True: certificates are generated for this run; or your own files.
        http_address: host and first port of the servers; port 0: any free ones.
        manage_address: address of the scheduler; port 0: any free one; None: no scheduler.
        http_url_prefix: path that all requests begin with.
        redis_address: a running Redis; None: one is started, and stopped with the servers.
        resume: continue the job in the Redis; else the name of a new job is extended if it exists there.
        tcp_server_ip: address at which the servers reach each other.
        checkpoint_dir: existing folder for a checkpoint of each iteration; a job continues after its newest one.
        settings: further keys of the YAML file, dotted: ``{"encrypt.encrypt_type": "PW_ENCRYPT"}``.
        python: see :func:`mindfl.real.install`.

    Raises:
        OptionError: an argument has no usable value. Keys in ``settings`` are checked when the file is written.
    """

    fl_name: str = _of_server("fl_name", default=MISSING)
    iterations: int = _of_server("fl_iteration_num")
    clients: int = _of_server("start_fl_job_threshold")
    epochs: int = _of_server("client_epoch_num", default=MISSING)
    batch_size: int = _of_server("client_batch_size", default=MISSING)
    learning_rate: float = _of_server("client_learning_rate", default=MISSING)
    update_model_ratio: float = _of_server("update_model_ratio")
    start_fl_job_time_window: int = _of_server("start_fl_job_time_window", default=3_600_000)
    update_model_time_window: int = _of_server("update_model_time_window", default=3_600_000)
    global_iteration_time_window: int = _of_server("global_iteration_time_window", default=7_200_000)
    server_num: int = _of_job("server_num", most=100)
    tls: bool | TlsFiles = False
    http_address: str = "127.0.0.1:0"
    manage_address: str | None = "127.0.0.1:0"
    http_url_prefix: str = ""
    redis_address: str | None = _of_job("redis_address")
    resume: bool = False
    tcp_server_ip: str = "127.0.0.1"
    checkpoint_dir: Path | None = None
    settings: Mapping[str, object] = field(default_factory=dict)
    python: PathLike | None = None

    def __post_init__(self) -> None:
        check_options(self)
        for name in ("http_address", "manage_address", "redis_address"):
            if getattr(self, name) is not None:
                Address.parse(getattr(self, name), name)
        if self.resume and self.redis_address is None:
            raise OptionError("resume continues the job in a running Redis: give its redis_address")
        if self.checkpoint_dir is not None and not Path(self.checkpoint_dir).is_dir():
            raise OptionError(f"checkpoint_dir: {self.checkpoint_dir} is no folder", hint="make it first")

    @classmethod
    def from_settings(cls, settings: JobSettings, **others: Any) -> FederatedConfig:
        """Return the job of a server's YAML file.

        Paths in the file are relative to the current folder; metrics and events are written beside the servers' logs.

        Args:
            settings: the file.
            others: fields of this class that such a file does not contain.

        Raises:
            OptionError: the real server does not support the file's upload mode.
        """
        mode = MODES[settings.encrypt.encrypt_type]
        if not mode.in_reference:
            place = settings.origin.place("encrypt.encrypt_type")
            raise OptionError(f"{place}: {mode.name} is mindfl's own: MindSpore Federated's server does not support it")
        further = {
            key: str(Path(str(entry.value)).absolute()) if key in _PATHS and entry.value else entry.value
            for key, entry in settings.origin.entries.items()
            if key not in (*_KEYS.values(), *_SET_ELSEWHERE) and not isinstance(entry.value, Section | IgnoredSetting)
        }
        values: dict[str, Any] = {name: _setting(settings, key) for name, key in _KEYS.items()}
        return cls(**values, settings=further, **others)

    def entries(self) -> dict[str, object]:
        """Return the keys of the YAML file, dotted, without those of Redis and certificates."""
        values = {key: getattr(self, name) for name, key in _KEYS.items()}
        return {**_DEFAULTS, **self.settings, **values, "enable_ssl": bool(self.tls)}


def write_config(path: Path, entries: Mapping[str, object]) -> JobSettings:
    """Write the YAML file for dotted ``entries``; return it as read. Raises :class:`OptionError` naming bad values."""
    document: dict[str, Any] = {}
    for key, value in entries.items():
        *sections, name = key.split(".")
        place = document
        for section in sections:
            place = place.setdefault(section, {})
            if not isinstance(place, dict):
                raise OptionError(f"settings: {section} of {key} is no section: it has a value as well")
        place[name] = value
    try:
        # The real server reads it in the encoding of its locale: ASCII is the same in all.
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


@dataclass(frozen=True, slots=True)
class Addresses:
    """Addresses of the processes; ``manage`` None: no scheduler; ``redis`` None: it runs already."""

    http: tuple[Address, ...]
    manage: Address | None
    redis: Address | None

    @classmethod
    def chosen(cls, config: FederatedConfig) -> Addresses:
        """Return addresses that are free now; the processes bind them later.

        Raises :class:`OptionError` naming one in use.
        """
        with ExitStack() as held:

            def free(text: str, option: str, count: int = 1) -> tuple[Address, ...]:
                address = Address.parse(text, option)
                # A single free port comes from the range that the system gives to clients, so a client could take it
                # in the seconds until the real server listens. Several ports come from another range.
                sockets = listen(address, option, count if address.port else max(count, 2))
                for each in sockets:
                    held.enter_context(closing(each))
                return tuple(Address(address.host, bound_address(each).port) for each in sockets[:count])

            http = free(config.http_address, "http_address", config.server_num)
            manage = None if config.manage_address is None else free(config.manage_address, "manage_address")[0]
            redis = free("127.0.0.1:0", "redis_address")[0] if config.redis_address is None else None
            return cls(http, manage, redis)
