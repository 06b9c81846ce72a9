"""Settings that say nothing to the chosen parts of a job: said aloud instead of being ignored in silence."""

from __future__ import annotations

from dataclasses import fields

from mindfl.effects import FOR_TEXTS, ONE_PORT, Rule, tls_without_https, without_effect
from mindfl.modes import MODES, PRIVATE, UPLOAD_TYPES, UploadMode, mode_of
from mindfl.server.config import MODE_SETTINGS
from mindfl.sim.config import JobConfig
from mindfl.sim.model_options import own_model


def unused_settings(config: JobConfig) -> list[str]:
    """Return a line for each setting that was chosen but has no effect on the job."""
    defaults = {item.name: item.default for item in fields(JobConfig)}
    return list(without_effect(_RULES, config, lambda name: getattr(config, name) != defaults[name]))


def _embedded_clients(config: JobConfig) -> bool:
    return config.clients == "embedded"


def _java_clients(config: JobConfig) -> bool:
    return config.clients == "java"


def _embedded_server(config: JobConfig) -> bool:
    return config.stack == "embedded" and config.domain_name is None


def _has_no_momentum(config: JobConfig) -> bool:
    return config.network.optimizer != "momentum" and own_model(config) is None


_UPLOADS = "the uploads"
#: why uploads are not compressed
_REASONS = sorted({UploadMode.uncompressed, *(mode.uncompressed for mode in MODES.values())} - {""})


def _settings_of(mode: type[UploadMode]) -> Rule[JobConfig]:
    return Rule(
        mode.settings,
        lambda config: not set(mode.settings) <= set(mode_of(config).settings),
        _UPLOADS,
        f"they are not {mode.name}",
    )


def _uncompressed(why: str) -> Rule[JobConfig]:
    return Rule(("upload_compress_type",), lambda config: mode_of(config).uncompressed == why, _UPLOADS, why)


_RULES: tuple[Rule[JobConfig], ...] = (
    Rule(("thread_num",), _embedded_clients, "the embedded clients", "they share the threads of --workers"),
    Rule(("cpu_bind_mode",), _embedded_clients, "the embedded clients", "the system places their threads"),
    Rule(("path_regex",), _embedded_clients, "the embedded clients", "they find their files without a list of paths"),
    Rule(
        ("jar_path", "case_jar_path", "lite_jar_path", "heap", "java", "parallel"),
        _embedded_clients,
        "the embedded clients",
        "it is for Java clients (--jarPath and --case_jarPath, or --clients java)",
    ),
    Rule(
        ("workers", "engine", "transport", "per_client_models"),
        _java_clients,
        "the Java clients",
        "each is a process of its own that trains with MindSpore Lite",
    ),
    Rule(("save_every", "save_best"), _java_clients, "the Java clients", "their model is known at the end only"),
    Rule(
        ("client_cert", "client_key", "crl_path"),
        _java_clients,
        "the Java clients",
        "they show no certificate and read no revocation list",
    ),
    Rule(
        ("evaluate", "evaluate_every"),
        _java_clients,
        "the Java clients",
        "each evaluates in every iteration that it takes part in",
    ),
    Rule(
        ("evaluate",),
        lambda config: _embedded_clients(config) and config.domain_name is None and config.all_take_part,
        "this job",
        "every client takes part in every iteration",
    ),
    Rule(("vocal_file", "ids_file"), lambda config: True, *FOR_TEXTS),
    Rule(("server_num",), _embedded_server, "the embedded server", "it is one, and the result is the same"),
    Rule(
        ("server_num",),
        lambda config: config.domain_name is not None and not config.use_elb,
        *ONE_PORT,
    ),
    Rule(
        ("python", "redis_address"),
        lambda config: config.stack == "embedded" or config.domain_name is not None,
        "this job",
        "it is for a server that --stack federated starts",
    ),
    Rule(
        ("iterations", "epochs", "learning_rate"),
        lambda config: config.domain_name is not None,
        "a server that runs already",
        "its own plan counts",
    ),
    Rule(
        ("init_from",),
        lambda config: config.domain_name is not None,
        "a server that runs already",
        "its own model counts",
    ),
    tls_without_https(
        ("cert_path", "ssl_protocol", "client_cert", "client_key", "crl_path"), lambda config: config.domain_name
    ),
    Rule(
        (*MODE_SETTINGS, "dp_budget"),
        lambda config: config.domain_name is not None,
        "a server that runs already",
        "its own settings count",
    ),
    *(_settings_of(mode) for mode in MODES.values() if mode.settings),
    *(_uncompressed(why) for why in _REASONS),
    Rule(
        ("upload_sparse_rate",),
        lambda config: config.upload_compress_type == UPLOAD_TYPES[0],
        _UPLOADS,
        "they are not compressed",
    ),
    Rule(
        ("dp_budget",),
        lambda config: not mode_of(config).private,
        "this job",
        f"only {' and '.join(PRIVATE)} say what it costs",
    ),
    Rule(
        ("transport",),
        lambda config: not _java_clients(config) and not _embedded_server(config),
        "a server of its own process",
        "all requests go over HTTP",
    ),
    Rule(
        ("name_regex",),
        lambda config: config.train_weight_name is None and config.infer_weight_name is None,
        "the weights",
        "neither --train_weight_name nor --infer_weight_name is given",
    ),
    Rule(
        ("infer_weight_name", "origin_infer_model_path"),
        lambda config: config.client_infer_model(0) is None,
        "the model files",
        "there are no second ones (--infer_model_path or --infer_ms_name)",
    ),
    Rule(
        ("data_format",),
        lambda config: config.train_dataset is not None,
        "--train_dataset",
        "it is for a synthetic data set",
    ),
    Rule(("momentum",), _has_no_momentum, "other optimizers", "they have none"),
    Rule(
        ("init",),
        lambda config: config.domain_name is not None,
        "a server that runs already",
        "its own model counts",
    ),
    Rule(("workers",), lambda config: config.engine == "mindspore", "--engine mindspore", "it trains in one thread"),
    Rule(("ray_address",), lambda config: config.executor != "ray", "--executor local", "it is for --executor ray"),
)
