"""``mindfl export-run``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

import click

from mindfl.cli.declared import declared_options, json_option
from mindfl.cli.reporting import echo_json
from mindfl.options.command_options import ExportRunOptions


@click.command("export-run", short_help="Export runs to MLflow.")
@click.argument("runs", metavar="RUN...", nargs=-1, required=True)
@declared_options(ExportRunOptions)
@json_option
def export_run_command(runs: Sequence[str], to: str, uri: str | None, experiment: str, as_json: bool) -> None:
    """Export runs, named by their work folders or the folders of sweeps, to MLflow: settings, the numbers of each
    round, files, the model. Of a sweep these are the runs that ended.

    A run that was exported before is not exported again; where it has gone on since, it replaces what was exported."""
    from mindfl.sweeps.sweep_folder import run_folders
    from mindfl.tracking.mlflow_export import export_to_mlflow

    done = []
    for folder in dict.fromkeys(each for given in runs for each in run_folders(given)):
        done.append(export_to_mlflow(folder, uri=uri, experiment=experiment))
        if not as_json:
            words = {"unchanged": "was exported before as", "replaced": "replaces what was exported before, as"}
            how = words.get(done[-1].outcome, "exported as")
            click.echo(f"{click.format_filename(folder)}: {how} run {done[-1].run_id} of experiment {experiment}")
    if as_json:
        echo_json([asdict(each) for each in done])
