"""``mindfl plot``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from mindfl.cli.declared import declared_options, json_option
from mindfl.cli.reporting import echo_json
from mindfl.options.command_options import BandName, FigureKind, PlotCommandOptions, XAxisName


@click.command("plot", short_help="Draw runs: curves with bands over seeds or clients, or each client's accuracy.")
@click.argument("runs", metavar="RUN...", nargs=-1, required=True)
@declared_options(PlotCommandOptions)
@json_option
def plot_command(
    runs: Sequence[str],
    out: Path,
    column: str,
    x: XAxisName,
    band: BandName,
    kind: FigureKind,
    title: str,
    as_json: bool,
) -> None:
    """Draw runs as .png, .pdf or .svg. RUN is the work folder of a run, or the folder of a sweep; name=FOLDER gives it
    a label.

    Runs whose settings differ in nothing but the seed, or that have the same label, are one curve: their mean."""
    from mindfl.compare import plot_runs

    plot_runs(runs, out, column=column, x=x, band=band, kind=kind, title=title)
    if as_json:
        echo_json({"path": str(out)})
    else:
        click.echo(f"written to {click.format_filename(out)}")
