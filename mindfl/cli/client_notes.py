"""Options of ``mindfl client`` that change nothing, whatever the task: one command line serves all three."""

from __future__ import annotations

from typing import Any, TypeAlias

from mindfl.effects import FOR_TEXTS, ONE_PORT, Rule, tls_without_https

Options: TypeAlias = dict[str, Any]

_TLS = ("cert_path", "ssl_protocol", "client_cert", "client_key", "crl_path")


def _always(options: Options) -> bool:
    return True


RULES: tuple[Rule[Options], ...] = (
    Rule(("deploy_env",), _always, "this client", "it runs on the machine that it is started on"),
    Rule(("thread_num",), _always, "this client", "it chooses its threads itself"),
    Rule(("cpu_bind_mode",), _always, "this client", "the system places its threads"),
    Rule(("server_mode",), _always, "this client", "FEDERATED_LEARNING is the only mode that it knows"),
    Rule(("vocab_path", "ids_path"), _always, *FOR_TEXTS),
    tls_without_https(_TLS, lambda options: options["domain_name"]),
    Rule(("server_num",), lambda options: not options["use_elb"], *ONE_PORT),
    Rule(
        ("infer_weight_name",),
        lambda options: options["infer_model_path"] is None,
        "the model file",
        "there is no second one (--infer_model)",
    ),
    Rule(
        ("name_regex",),
        lambda options: options["train_weight_name"] is None and options["infer_weight_name"] is None,
        "the weights",
        "neither --train_weight_name nor --infer_weight_name is given",
    ),
)
