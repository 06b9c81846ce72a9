"""``mindfl export``."""

from __future__ import annotations

from typing import Any

import click

from mindfl.cli.declared import declared_options, json_option
from mindfl.cli.reporting import echo_json, is_given, name_unused
from mindfl.errors import OptionError
from mindfl.notices import Rule
from mindfl.options import options_of
from mindfl.options.command_options import ExportCommandOptions, ExportOptions, TrainedOptions

#: options without effect on the chosen training graph
_RULES: tuple[Rule[dict[str, Any]], ...] = (
    Rule(("momentum",), lambda options: options["optimizer"] != "momentum", "other optimizers", "they have none"),
)


@click.command("export", short_help="Export the training graph as MINDIR, or trained weights back to MindSpore.")
@declared_options(ExportCommandOptions)
@json_option
@click.pass_context
def export_command(context: click.Context, /, as_json: bool, **settings: Any) -> None:
    """Train a network with MindSpore for a few steps and export its training graph (forward pass, loss, gradients and
    optimizer) as a MINDIR file. Prints the list of losses.

    With --from, write trained weights for MindSpore instead, convolutions in its order [out, in, height, width]: as
    ckpt, npz or safetensors, or with the network --model for inference as mindir or onnx."""
    given = {name: value for name, value in settings.items() if is_given(context, name)}
    if settings["source"] is not None:
        _export_trained(given, as_json)
        return
    graph = {name: settings[name] for name in options_of(ExportOptions)}
    if unused := sorted(given.keys() - graph.keys()):
        raise OptionError(f"--{unused[0]} is given, but no --from", hint="--from run/ms/lenet_train_trained.ms")
    from mindfl.export import export_mindir

    if {"init", "init_from"} <= given.keys():
        raise OptionError("--init and --init_from both give the initial weights", hint="leave one of them out")
    name_unused(_RULES, graph)
    result = export_mindir(graph.pop("mindir_path"), **graph)
    if as_json:
        echo_json({"path": str(result.path), "losses": result.losses, "parameters": result.parameters})
        return
    click.echo(f"exported {result.path}")
    click.echo(str(list(result.losses)))


def _export_trained(given: dict[str, Any], as_json: bool) -> None:
    """Write trained weights for MindSpore; ``given`` are the options of the command line."""
    known = options_of(TrainedOptions)
    if unused := sorted(given.keys() - known.keys()):
        raise OptionError(f"--{unused[0]} is for a training graph, not for --from", hint="leave it out")
    if "output" not in given:
        raise OptionError("--from needs --output", hint="such as --output lenet.ckpt")
    from mindfl.export import export_trained
    from mindfl.export.weight_files import NETWORK_FORMATS

    result = export_trained(**given)
    if result.format not in NETWORK_FORMATS:
        for name in sorted(given.keys() & options_of(ExportOptions).keys()):
            click.echo(f"mindfl: warning: --{name} has no effect: a {result.format} file holds no network", err=True)
    if as_json:
        echo_json({"path": str(result.path), "format": result.format, "parameters": result.parameters})
    else:
        click.echo(
            f"exported {click.format_filename(result.path)}: {len(result.parameters)} weights in MindSpore's order"
        )
