"""The options of a server: those of ``mindfl server start``, and the keys of the YAML file, section by section.

Those of :class:`ServerJobOptions` are fields of :class:`mindfl.server.ServerConfig` too. Names, ranges and the defaults
of the file are those of MindSpore Federated 0.1.0, as are the types; windows are in milliseconds. Whole numbers that
travel to clients are limited to what the wire's int32 holds.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from mindfl.files import PathLike
from mindfl.options.declaration import option, same_option
from mindfl.options.mode_options import EncryptOptions, MaskOptions, ModeOptions

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mindfl.algorithms.algorithm import Algorithm

    ModelSource: TypeAlias = str | os.PathLike[str] | Mapping[str, NDArray[np.float32]]
else:
    ModelSource = str | os.PathLike
"""A file, or weights by name."""

INT32_MAX = 2**31 - 1
INT64_MAX = 2**63 - 1
UINT32_MAX = 2**32 - 1

#: value of ``distributed_cache.type``: there is one server, which needs no Redis
EMBEDDED = "embedded"
NOT_EVAL = "NOT_EVAL"
#: environment variable that is read where no ``--password_file`` is given
PASSWORD_VARIABLE = "MINDFL_SERVER_PASSWORD"

#: a :class:`mindfl.algorithms.Schedule`, a function of the iteration, or the name of one
NamedSchedule = Any
EvalType = Literal["NOT_EVAL", "SILHOUETTE_SCORE", "CALINSKI_HARABASZ_SCORE", "DAVIES_BOULDIN_SCORE"]
KeyType = Literal["ec", "rsa"]
Stack = Literal["embedded", "federated"]
ModeOfTraining = Literal["FEDERATED_LEARNING", "HYBRID_TRAINING", "CLOUD_TRAINING"]
AggregationType = Literal["FedAvg", "FedProx", "Scaffold", "FedNova"]

_plan = partial(option, group="Plan")
_window = partial(option, group="Plan", least=1, most=UINT32_MAX, unit="ms")
_mode = partial(option, group="Privacy and compression")
_count = partial(option, least=1, most=INT64_MAX)
_password_file = partial(option, None, shown=f"${PASSWORD_VARIABLE}")
_quiet = partial(option, False, help="No progress.")


@dataclass(frozen=True, kw_only=True)
class NameOptions:
    """The job."""

    fl_name: str = _plan("Lenet", file_default=MISSING, help="Name of the job.")
    fl_iteration_num: int = _plan(least=1, most=INT32_MAX, help="Number of iterations.")


@dataclass(frozen=True, kw_only=True)
class RoundOptions:
    """Quotas and time windows of an iteration."""

    start_fl_job_threshold: int = _plan(least=1, most=UINT32_MAX, help="Clients that may start in an iteration.")
    update_model_ratio: float = _plan(
        1.0, above=0, most=1, file_default=MISSING, help="Share of the started clients whose uploads end an iteration."
    )
    start_fl_job_time_window: int = _window(
        30_000, file_default=MISSING, help="Time in which enough clients must start."
    )
    update_model_time_window: int = _window(
        30_000, file_default=MISSING, help="Time in which enough clients must upload."
    )
    global_iteration_time_window: int = _window(
        60_000, file_default=MISSING, help="Time in which an iteration must end."
    )


@dataclass(frozen=True, kw_only=True)
class TrainingOptions:
    """How clients train."""

    client_epoch_num: int = _plan(1, least=1, most=INT32_MAX, file_default=25, help="Local epochs per iteration.")
    client_batch_size: int = _plan(32, least=1, most=INT32_MAX, help="Samples per training step.")
    client_learning_rate: float = _plan(0.01, above=0, file_default=0.001, help="Local learning rate.")


@dataclass(frozen=True, kw_only=True)
class PwOptions(MaskOptions):
    """Secure aggregation by pairwise masks. ``exact_corrupt_ratio`` is mindfl's own, for its own ``PW_EXACT``."""

    share_secrets_ratio: float = _mode(
        1.0, above=0, most=1, help="Secure aggregation: share of the clients that must take part in each exchange."
    )
    cipher_time_window: int = _mode(
        30_000,
        least=1,
        most=UINT32_MAX,
        unit="ms",
        file_default=1,
        help="Secure aggregation: time in which enough clients must take part in an exchange.",
    )
    reconstruct_secrets_threshold: int = _mode(
        1, least=1, most=UINT32_MAX, help="PW_ENCRYPT: number of shares that recover a client's secret."
    )


@dataclass(frozen=True, kw_only=True)
class ServerJobOptions(TrainingOptions, RoundOptions, NameOptions, PwOptions, ModeOptions):
    """A server's job. Where the file's default is another one, ``file_default`` says it."""


@dataclass(frozen=True, kw_only=True)
class JobFileOptions(EncryptOptions, ServerJobOptions):
    """The same as keys of the file, and as options of ``mindfl server start`` that replace them."""


