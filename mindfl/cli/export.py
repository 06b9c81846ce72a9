"""``mindfl export``."""

from __future__ import annotations

from typing import Any

import click

from mindfl.cli.options import echo_json, json_option, option


@click.command("export", short_help="Train a few steps and export the training graph as MINDIR.")
@option("--mindir_path", default="lenet_train.mindir", help="File to write; folders are created.")
@option("--model", default="lenet", help="Network to export.")
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
@option("--init", default="lecun", help="Initial weights: lecun, he, or truncated_normal (the reference's).")
@option("--seed", default=0, help="Starts the generators of the weights and the batches.")
@option("--device_target", default="CPU", help="CPU, GPU or Ascend, as far as the installed MindSpore has it.")
@json_option
def export_command(as_json: bool, **settings: Any) -> None:
    """Train a network with MindSpore for a few steps and export its training graph (forward pass, loss, gradients and
    optimizer) as a MINDIR file. Prints the list of losses."""
    from mindfl.export import export_mindir

    result = export_mindir(settings.pop("mindir_path"), **settings)
    if as_json:
        echo_json({"path": str(result.path), "losses": result.losses, "parameters": result.parameters})
        return
    click.echo(f"exported {result.path}")
    click.echo(str(list(result.losses)))
