"""Warnings for options that have no effect with the chosen server and clients."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import fields

from mindfl.modes import MODES, PRIVATE, UploadMode, mode_of
from mindfl.notices import FOR_TEXTS, ONE_PORT, Rule, tls_without_https, without_effect
from mindfl.options.job_options import reads_texts
from mindfl.sim.config import JobConfig
from mindfl.sim.model_options import own_model


def unused_settings(config: JobConfig, recorded: Container[str] = ()) -> list[str]:
    """Return a line for each setting that was chosen but has no effect on the job.

    Those that are only ``recorded``, by the run that goes on, were named when it began.
    """
    defaults = {item.name: item.default for item in fields(JobConfig)}
    ignored = (*config.client_side.ignores, *config.server_side.ignores)
    rules = (*(Rule(names, lambda _: True, part, why) for names, part, why in ignored), *_RULES)
    return list(
        without_effect(rules, config, lambda name: name not in recorded and getattr(config, name) != defaults[name])
    )


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
    Rule(
        ("evaluate",),
        lambda config: (
            config.evaluate == "drawn"
            and config.client_side.simulated
            and config.server_side.planned_here
            and config.all_take_part
        ),
        "this job",
        "every client takes part in every iteration",
    ),
    Rule(("vocal_file", "ids_file"), lambda config: not reads_texts(config.fl_name), *FOR_TEXTS),
    Rule(("server_num",), lambda config: not config.server_side.planned_here and not config.use_elb, *ONE_PORT),
    tls_without_https(
        ("cert_path", "ssl_protocol", "client_cert", "client_key", "crl_path"), lambda config: config.domain_name
    ),
    *(_settings_of(mode) for mode in MODES.values() if mode.settings),
    *(_uncompressed(why) for why in _REASONS),
    Rule(
        ("upload_sparse_rate",),
        lambda config: not mode_of(config).compresses,
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
        lambda config: config.client_side.simulated and not config.server_side.embedded,
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
        ("per_class",),
        lambda config: config.metric not in (None, "accuracy"),
        "this job",
        "only the accuracy is told by class",
    ),
)
