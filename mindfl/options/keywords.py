"""A job's keywords for editors and type checkers, written from the declarations by `make options`."""

from __future__ import annotations

from typing import TypedDict

from mindfl.algorithms import Algorithm
from mindfl.files import PathLike
from mindfl.modes import UploadMode
from mindfl.options.job_options import (
    ClientsName,
    CpuBindMode,
    DataForm,
    DataSource,
    DeployEnv,
    DeviceTarget,
    EngineName,
    EvaluateName,
    ExecutorName,
    InitName,
    LossName,
    MetricName,
    NamedCallbacks,
    NamedSampler,
    NamedSchedule,
    NetworkSource,
    OptimizerName,
    ServerMode,
    SslProtocol,
    StackName,
    TransportName,
)
from mindfl.options.mode_options import DownloadCompressType, UploadCompressType


class JobKeywords(TypedDict, total=False):
    """The keywords of :class:`mindfl.FederatedJob`; docs/options.md says what each means."""

    encrypt_type: UploadMode | str
    dp_eps: float
    dp_delta: float
    dp_norm_clip: float
    sign_k: float
    sign_eps: float
    sign_thr_ratio: float
    sign_global_lr: float
    sign_dim_out: int
    reconstruct_secrets_threshold: int | None
    exact_corrupt_ratio: float
    upload_compress_type: UploadCompressType
    upload_sparse_rate: float
    download_compress_type: DownloadCompressType
    work_dir: PathLike
    resume: bool
    overwrite: bool
    save_every: int | None
    save_best: bool
    tensorboard: bool
    client_num: int
    clients_per_iteration: int | None
    sampler: NamedSampler | None
    callbacks: NamedCallbacks
    evaluate: EvaluateName
    evaluate_every: int | None
    metric: MetricName | None
    per_class: bool
    algorithm: Algorithm | str
    iterations: int
    epochs: int
    batch_size: int | None
    learning_rate: float | None
    lr_schedule: NamedSchedule
    seed: int
    train_dataset: DataSource | None
    test_dataset: DataSource | None
    infer_dataset: DataSource | None
    data_format: DataForm
    path_regex: str | None
    vocal_file: str | None
    ids_file: str | None
    train_model_path: PathLike | None
    train_ms_name: str | None
    operator: object
    origin_train_model_path: PathLike | None
    infer_model_path: PathLike | None
    infer_ms_name: str | None
    origin_infer_model_path: PathLike | None
    train_weight_name: str | None
    infer_weight_name: str | None
    name_regex: str
    input_shape: str | None
    model: NetworkSource | None
    init: InitName | None
    optimizer: OptimizerName | None
    loss: LossName | None
    momentum: float | None
    weight_decay: float | None
    init_from: PathLike | None
    converter: PathLike | None
    per_client_models: bool | None
    stack: StackName
    domain_name: str | None
    use_elb: bool
    server_num: int
    cert_path: PathLike | None
    ssl_protocol: SslProtocol | None
    client_cert: PathLike | None
    client_key: PathLike | None
    crl_path: PathLike | None
    enable_ssl: bool
    redis_address: str | None
    python: PathLike | None
    transport: TransportName
    server_mode: ServerMode
    dp_budget: float | None
    workers: int | None
    shuffle: bool
    engine: EngineName
    device_target: DeviceTarget
    executor: ExecutorName
    ray_address: str | None
    clients: ClientsName | None
    jar_path: PathLike | None
    case_jar_path: PathLike | None
    lite_jar_path: PathLike | None
    fl_name: str
    heap: str | None
    java: str | None
    parallel: int | None
    thread_num: int | None
    cpu_bind_mode: CpuBindMode | None
    deploy_env: DeployEnv
