"""The options of a federated job as a table, in groups.

Names are the tutorial's first, then those of MindSpore Federated 0.1.0 where they differ. Each option is also a keyword
of :class:`mindfl.sim.FederatedLeNetJob`, under the last name given.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from mindfl.cli.options import Command, option

_ENCRYPT_TYPES = "NOT_ENCRYPT, DP_ENCRYPT, SIGNDS, PW_ENCRYPT, STABLE_PW_ENCRYPT, or PW_EXACT (mindfl's own)."

#: group -> (names, what :func:`click.option` takes)
GROUPS: Mapping[str, tuple[tuple[tuple[str, ...], dict[str, Any]], ...]] = {
    "Job": (
        (("--work_dir",), {"default": "mindfl_work", "help": "Folder for everything that is written."}),
        (
            ("--config",),
            {"help": "Settings of an earlier run, its config.json; other options given here count instead."},
        ),
        (
            ("--resume",),
            {"is_flag": True, "show_default": False, "help": "Go on with the run in --work_dir, with its settings."},
        ),
        (("--overwrite",), {"is_flag": True, "show_default": False, "help": "Replace the run in --work_dir."}),
        (("--save_every",), {"type": int, "help": "Keep the model after every so many iterations.  [default: no]"}),
        (
            ("--save_best",),
            {"is_flag": True, "show_default": False, "help": "Keep the model with the highest AVG as <name>_best.ms."},
        ),
        (
            ("--task",),
            {"default": "train", "help": "train, inference or getModel; any other text: inference of one record."},
        ),
        (("--client_num",), {"default": 50, "help": "Number of clients; the same for training and inference."}),
        (
            ("--clients_per_iteration",),
            {"type": int, "help": "Clients drawn for each iteration.  [default: all]"},
        ),
        (
            ("--evaluate",),
            {"default": "all", "help": "Whose test data measure the model: all clients', or the drawn ones'."},
        ),
        (
            ("--evaluate_every",),
            {
                "type": int,
                "help": "Evaluate after every so many iterations, and after the last."
                "  [default: every one; or all clients so seldom that it costs no more than training]",
            },
        ),
        (("--iterations",), {"default": 20, "help": "Federated iterations (the tutorial: 100)."}),
        (("--epochs",), {"default": 5, "help": "Local epochs per iteration (the tutorial: 20)."}),
        (
            ("--batch_size",),
            {"type": int, "help": "Samples per training step.  [default: that of the model file, else 32]"},
        ),
        (("--learning_rate",), {"type": float, "help": "Local learning rate.  [default: 0.01; adam: 0.001]"}),
        (("--seed",), {"default": 0, "help": "Of initial weights, synthetic data and the choice of clients."}),
    ),
    "Data": (
        (
            ("--train_dataset", "--train_data_dir", "train_dataset"),
            {"help": "Data set of `mindfl data`, or the tutorial's folders.  [default: a synthetic one]"},
        ),
        (
            ("--test_dataset", "--eval_data_dir", "test_dataset"),
            {"help": "Data set to evaluate with, user by user.  [default: the test parts of --train_dataset]"},
        ),
        (("--infer_data_dir", "infer_dataset"), {"help": "Data set for inference.  [default: --test_dataset]"}),
        (("--data_format",), {"default": "compact", "help": "Form of a synthetic data set: compact or bin."}),
        (("--path_regex",), {"help": "Java clients: what separates the paths of a client's files.  [default: ,]"}),
        (("--vocal_file", "--vocab_path", "vocal_file"), {"help": "For texts only: null, or without effect."}),
        (("--ids_file", "--ids_path", "ids_file"), {"help": "For texts only: null, or without effect."}),
    ),
    "Model": (
        (
            ("--train_model_path", "--train_model_dir", "train_model_path"),
            {"help": "Folder of the model files.  [default: ms in the work folder]"},
        ),
        (("--train_ms_name",), {"default": "lenet_train", "help": "Common part of the model files' names."}),
        (("--origin_train_model_path",), {"help": "The .ms file to start from.  [default: in --train_model_path]"}),
        (
            ("--infer_model_path", "--infer_model_dir", "infer_model_path"),
            {"help": "Folder of second model files, for inference.  [default: --train_model_path]"},
        ),
        (("--infer_ms_name",), {"help": "Common part of their names.  [default: --train_ms_name]"}),
        (("--origin_infer_model_path",), {"help": "What second model files begin as.  [default: the first ones]"}),
        (("--train_weight_name",), {"help": "Weights to exchange, separated by --name_regex.  [default: all]"}),
        (("--infer_weight_name",), {"help": "Weights that second model files get.  [default: all]"}),
        (("--name_regex",), {"default": ",", "help": "What separates names of weights."}),
        (("--input_shape",), {"help": "Shapes of the model's inputs, to be checked, such as 32,32,32,3;32."}),
        (("--model",), {"help": "Network to export.  [default: lenet]"}),
        (
            ("--init",),
            {"help": "Initial weights: lecun, he, or truncated_normal (the reference's).  [default: lecun]"},
        ),
        (("--optimizer",), {"help": "momentum, sgd or adam.  [default: that of the model file, else momentum]"}),
        (
            ("--loss",),
            {"help": "Labels: sparse (class numbers) or onehot.  [default: those of the model file, else sparse]"},
        ),
        (
            ("--momentum",),
            {"type": float, "help": "Momentum coefficient, 0 to 1.  [default: that of the model file, else 0.9]"},
        ),
        (
            ("--init_from",),
            {"help": "Initial weights instead of --init: .ckpt, .npz, .safetensors, .mindir or .ms."},
        ),
        (("--converter",), {"help": "converter_lite to use.  [default: see `mindfl convert`]"}),
        (
            ("--per_client_models/--shared_model", "per_client_models"),
            {
                "default": None,
                "show_default": False,
                "help": "Write a model file for each client.  [default: up to 100 clients]",
            },
        ),
    ),
    "Server": (
        (
            ("--stack",),
            {"default": "embedded", "help": "embedded, or federated: start MindSpore Federated's own server."},
        ),
        (("--domain_name",), {"help": "URL of a running server to join: http://HOST:PORT or https://HOST:PORT."}),
        (
            ("--if_use_elb", "--use_elb", "use_elb"),
            {"type": bool, "default": False, "help": "That server has --server_num consecutive ports."},
        ),
        (("--server_num",), {"default": 1, "help": "Number of these, or of the servers to start."}),
        (("--cert_path",), {"help": "With https: certificate of the authority to trust.  [default: the system's]"}),
        (("--ssl_protocol",), {"help": "With https: TLSv1.2 or TLSv1.3.  [default: either; Java: TLSv1.2]"}),
        (("--client_cert",), {"help": "With https: certificate of the clients, where the server demands one."}),
        (("--client_key",), {"help": "Its key.  [default: in the same file]"}),
        (("--crl_path",), {"help": "With https: revocation list of the authority."}),
        (
            ("--enable_ssl",),
            {"is_flag": True, "show_default": False, "help": "--stack federated: TLS, with certificates of its own."},
        ),
        (("--redis_address",), {"help": "--stack federated: a running Redis.  [default: one is started]"}),
        (("--python",), {"help": "--stack federated: its interpreter.  [default: see `mindfl server install`]"}),
        (("--transport",), {"default": "in_process", "help": "To the embedded server: in_process or http."}),
        (("--server_mode",), {"default": "FEDERATED_LEARNING", "help": "HYBRID_TRAINING: Java clients only."}),
    ),
    "Privacy and compression": (
        (("--encrypt_type",), {"default": "NOT_ENCRYPT", "help": _ENCRYPT_TYPES}),
        (("--dp_eps",), {"default": 50.0, "help": "DP_ENCRYPT: epsilon of one upload."}),
        (("--dp_delta",), {"default": 0.01, "help": "DP_ENCRYPT: the probability with which it may be exceeded."}),
        (("--dp_norm_clip",), {"default": 1.0, "help": "DP_ENCRYPT: bound on an update, by how far the model moves."}),
        (("--sign_k",), {"default": 0.01, "help": "SIGNDS: share of the dimensions to choose from."}),
        (("--sign_eps",), {"default": 100.0, "help": "SIGNDS: epsilon of one upload."}),
        (("--sign_thr_ratio",), {"default": 0.6, "help": "SIGNDS: share of dimensions expected among these."}),
        (("--sign_global_lr",), {"default": 0.1, "help": "SIGNDS: step of the model along a dimension."}),
        (("--sign_dim_out",), {"default": 0, "help": "SIGNDS: dimensions of an upload; 0: as many as fit."}),
        (
            ("--reconstruct_secrets_threshold",),
            {
                "type": int,
                "help": "PW_ENCRYPT: shares that recover a secret.  [default: more than 2/3 of the clients']",
            },
        ),
        (
            ("--exact_corrupt_ratio",),
            {"default": 0.1, "help": "PW_EXACT: share of the clients that may work together with the server."},
        ),
        (
            ("--dp_budget",),
            {"type": float, "help": "Epsilon that the job never exceeds.  [default: no limit]"},
        ),
        (("--upload_compress_type",), {"default": "NO_COMPRESS", "help": "NO_COMPRESS or DIFF_SPARSE_QUANT."}),
        (("--upload_sparse_rate",), {"default": 0.4, "help": "DIFF_SPARSE_QUANT: share of the values that are sent."}),
        (("--download_compress_type",), {"default": "NO_COMPRESS", "help": "NO_COMPRESS or QUANT."}),
    ),
    "Embedded clients": (
        (
            ("--workers",),
            {"type": int, "help": "Threads; the result does not depend on it.  [default: one per processor]"},
        ),
        (("--engine",), {"default": "lite", "help": "lite (executes the .ms file) or mindspore (the reference)."}),
        (("--device_target",), {"default": "CPU", "help": "--engine mindspore: CPU, GPU or Ascend."}),
        (("--executor",), {"default": "local", "help": "local, or ray: spread the clients over a Ray cluster."}),
        (("--ray_address",), {"help": "Address of a running Ray cluster.  [default: the one Ray finds or starts]"}),
    ),
    "Java clients": (
        (("--clients",), {"help": "embedded or java.  [default: java with --jarPath]"}),
        (("--jarPath", "--fl_jar_path", "jar_path"), {"help": "The federated learning jar."}),
        (("--case_jarPath", "--case_jar_path", "case_jar_path"), {"help": "The jar of the model script."}),
        (("--lite_jar_path",), {"help": "MindSpore Lite's jar: start as MindSpore Federated 0.1.0 does."}),
        (
            ("--flName", "--fl_name", "fl_name"),
            {
                "default": "com.mindspore.flclient.demo.lenet.LenetClient",
                "help": "Class of the model script; embedded clients: its name in messages and logs.",
            },
        ),
        (("--heap",), {"help": "Largest heap of one client.  [default: 256m]"}),
        (("--java",), {"help": "The program.  [default: java]"}),
        (("--parallel",), {"type": int, "help": "Clients that run at a time.  [default: all]"}),
        (("--thread_num",), {"type": int, "help": "Threads of one client.  [default: 1]"}),
        (
            ("--cpu_bind_mode",),
            {"help": "NOT_BINDING_CORE, BIND_LARGE_CORE or BIND_MIDDLE_CORE.  [default: the first]"},
        ),
        (("--deploy_env",), {"default": "x86", "help": "x86."}),
    ),
    "Output": (
        (("--quiet",), {"is_flag": True, "show_default": False, "help": "No progress."}),
        (
            ("--json", "as_json"),
            {"is_flag": True, "show_default": False, "help": "Print the result as JSON."},
        ),
    ),
}


def job_options(command: Command) -> Command:
    """Give ``command`` all options of :data:`GROUPS`."""
    for rows in reversed(list(GROUPS.values())):
        for names, attributes in reversed(rows):
            command = option(*names, **attributes)(command)
    return command


class GroupedCommand(click.Command):
    """A command whose help lists the options of :data:`GROUPS` in groups, each name without its dashed twin."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the groups."""
        parameters = {parameter.opts[0]: parameter for parameter in self.get_params(ctx)}
        for title, rows in GROUPS.items():
            shown = [parameters.pop(names[0].partition("/")[0]) for names, _ in rows]
            with formatter.section(title):
                formatter.write_dl([_record(ctx, parameter) for parameter in shown])
        with formatter.section("Other"):
            formatter.write_dl([_record(ctx, parameter) for parameter in parameters.values()])


def _record(ctx: click.Context, parameter: click.Parameter) -> tuple[str, str]:
    _, text = parameter.get_help_record(ctx) or ("", "")
    spellings = parameter.opts + parameter.secondary_opts
    twins = {name.replace("_", "-") for name in spellings if "_" in name}
    names = ", ".join(name for name in spellings if name not in twins)
    is_flag = isinstance(parameter, click.Option) and parameter.is_flag
    return names if is_flag else f"{names} {parameter.make_metavar(ctx)}", text
