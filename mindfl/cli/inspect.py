"""``mindfl inspect``."""

from __future__ import annotations

import click

from mindfl.cli.options import echo_json, json_option, operator_option


@click.command("inspect", short_help="Show what a .ms or .mindir file holds, and what the runtime lacks for it.")
@click.argument("file", type=click.Path(path_type=str))
@operator_option
@json_option
def inspect_command(file: str, operator: str | None, as_json: bool) -> None:
    """Show what FILE, a .ms or .mindir model, holds: writer, inputs, batch size, loss, optimizer with its settings,
    parameters with shapes and orders of dimensions, nodes, and what keeps mindfl from training it. Needs no import of
    MindSpore."""
    from dataclasses import asdict

    from mindfl.convert import inspect_model
    from mindfl.lite import use_operators

    use_operators(operator)
    found = inspect_model(file)
    if as_json:
        echo_json(asdict(found))
    else:
        click.echo(found.summary())