@dataclass(frozen=True, kw_only=True)
class EncryptionOptions:
    """Whether connections are encrypted."""

    enable_ssl: bool = option(
        spellings=("--enable_ssl/--disable_ssl",), help="Encrypt with TLS; the section ssl names the certificates."
    )


@dataclass(frozen=True, kw_only=True)
class TopOptions(EncryptionOptions, NameOptions):
    """Keys outside of sections."""

    server_mode: ModeOfTraining = option(help="FEDERATED_LEARNING; the others are not supported.")
    checkpoint_dir: str = option("", shown="none", help="Folder for a checkpoint of each iteration.")


@dataclass(frozen=True, kw_only=True)
class CacheOptions:
    """The Redis in which several servers of one job share their state."""

    type: str = option("redis", help=f"redis, or {EMBEDDED} for one server without Redis.")
    address: str = option(help="Redis: HOST:PORT.")
    plugin_lib_path: str = option("", help="Library of another store; not supported.")
    cacert_filename: str = option("", help="With enable_ssl: certificate of the Redis's authority, PEM.")
    capath: str = option("", help="With enable_ssl: folder of such certificates.")
    cert_filename: str = option("", help="With enable_ssl: certificate of the server as a client of the Redis, PEM.")
    private_key_filename: str = option("", help="With enable_ssl: private key of that certificate, PEM.")
    server_name: str = option("", help="Has no effect: the Redis's certificate must name the host in address.")


@dataclass(frozen=True, kw_only=True)
class ServerFilesOptions:
    """Files that the server writes."""

    metrics_file: str = option(help="File for a line of JSON per iteration.")
    failure_event_file: str = option(help="File for a line whenever many iterations in a row have failed.")
    continuous_failure_times: int = _count(10, help="Number of failed iterations in a row for such a line.")
    data_rate_dir: str = option(
        "", shown="none", help="Folder for files of the bytes received and sent in each second."
    )
    participation_time_level: str = option(
        "5,15", unit="min", help="Two times of training, ascending: metrics count the clients that took less."
    )


@dataclass(frozen=True, kw_only=True)
class UnsupervisedOptions:
    """Evaluation without labels. It is accepted as the reference's files have it, and not computed."""

    cluster_client_num: int = _count(1000, help="Has no effect.")
    eval_type: EvalType = option(NOT_EVAL, help="Has no effect: no score is computed.")


@dataclass(frozen=True, kw_only=True)
class SslOptions:
    """Certificates, read where ``enable_ssl`` is true; then the first three and ``cipher_list`` are required.

    The server and client certificate files may be PKCS#12 (as in the reference) or PEM with the key in the same file.
    """

    server_cert_path: str = option("", help="Certificate of the server: PKCS#12 or PEM.")
    client_cert_path: str = option(
        "", help="Certificate of the server as a client of the other servers: PKCS#12 or PEM."
    )
    ca_cert_path: str = option("", help="Certificate of the authority: PEM.")
    crl_path: str = option("", help="Revocation list of the authority.")
    cipher_list: str = option("", help="Ciphers of TLS 1.2, in OpenSSL's names.")
    cert_expire_warning_time_in_day: int = option(
        90, least=7, most=180, unit="d", help="Time before the end of the server's certificate that a warning comes."
    )


@dataclass(frozen=True, kw_only=True)
class ClientVerifyOptions:
    """Verification of device certificates, which is not supported."""

    pki_verify: bool = option(False, help="Verify device certificates; not supported.")
    root_first_ca_path: str = option("", help="Has no effect without pki_verify.")
    root_second_ca_path: str = option("", help="Has no effect without pki_verify.")
    equip_crl_path: str = option("", help="Has no effect without pki_verify.")
    replay_attack_time_diff: int = option(
        600_000, least=0, most=INT64_MAX, unit="ms", help="Has no effect without pki_verify."
    )


@dataclass(frozen=True, kw_only=True)
class LinkOptions:
    """How clients reach the server."""

    http_url_prefix: str = option("", help="Path that all requests begin with.")
    connection_num: int = _count(10_000, help="Most connections of clients to one port.")


@dataclass(frozen=True, kw_only=True)
class AggregationOptions:
    """How uploads become the next model."""

    aggregation_type: AggregationType = option("FedAvg", help="Federated algorithm; only FedAvg is supported.")
    iid_rate: float = option(0.0, above=0, most=1, help="Has no effect: FedAvg does not use it.")
    total_client_num: int = option(1, least=1, most=UINT32_MAX, help="Has no effect: FedAvg does not use it.")


