"""``mindfl client``."""

from __future__ import annotations

from dataclasses import MISSING
from typing import TYPE_CHECKING, Any, TypeAlias

import click

from mindfl.cli.declared import declared_options, json_option
from mindfl.cli.reporting import echo_json, interruptible, is_given, name_unused
from mindfl.errors import OptionError
from mindfl.notices import FOR_TEXTS, ONE_PORT, Rule, tls_without_https
from mindfl.options import options_of
from mindfl.options.client_options import ClientOptions
from mindfl.options.job_options import reads_texts
from mindfl.spelling import counted

if TYPE_CHECKING:
    from mindfl.client import HttpSettings
    from mindfl.sim.device_job import DeviceJob, DeviceSettings


Options: TypeAlias = dict[str, Any]

_TLS = ("cert_path", "ssl_protocol", "client_cert", "client_key", "crl_path")


def _always(options: Options) -> bool:
    return True


RULES: tuple[Rule[Options], ...] = (
    Rule(("deploy_env",), _always, "this client", "it runs on the machine that it is started on"),
    Rule(("thread_num",), _always, "this client", "it chooses its threads itself"),
    Rule(("cpu_bind_mode",), _always, "this client", "the system places its threads"),
    Rule(("server_mode",), _always, "this client", "FEDERATED_LEARNING is the only mode that it knows"),
    Rule(("vocab_path", "ids_path"), lambda options: not reads_texts(options["fl_name"] or ""), *FOR_TEXTS),
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


#: options of MindSpore Federated's own client that are taken, so that its command lines work, and change nothing here
_FOREIGN = ("deploy_env", "thread_num", "cpu_bind_mode", "server_mode")


def _foreign(command: Any) -> Any:
    for name in _FOREIGN:
        command = click.option(f"--{name}", f"--{name.replace('_', '-')}", hidden=True)(command)
    return command


@click.command("client", short_help="Be one device of a federated job: train, infer, or fetch the model.")
@declared_options(ClientOptions)
@_foreign
@json_option
@click.pass_context
def client_command(context: click.Context, /, as_json: bool, **options: Any) -> None:
    """Be one device of a federated job, as MindSpore Federated's own client: take part in the job of a running server
    and save its last model over the model file (train), predict labels (inference), or fetch the model (getModel).

    Option values of "null" count as not given. Exit codes are listed in docs/errors.md."""
    from mindfl.sim.device_job import DeviceJob

    defaults = {name: declared.default for name, declared in options_of(ClientOptions).items()}
    given = {name: defaults.get(name) if value == "null" else value for name, value in options.items()}
    if given["train_model_path"] is MISSING:
        raise OptionError("train_model is null", hint="name the .ms file to train")
    _check_server_mode(given["server_mode"])
    name_unused(RULES, given, lambda name: given[name] is not None and is_given(context, name))
    with interruptible("the model file is as before"):
        _TASKS[str(given["task"])](DeviceJob(_settings(given)), as_json)


def _check_server_mode(mode: str | None) -> None:
    if mode not in (None, "FEDERATED_LEARNING"):
        raise OptionError(f"server_mode {mode} is not supported", hint="FEDERATED_LEARNING, or leave it out")


def _settings(options: dict[str, Any]) -> DeviceSettings:
    from mindfl.files import local_path
    from mindfl.sim.device_job import DeviceSettings

    named = ("eval_data", "infer_data", "train_data")
    straight = ("user", "fl_id", "path_regex", "vocab_path", "ids_path", "batch_size", "input_shape", "max_restarts")
    infer = options["infer_model_path"]
    train = local_path(options["train_model_path"])
    values = {name: options[f"{name}_dir"] for name in named} | {name: options[name] for name in straight}
    if options["fl_name"] is not None:
        values["fl_name"] = options["fl_name"]
    return DeviceSettings(
        train_model_path=train,
        infer_model_path=None if infer is None or local_path(infer) == train else local_path(infer),
        server=_server(options),
        train_weight_name=_names(options, "train_weight_name"),
        infer_weight_name=_names(options, "infer_weight_name"),
        log_file=local_path(options["log_file"]),
        poll_ms=options["sleep_time"],
        poll_limit_ms=options["wait_limit"] * 1000,
        retry_limit_ms=options["retry_limit"] * 1000,
        **values,
    )


def _server(options: dict[str, Any]) -> HttpSettings | None:
    from mindfl.client import HttpSettings, TlsSettings

    if options["domain_name"] is None:
        return None
    return HttpSettings(
        url=options["domain_name"],
        use_elb=options["use_elb"],
        server_num=options["server_num"],
        tls=TlsSettings(**{name: options[name] for name in _TLS}),
        send_s=options["timeout"],
        receive_s=3 * options["timeout"],
    )


def _names(options: dict[str, Any], option_name: str) -> tuple[str, ...] | None:
    from mindfl.sim.config import split_names

    return split_names(options[option_name], options["name_regex"] or ",", option_name)


def _train(job: DeviceJob, as_json: bool) -> None:
    result = job.train()
    model = job.settings.train_model_path
    if as_json:
        echo_json(
            {"iterations": result.completed, "aggregated": result.completed - result.failed, "train_model": model}
        )
    else:
        failed = f", {result.failed} of which aggregated nothing" if result.failed else ""
        name = click.format_filename(model)
        click.echo(f"took part in {counted(result.completed, 'iteration')}{failed}; the last model is in {name}")


def _inference(job: DeviceJob, as_json: bool) -> None:
    labels = job.infer().tolist()
    if as_json:
        echo_json({"labels": labels})
    else:
        click.echo(f"the predicted labels: {labels}")


def _get_model(job: DeviceJob, as_json: bool) -> None:
    iteration = job.get_model()
    model = job.settings.train_model_path
    if as_json:
        echo_json({"iteration": iteration, "train_model": model})
    else:
        click.echo(f"the model of iteration {iteration} is in {click.format_filename(model)}")


_TASKS = {"train": _train, "inference": _inference, "getModel": _get_model}
