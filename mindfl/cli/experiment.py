"""``mindfl experiment``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from mindfl.cli.declared import declared_options, json_option
from mindfl.cli.progress import SweepProgress, TerminalProgress
from mindfl.cli.reporting import echo_json, interruptible
from mindfl.options.command_options import Femnist50Options, NiidBenchOptions, Privacy50Options

if TYPE_CHECKING:
    from mindfl.experiments.femnist50 import Experiment
    from mindfl.experiments.mode_results import Study
    from mindfl.experiments.niid_report import Bench

Done = TypeVar("Done")


@click.group("experiment")
def experiment_command() -> None:
    """Run an experiment whose result is compared with published values, or between modes of privacy."""


@experiment_command.command("femnist50", short_help="The tutorial's experiment, beside the published curve.")
@declared_options(Femnist50Options)
@json_option
def femnist50_command(template: bool, quiet: bool, as_json: bool, **settings: Any) -> None:
    """Run the tutorial's experiment and compare it with the curve published there: 50 clients, 16 servers, 100
    iterations, 20 epochs, batch 32. Title and table name what differs from that setting; it is then not compared.

    It is the experiment file that --template prints. Writes experiment.png, experiment.csv and experiment.md, and all
    that `mindfl simulate` writes. Needs no network but for a converter that is not there yet."""
    if template:
        return _print_file("femnist50")
    from mindfl.experiments.femnist50 import FILES, run_experiment

    bar = TerminalProgress(settings["iterations"], quiet=quiet)
    done = _run(bar, "what was finished is kept", lambda given: run_experiment(reporter=bar, **given), settings)
    _show(done.summary(), _experiment(done), as_json, done.config.work_dir, FILES)


@experiment_command.command("privacy50", short_help="The same job once per mode of privacy and compression.")
@declared_options(Privacy50Options)
@json_option
def privacy50_command(modes: str | None, template: bool, quiet: bool, as_json: bool, **settings: Any) -> None:
    """Train the same job once per mode of privacy and compression (plain, QUANT, DIFF_SPARSE_QUANT, SIGNDS, DP_ENCRYPT,
    secure aggregation), and compare accuracy, bytes and times.

    It is a sweep of the experiment file that --template prints, a run at a time, as times are compared: in the folder
    of a sweep, beside which privacy.png, privacy.csv and privacy.md are written. Interrupted, it keeps the modes that
    ended; the same command continues with the others."""
    if template:
        return _print_file("privacy50")
    from mindfl.experiments.mode_report import FILES, summary
    from mindfl.experiments.privacy50 import run_study

    bar = SweepProgress(quiet=quiet)
    keys = None if modes is None else [key.strip() for key in modes.split(",") if key.strip()]
    hint = "the modes that ended are kept; the same command goes on with the others"
    study = _run(bar, hint, lambda given: run_study(keys, say=bar.say, row=bar.row, **given), settings)
    _show(summary(study), _study(study, settings["work_dir"]), as_json, settings["work_dir"], FILES)


@experiment_command.command("niid_bench", short_help="Flower's benchmark of label skew, beside its published table.")
@declared_options(NiidBenchOptions)
@json_option
def niid_bench_command(template: bool, quiet: bool, as_json: bool, **settings: Any) -> None:
    """Train LeNet on Fashion-MNIST or MNIST divided among 10 clients, once per partition, algorithm and seed, and
    compare the best accuracy over 50 rounds with the table of Flower's baselines/niid_bench.

    It is a sweep of the experiment file that --template prints: runs side by side, in the folder of a sweep, beside
    which niid_bench.png, niid_bench.csv and niid_bench.md are written. After an interruption the same command
    continues; runs that ended are not run again."""
    if template:
        return _print_file("niid_bench")
    from mindfl.experiments.niid_bench import run_niid_bench
    from mindfl.experiments.niid_report import FILES, summary

    bar = SweepProgress(quiet=quiet)
    hint = "what was finished is kept; the same command goes on"
    bench = _run(bar, hint, lambda given: run_niid_bench(say=bar.say, row=bar.row, **given), settings)
    _show(summary(bench), _bench(bench, settings["work_dir"]), as_json, settings["work_dir"], FILES)


def _print_file(name: str) -> None:
    from mindfl.experiments.runner import shipped_text

    click.echo(shipped_text(name), nl=False)


def _run(
    bar: TerminalProgress | SweepProgress,
    hint: str,
    run: Callable[[dict[str, Any]], Done],
    settings: dict[str, Any],
) -> Done:
    try:
        with interruptible(hint):
            return run({name: value for name, value in settings.items() if value != "null"})
    finally:
        bar.close()


def _show(text: str, values: dict[str, Any], as_json: bool, folder: Path, files: Sequence[str]) -> None:
    if as_json:
        echo_json(values)
    else:
        click.echo(text)
        click.echo(f"written to {click.format_filename(folder)}: {', '.join(files)}")


def _experiment(done: Experiment) -> dict[str, Any]:
    last = (done.history.evaluated or done.history)[-1]
    return {
        "experiment": done.name,
        "data": done.data,
        "changes": done.changes,
        "iterations": len(done.history),
        "avg": last.avg,
        "top5": last.top5,
        "low5": last.low5,
        "comparisons": [each._asdict() for each in done.comparisons],
        "weights_sha256": done.result.hash if done.result else None,
        "work_dir": done.config.work_dir,
    }


def _study(study: Study, folder: Path) -> dict[str, Any]:
    return {
        "setting": study.setting,
        "data": study.data,
        "modes": [asdict(one) for one in study.results],
        "work_dir": folder,
    }


def _bench(bench: Bench, folder: Path) -> dict[str, Any]:
    lines = [
        {
            "cell": line.cell,
            "algorithm": line.algorithm,
            "mean": line.mean,
            "spread": line.spread,
            "published": None if line.published is None else line.published._asdict(),
            "difference": bench.difference(line),
            "jobs": [{**asdict(one), "best": one.best, "best_round": one.best_round} for one in line.results],
        }
        for line in bench.lines()
    ]
    return {"data": bench.data, "changes": bench.changes, "lines": lines, "work_dir": folder}
