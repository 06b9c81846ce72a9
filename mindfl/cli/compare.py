"""``mindfl compare``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from mindfl.cli.declared import declared_options, json_option
from mindfl.cli.reporting import echo_json
from mindfl.options.command_options import CompareCommandOptions, TableForm


@click.command("compare", short_help="Compare runs in a table: mean and deviation over seeds, paired differences.")
@click.argument("runs", metavar="RUN...", nargs=-1, required=True)
@declared_options(CompareCommandOptions)
@json_option
def compare_command(
    runs: Sequence[str],
    columns: str | None,
    target: float | None,
    baseline: str | None,
    form: TableForm | None,
    out: Path | None,
    as_json: bool,
) -> None:
    """Compare runs in a table. RUN is the work folder of a run, or the folder of a sweep; name=FOLDER gives it a label.

    Runs whose settings differ in nothing but the seed, or that have the same label, are one row: mean and standard
    deviation over them. The last column is the difference of AVG to the first row, over the seeds that both have."""
    from mindfl.compare import compare_runs
    from mindfl.compare.comparison import save_table, table_form

    if out is not None and form is None:
        table_form(out)  # refused before the runs are read
    comparison = compare_runs(runs, columns=columns, target=target, baseline=baseline)
    if out is not None:
        save_table(comparison, out, form)
    if as_json:
        echo_json(comparison.records())
    elif out is not None:
        click.echo(f"written to {click.format_filename(out)}")
    else:
        click.echo(comparison.table(form or "text"), nl=False)
