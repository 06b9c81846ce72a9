"""``mindfl algorithms``."""

from __future__ import annotations

import click

from mindfl.cli.declared import json_option
from mindfl.cli.reporting import echo_json


@click.command("algorithms", short_help="List the federated algorithms, or describe one.")
@click.argument("name", required=False)
@json_option
def algorithms_command(name: str | None, as_json: bool) -> None:
    """List the federated algorithms that --algorithm takes, with their settings.

    With NAME, such as scaffold or fedprox:mu=0.5, show what travels beside the weights, what clients remember, and with
    which optimizers, servers, clients and upload modes the algorithm works."""
    from dataclasses import asdict

    from mindfl.algorithms.listing import Listing, describe_algorithm, list_algorithms

    found: list[Listing] = list_algorithms() if name is None else [describe_algorithm(name)]
    if as_json:
        rows = [asdict(each) for each in found]
        echo_json(rows if name is None else rows[0])
    elif name is None:
        for each in found:
            settings = " ".join(f"{key}={value:g}" for key, value in each.settings.items())
            click.echo(f"{each.name:13} {settings:41} {each.summary}")
    else:
        for label, value in asdict(found[0]).items():
            text = ", ".join(value) if isinstance(value, tuple) else value
            if isinstance(value, dict):
                text = ", ".join(f"{key}={setting}" for key, setting in value.items())
            click.echo(f"{label.replace('_', ' '):14} {text or 'none'}")