@dataclass(frozen=True, kw_only=True)
class CommonStartOptions:
    """Options of ``mindfl server start`` for either server."""

    config: PathLike = option(help="MindSpore Federated's YAML file.")
    model: ModelSource = option(help="Initial weights: .ms, .mindir, .ckpt, .npz, .safetensors.")
    http_server_address: str = option("127.0.0.1:6668", help="Address for clients; port 0: any free one.")
    server_num: int = option(1, least=1, most=1000, help="Number of consecutive ports for the job.")
    manage_address: str | None = option(None, shown="none", help="Address of /state, /newInstance and the like.")
    checkpoint_dir: PathLike | None = option(
        None, shown="the file's", help="Folder for checkpoints; federated: an existing one."
    )
    tcp_server_ip: str = option("127.0.0.1", help="Address of this server for those on other machines.")


@dataclass(frozen=True, kw_only=True)
class EmbeddedStartOptions:
    """Further options of ``mindfl server start`` for mindfl's own server."""

    state_dir: PathLike | None = option(
        None, shown="<fl_name>_state", help="Folder of the job's state, from which it resumes."
    )
    journal: bool = option(
        True, spellings=("--journal/--no-journal",), shown="yes", help="Keep every upload in --state_dir."
    )
    cluster: bool = option(False, help="Share the job with other servers of the same file, in its Redis.")
    server_key_path: PathLike | None = option(
        None, help="Private key of the certificate, if the file of a PEM certificate holds none."
    )
    require_client_certificate: bool = option(
        False, help="Refuse clients without a certificate of the authority in --ca_cert_path."
    )
    dp_budget: float | None = option(None, above=0, shown="no limit", help="Largest epsilon that a client may spend.")
    algorithm: Algorithm | str = option(
        "fedavg",
        objects=True,
        help="Federated algorithm that changes the server alone, such as fedadam or median; your own, with step and "
        "state: FILE.py:CLASS or MODULE:CLASS. Settings follow a colon.",
    )
    lr_schedule: NamedSchedule = option(
        "constant",
        help="Learning rate of each iteration, from that of the plan: constant, step:every=10,factor=0.1, "
        "cosine:rounds=100,least=0.0001, or a function of the iteration, module:attribute or file.py:attribute.",
    )
    live: bool = option(
        False, help="Show the job in the browser as it runs (docs/live.md); keeps what it shows in <fl_name>_live."
    )
    live_port: int = option(0, least=0, most=65535, shown="any free one", help="With --live: port of the page.")


@dataclass(frozen=True, kw_only=True)
class StartOptions(EmbeddedStartOptions, CommonStartOptions):
    """All options of mindfl's own server."""


@dataclass(frozen=True, kw_only=True)
class StartCommandOptions:
    """Options of the command ``mindfl server start`` alone."""

    password_file: PathLike | None = _password_file(help="File with the password of the server's key.")
    quiet: bool = _quiet()
    stack: Stack = option(
        "embedded", help="federated: the real MindSpore Federated 0.1.0 server, with its own Redis and scheduler."
    )


@dataclass(frozen=True, kw_only=True)
class FederatedStartOptions:
    """Further options of ``mindfl server start --stack federated``."""

    python: PathLike | None = option(None, shown="see `mindfl server install`", help="Federated: a Python 3.7 to 3.9.")
    redis_address: str | None = option(
        None, shown="the file's if it answers, else a new one", help="Federated: a running Redis."
    )
    resume: bool = option(False, help="Federated: resume the job of this name in the Redis.")
    work_dir: PathLike = option(Path("mindfl_work"), help="Federated: folder for logs and records.")


@dataclass(frozen=True, kw_only=True)
class RunningOptions:
    """Which of the running servers."""

    http_server_address: str | None = option(
        None, shown="the only one that runs", help="Address of the server for clients: HOST:PORT."
    )


@dataclass(frozen=True, kw_only=True)
class SchedulerStartOptions:
    """Options of ``mindfl server scheduler``."""

    config: PathLike = same_option(StartOptions, "config")
    manage_address: str = same_option(StartOptions, "manage_address", default="127.0.0.1:11202", shown="")
    password_file: PathLike | None = same_option(StartCommandOptions, "password_file")


@dataclass(frozen=True, kw_only=True)
class CertsOptions:
    """Options of ``mindfl server certs``."""

    folder: PathLike = option(spellings=("--out",), help="Folder for the files.")
    hosts: Sequence[str] = option(
        (),
        several=True,
        spellings=("--host",),
        shown="this machine",
        help="Name or address of the server; may be given several times.",
    )
    days: int = option(365, least=1, most=36_500, unit="d", help="Validity of all certificates.")
    key_type: KeyType = option("ec", help="Kind of the keys.")
    force: bool = option(False, help="Replace existing files.")
    password_file: PathLike | None = _password_file(help="File with the password of the .p12 files.")


@dataclass(frozen=True, kw_only=True)
class InstallOptions:
    """Options of ``mindfl server install``."""

    python: PathLike | None = option(
        None, shown="the newest on PATH or under pyenv", help="A Python 3.7 to 3.9 on x86-64 Linux."
    )
    quiet: bool = _quiet()
