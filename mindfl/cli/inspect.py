"""``mindfl inspect``."""

from __future__ import annotations

import click

from mindfl.cli.declared import declared_options, json_option
from mindfl.cli.reporting import echo_json
from mindfl.options.command_options import InspectOptions


@click.command("inspect", short_help="Show the content of a .ms or .mindir file, and unsupported operators.")
@click.argument("file", type=click.Path(path_type=str), required=False)
@declared_options(InspectOptions)
@json_option
def inspect_command(file: str | None, operator: str | None, operators: bool, as_json: bool) -> None:
    """Show the content of FILE, a .ms or .mindir model: writer, inputs, batch size, loss, optimizer with its settings,
    parameters with shapes and orders of dimensions, nodes, and the reasons why mindfl cannot train it. Does not import
    MindSpore."""
    from dataclasses import asdict

    from mindfl.convert import inspect_model
    from mindfl.lite import use_operators

    use_operators(operator)
    if (file is None) != operators:
        raise click.UsageError("Give FILE, or --operators." if file is None else "--operators takes no FILE.")
    if file is None:
        _list_operators(as_json)
        return
    found = inspect_model(file)
    if as_json:
        echo_json(asdict(found))
    else:
        click.echo(found.summary())


def _list_operators(as_json: bool) -> None:
    from mindfl.lite.operator_table import operator_listing, training_operators

    if as_json:
        echo_json([each._asdict() for each in training_operators()])
    else:
        click.echo(operator_listing())
