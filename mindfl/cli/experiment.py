"""``mindfl experiment``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from mindfl.cli.declared import json_option, option
from mindfl.cli.privacy50 import privacy50_command
from mindfl.cli.reporting import echo_json, interruptible

if TYPE_CHECKING:
    from mindfl.sim.experiment import Experiment


@click.group("experiment")
def experiment_command() -> None:
    """Run an experiment whose result can be compared: with the tutorial's curve, or between modes."""


experiment_command.add_command(privacy50_command)


@experiment_command.command("femnist50", short_help="The tutorial's experiment, beside the published curve.")
@option("--train_dataset", help="Data set of `mindfl data`, or the tutorial's folders.  [default: a synthetic one]")
@option("--work_dir", default="mindfl_experiment", help="Folder for everything that is written.")
@option("--resume", is_flag=True, show_default=False, help="Go on with the run in --work_dir.")
@option("--overwrite", is_flag=True, show_default=False, help="Replace the run in --work_dir.")
@option("--client_num", default=50, help="Number of clients.")
@option("--clients_per_iteration", type=int, help="Clients drawn for each iteration.  [default: all]")
@option("--evaluate", help="Whose test data measure the model: all clients', or the drawn ones'.  [default: all]")
@option("--evaluate_every", type=int, help="Evaluate after every so many iterations.  [default: see `mindfl simulate`]")
@option("--stack", default="embedded", help="embedded, or federated: MindSpore Federated's own servers.")
@option(
    "--server_num", type=int, help="Number of its servers, 0.5 GiB each; the embedded one needs one.  [default: 16]"
)
@option("--iterations", default=100, help="Federated iterations.")
@option("--epochs", default=20, help="Local epochs per iteration.")
@option("--batch_size", default=32, help="Samples per training step.")
@option("--learning_rate", default=0.01, help="Local learning rate.")
@option("--init", help="Initial weights: lecun, he, or truncated_normal (the published plateau).  [default: lecun]")
@option("--seed", default=0, help="Of initial weights, synthetic data and the choice of clients.")
@option("--workers", type=int, help="Threads; the result does not depend on it.  [default: one per processor]")
@option("--engine", default="lite", help="lite (executes the .ms file) or mindspore (the reference).")
@option("--train_model_path", help="Folder of the model files.  [default: ms in the work folder]")
@option("--converter", help="converter_lite to use.  [default: see `mindfl convert`]")
@option("--quiet", is_flag=True, help="No progress.")
@json_option
def femnist50_command(quiet: bool, as_json: bool, **settings: Any) -> None:
    """Run the tutorial's experiment and set it beside the curve published there: 50 clients, 16 servers, 100
    iterations, 20 epochs, batch 32. What is changed is said in title and table, and not compared.

    Writes experiment.png, experiment.csv and experiment.md, and all that `mindfl simulate` writes. Uses no network but
    for a converter that is not there yet."""
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
