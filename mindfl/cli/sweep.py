"""``mindfl sweep``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

import click

from mindfl.cli.declared import declared_options, json_option
from mindfl.cli.progress import SweepProgress
from mindfl.cli.reporting import echo_json, interruptible
from mindfl.options.command_options import SweepOptions


@click.command("sweep", short_help="Run all combinations of an experiment file's [sweep], side by side.")
@click.argument("experiment", type=click.Path())
@declared_options(SweepOptions)
@json_option
def sweep_command(
    experiment: str,
    work_dir: str | None,
    jobs: int | None,
    workers: int,
    overwrite: bool,
    dry_run: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    """Run every combination of the lists in [sweep] of the file EXPERIMENT, as many side by side as there are
    processors.

    Each run is a process of its own with a work folder of its own, --work_dir/runs/NAME, and has the weights that it
    has alone. Starting models and synthetic data are made once. A run that fails is named, and the others are
    finished. The same command continues after Ctrl-C, a kill or a failure: runs that ended are kept."""
    from mindfl.sweeps.sweep import planned_runs, read_card, run_sweep

    if dry_run:
        runs = planned_runs(experiment, work_dir, overwrite=overwrite)
        if as_json:
            echo_json({"runs": [asdict(run) for run in runs]})
        else:
            click.echo("\n".join(f"{run.status:8} {run.name}" for run in runs))
        return
    bar = SweepProgress(quiet=quiet, rounds=False)
    given: dict[str, Any] = {"work_dir": work_dir, "jobs": jobs, "workers": workers, "overwrite": overwrite}
    try:
        with interruptible("runs that ended are kept; the same command goes on with the others"):
            result = run_sweep(experiment, say=bar.say, row=bar.row, **given)
    finally:
        bar.close()
    cards = {name: read_card(result.folder / run.folder) for name, run in result.runs.items()}
    if as_json:
        echo_json({"runs": [{**asdict(run), "result": cards[name]} for name, run in result.runs.items()]})
    else:
        click.echo("\n".join(_lines(cards)))
        click.echo(f"written to {click.format_filename(result.folder)}: sweep.json, runs/*")


def _lines(cards: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    from mindfl.sweeps.sweep import outcome

    width = max(map(len, cards))
    for name, card in cards.items():
        yield f"{name:{width}}  {outcome(card)}  weights {card['weights_sha256'][:12]}"
