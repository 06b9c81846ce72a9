"""``mindfl experiment``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from mindfl.cli.declared import declared_options, json_option
from mindfl.cli.privacy50 import privacy50_command
from mindfl.cli.reporting import echo_json, interruptible
from mindfl.options.commands import Femnist50Options

if TYPE_CHECKING:
    from mindfl.sim.experiment import Experiment


@click.group("experiment")
def experiment_command() -> None:
    """Run an experiment whose result can be compared: with the tutorial's curve, or between modes."""


experiment_command.add_command(privacy50_command)


@experiment_command.command("femnist50", short_help="The tutorial's experiment, beside the published curve.")
@declared_options(Femnist50Options)
@json_option
def femnist50_command(quiet: bool, as_json: bool, **settings: Any) -> None:
    """Run the tutorial's experiment and compare it with the published curve: 50 clients, 16 servers, 100
    iterations, 20 epochs, batch 32. With changed settings, which title and table name, accuracies are not compared.

    Writes experiment.png, experiment.csv and experiment.md, and all that `mindfl simulate` writes. Uses the
    network only to download a missing converter."""
    from mindfl.cli.simulate import Progress
    from mindfl.sim.experiment import FILES, run_experiment

    bar = Progress(settings["iterations"], quiet=quiet)
    try:
        with interruptible("what was finished is kept"):
            done = run_experiment("femnist50", reporter=bar, **settings)
    finally:
        bar.close()
    if as_json:
        echo_json(_description(done))
    else:
        click.echo(done.summary())
        click.echo(f"written to {click.format_filename(done.config.work_dir)}: {', '.join(FILES)}")


def _description(done: Experiment) -> dict[str, Any]:
    last = (done.history.evaluated or done.history)[-1]
    return {
        "experiment": done.name,
        "data": done.data,
        "changes": done.changes,
        "iterations": len(done.history),
        "avg": last.avg,
        "top5": last.top5,
        "low5": last.low5,
        "comparisons": [
            {"quantity": each.quantity, "published": each.published, "measured": each.measured}
            for each in done.comparisons
        ],
        "weights_sha256": done.result.hash if done.result else None,
        "work_dir": done.config.work_dir,
    }
