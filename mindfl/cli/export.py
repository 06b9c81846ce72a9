"""``mindfl export``."""

from __future__ import annotations

from typing import Any

import click

from mindfl.cli.options import echo_json, is_given, json_option, name_unused, option
from mindfl.errors import OptionError
from mindfl.notices import Rule

#: see :data:`mindfl.export.weight_files.FORMATS`, which takes long to import
FORMATS = ("ckpt", "npz", "safetensors", "mindir", "onnx")


#: options that say how trained weights are written
_TRAINED = ("source", "output", "format", "device_model")
#: of the others, those that say which network is written
_NETWORK = ("model", "num_class", "num_channel", "image_size", "batch_size")
#: options of the training graph that another one leaves without effect
_RULES: tuple[Rule[dict[str, Any]], ...] = (
    Rule(("momentum",), lambda options: options["optimizer"] != "momentum", "other optimizers", "they have none"),
)


@click.command("export", short_help="Export the training graph as MINDIR, or trained weights back to MindSpore.")
@option("--mindir_path", default="lenet_train.mindir", help="File to write; folders are created.")
@option("--model", default="lenet", help="Network to export: lenet, or your own: FILE.py:CLASS or MODULE:CLASS.")
@option("--epochs", default=1, help="Training steps, one random batch each; the file holds the initial weights.")
@option("--batch_size", default=32, help="Samples per batch; fixed in the exported graph.")
@option("--optimizer", default="momentum", help="momentum, sgd or adam.")
@option("--learning_rate", default=0.01, help="Step size.")
@option("--momentum", default=0.9, help="Of the momentum optimizer.")
@option("--weight_decay", default=0.0, help="L2 penalty.")
@option(
    "--loss", default="sparse", help="Labels of the graph: sparse (class numbers) or onehot (float [batch, classes])."
)
@option("--num_class", type=int, help="Number of classes.  [default: the model's own]")
@option("--num_channel", type=int, help="Channels of the images.  [default: the model's own]")
@option("--image_size", type=int, nargs=2, metavar="HEIGHT WIDTH", help="Of the images.  [default: the model's own]")
@option(
    "--init", help="Initial weights: lecun, he, or truncated_normal (the reference's).  [default: lecun, or your own]"
)
@option("--init_from", metavar="FILE", help="Initial weights: .ckpt, .npz, .safetensors, .mindir or .ms.")
@option("--seed", default=0, help="Starts the generators of the weights and the batches.")
@option("--device_target", default="CPU", help="CPU, GPU or Ascend, as far as the installed MindSpore has it.")
@option("--from", "source", metavar="FILE", help="Trained weights to write for MindSpore: .ms, or any of the above.")
@option("--format", type=click.Choice(FORMATS), help="With --from: what to write.  [default: the suffix of --output]")
@option("--output", metavar="FILE", help="With --from: file to write; folders are created.")
@option("--device_model", metavar="FILE", help="With --from a server's file of weights: the .ms file of its devices.")
@json_option
@click.pass_context
def export_command(context: click.Context, /, as_json: bool, **settings: Any) -> None:
    """Train a network with MindSpore for a few steps and export its training graph (forward pass, loss, gradients and
    optimizer) as a MINDIR file. Prints the list of losses.

    With --from, write trained weights for MindSpore instead, convolutions in its order [out, in, height, width]: as
    ckpt, npz or safetensors, or with the network --model for inference as mindir or onnx."""
    given = {name for name in settings if is_given(context, name)}
    trained = {name: settings.pop(name) for name in _TRAINED}
    if trained["source"] is not None:
        _export_trained(trained, {name: settings[name] for name in given if name in settings}, as_json)
        return
    unused = sorted(given & trained.keys())
    if unused:
        raise OptionError(f"--{unused[0]} is given, but no --from", hint="--from run/ms/lenet_train_trained.ms")
    from mindfl.export import export_mindir

    if {"init", "init_from"} <= given:
        raise OptionError("--init and --init_from both give the initial weights", hint="leave one of them out")
    name_unused(_RULES, settings)
    result = export_mindir(settings.pop("mindir_path"), **settings)
    if as_json:
        echo_json({"path": str(result.path), "losses": result.losses, "parameters": result.parameters})
        return
    click.echo(f"exported {result.path}")
    click.echo(str(list(result.losses)))


def _export_trained(trained: dict[str, Any], given: dict[str, Any], as_json: bool) -> None:
    """Write the weights in a file for MindSpore; ``given`` are the other options of the command line."""
    unused = sorted(given.keys() - set(_NETWORK))
    if unused:
        raise OptionError(f"--{unused[0]} is for a training graph, not for --from", hint="leave it out")
    if trained["output"] is None:
        raise OptionError("--from needs --output", hint="such as --output lenet.ckpt")
    from mindfl.export import export_trained
    from mindfl.export.weight_files import NETWORK_FORMATS

    result = export_trained(**trained, **given)
    for name in sorted(given) if result.format not in NETWORK_FORMATS else ():
        click.echo(f"mindfl: warning: --{name} has no effect: a {result.format} file holds no network", err=True)
    if as_json:
        echo_json({"path": str(result.path), "format": result.format, "parameters": result.parameters})
    else:
        click.echo(
            f"exported {click.format_filename(result.path)}: {len(result.parameters)} weights in MindSpore's order"
        )
