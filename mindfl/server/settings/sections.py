"""The settings of a server, section by section, under the names of MindSpore Federated 0.1.0's YAML file.

Types, defaults, ranges and what is required are the reference's. Windows are in milliseconds. Whole numbers that travel
to clients are limited to what the wire's int32 holds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from mindfl.modes import NAMES, PLAIN
from mindfl.options.server import INT64_MAX, UINT32_MAX
from mindfl.server.server_config import ServerConfig
from mindfl.server.settings.rule import declared, setting

EMBEDDED = "embedded"
NOT_EVAL = "NOT_EVAL"


@dataclass(frozen=True, slots=True, kw_only=True)
class DistributedCacheSettings:
    """The Redis where several servers of one job share their state; type :data:`EMBEDDED`: there is but one server."""

    type: str = setting("redis")
    address: str = setting()
    plugin_lib_path: str = setting("")
    cacert_filename: str = setting("")
    capath: str = setting("")
    cert_filename: str = setting("")
    private_key_filename: str = setting("")
    server_name: str = setting("")


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundSettings:
    """Quotas and time windows of an iteration."""

    start_fl_job_threshold: int = declared("start_fl_job_threshold")
    start_fl_job_time_window: int = declared("start_fl_job_time_window")
    update_model_ratio: float = declared("update_model_ratio")
    update_model_time_window: int = declared("update_model_time_window")
    global_iteration_time_window: int = declared("global_iteration_time_window")


@dataclass(frozen=True, slots=True, kw_only=True)
class SummarySettings:
    """Files that the server writes. ``participation_time_level``: two whole numbers of minutes."""

    metrics_file: str = setting()
    failure_event_file: str = setting()
    continuous_failure_times: int = setting(10, least=1, most=INT64_MAX)
    data_rate_dir: str = setting("")
    participation_time_level: str = setting("5,15")


@dataclass(frozen=True, slots=True, kw_only=True)
class UnsupervisedSettings:
    """Evaluation without labels. It is accepted as the reference's files have it, and not computed."""

    cluster_client_num: int = setting(1000, least=1, most=INT64_MAX)
    eval_type: str = setting(
        NOT_EVAL, choices=(NOT_EVAL, "SILHOUETTE_SCORE", "CALINSKI_HARABASZ_SCORE", "DAVIES_BOULDIN_SCORE")
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class PwSettings:
    """Secure aggregation by pairwise masks. The last one is mindfl's own, for its own ``PW_EXACT``."""

    share_secrets_ratio: float = declared("share_secrets_ratio")
    cipher_time_window: int = declared("cipher_time_window")
    reconstruct_secrets_threshold: int = declared("reconstruct_secrets_threshold")
    exact_corrupt_ratio: float = declared("exact_corrupt_ratio")


@dataclass(frozen=True, slots=True, kw_only=True)
class DpSettings:
    """Differential privacy, added by the clients."""

    dp_eps: float = declared("dp_eps")
    dp_delta: float = declared("dp_delta")
    dp_norm_clip: float = declared("dp_norm_clip")


@dataclass(frozen=True, slots=True, kw_only=True)
class SignDsSettings:
    """Uploads of signs of selected dimensions."""

    sign_k: float = declared("sign_k")
    sign_eps: float = declared("sign_eps")
    sign_thr_ratio: float = declared("sign_thr_ratio")
    sign_global_lr: float = declared("sign_global_lr")
    sign_dim_out: int = declared("sign_dim_out")


@dataclass(frozen=True, slots=True, kw_only=True)
class EncryptSettings:
    """How uploads are protected. Only the block of the chosen type is read; the others keep their defaults."""

    encrypt_type: str = setting(PLAIN, choices=NAMES)
    pw_encrypt: PwSettings
    dp_encrypt: DpSettings
    signds: SignDsSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class CompressionSettings:
    """Forms in which weights travel."""

    upload_compress_type: str = declared("upload_compress_type")
    upload_sparse_rate: float = declared("upload_sparse_rate")
    download_compress_type: str = declared("download_compress_type")


@dataclass(frozen=True, slots=True, kw_only=True)
class SslSettings:
    """Certificates, read where ``enable_ssl`` is true; then the first three and ``cipher_list`` are required.

    The server and client certificate files may be PKCS#12 (as in the reference) or PEM with the key in the same file.
    """

    server_cert_path: str = setting("")
    client_cert_path: str = setting("")
    ca_cert_path: str = setting("")
    crl_path: str = setting("")
    cipher_list: str = setting("")
    cert_expire_warning_time_in_day: int = setting(90, least=7, most=180)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientVerifySettings:
    """Verification of device certificates."""

    pki_verify: bool = setting(False)
    root_first_ca_path: str = setting("")
    root_second_ca_path: str = setting("")
    equip_crl_path: str = setting("")
    replay_attack_time_diff: int = setting(600_000, least=0, most=INT64_MAX)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientSettings:
    """What clients are told, and how they reach the server."""

    http_url_prefix: str = setting("")
    client_epoch_num: int = declared("client_epoch_num")
    client_batch_size: int = declared("client_batch_size")
    client_learning_rate: float = declared("client_learning_rate")
    connection_num: int = setting(10_000, least=1, most=INT64_MAX)


@dataclass(frozen=True, slots=True, kw_only=True)
class AggregationSettings:
    """How uploads become the next model."""

    aggregation_type: str = setting("FedAvg", choices=("FedAvg", "FedProx", "Scaffold", "FedNova"))
    iid_rate: float = setting(0.0, above=0, most=1)
    total_client_num: int = setting(1, least=1, most=UINT32_MAX)


@dataclass(frozen=True, slots=True)
class Entry:
    """One value and where it was given: ``fl.yaml:7`` or ``--fl_name``."""

    value: object
    place: str


@dataclass(frozen=True, slots=True)
class Origin:
    """Where settings come from: the file, every value given by dotted key, and what is worth a warning."""

    path: str
    entries: Mapping[str, Entry]
    warnings: tuple[str, ...] = ()

    def place(self, key: str) -> str:
        """Return where ``key`` was given, or the file's name where its default stands."""
        return self.entries[key].place if key in self.entries else self.path


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSettings:
    """Everything that a server's YAML file says. ``origin`` tells which line a value came from."""

    fl_name: str = declared("fl_name")
    fl_iteration_num: int = declared("fl_iteration_num")
    server_mode: str = setting(choices=("FEDERATED_LEARNING", "HYBRID_TRAINING", "CLOUD_TRAINING"))
    enable_ssl: bool = setting()
    checkpoint_dir: str = setting("")
    distributed_cache: DistributedCacheSettings
    round: RoundSettings
    summary: SummarySettings
    unsupervised: UnsupervisedSettings
    encrypt: EncryptSettings
    compression: CompressionSettings
    ssl: SslSettings
    client_verify: ClientVerifySettings
    client: ClientSettings
    aggregation: AggregationSettings
    origin: Origin = field(repr=False, compare=False)

    @property
    def warnings(self) -> tuple[str, ...]:
        """One line each: values that are overruled, as the reference does with a warning in its log."""
        return self.origin.warnings

    def server_config(self) -> ServerConfig:
        """Return what the coordinator needs. Raises :class:`OptionError` for a quota that it cannot sum exactly."""
        return ServerConfig(
            fl_name=self.fl_name,
            fl_iteration_num=self.fl_iteration_num,
            start_fl_job_threshold=self.round.start_fl_job_threshold,
            start_fl_job_time_window=self.round.start_fl_job_time_window,
            update_model_ratio=self.round.update_model_ratio,
            update_model_time_window=self.round.update_model_time_window,
            global_iteration_time_window=self.round.global_iteration_time_window,
            client_epoch_num=self.client.client_epoch_num,
            client_batch_size=self.client.client_batch_size,
            client_learning_rate=self.client.client_learning_rate,
            **{**asdict(self.encrypt.pw_encrypt), "encrypt_type": self.encrypt.encrypt_type},
            **asdict(self.encrypt.dp_encrypt),
            **asdict(self.encrypt.signds),
            **asdict(self.compression),
        )
