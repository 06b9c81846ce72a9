"""``mindfl simulate``."""

from __future__ import annotations

import math
import shlex
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mindfl.cli.declared import GroupedCommand, declared_options
from mindfl.cli.progress import TerminalProgress
from mindfl.cli.reporting import echo_json, interruptible, is_given, name_unused
from mindfl.errors import OptionError
from mindfl.notices import Rule
from mindfl.options import option
from mindfl.options.command_options import ReportOptions, WatchOptions
from mindfl.options.declaration import same_option
from mindfl.options.job_options import GROUPS, JobOptions
from mindfl.spelling import counted, nearest
from mindfl.work_files import CARD, HISTORY, RECORD

if TYPE_CHECKING:
    from mindfl.live.upload_timeline import UploadTimeline
    from mindfl.sim import FederatedJob, Result


_job = partial(option, group="Job")
_output = partial(option, group="Output")


@dataclass(frozen=True, kw_only=True)
class SimulateOptions(JobOptions):
    """The options of ``mindfl simulate``: those of a job, and what the command does with it."""

    config: Path | None = _job(
        None, help="config.json of an earlier run, to repeat it; other options given here replace its settings."
    )
    task: str = _job("train", help="train, inference or getModel; any other text: inference of one record.")
    quiet: bool = _output(False, help="No progress.")
    live: bool = _output(False, help="Show the training in the browser as it runs (docs/live.md); prints the address.")
    live_port: int = same_option(WatchOptions, "live_port", group="Output", help="With --live: port of the page.")
    as_json: bool = same_option(ReportOptions, "as_json", group="Output")


#: what only training reads
_OF_TRAINING = (
    *(
        "iterations",
        "epochs",
        "learning_rate",
        "lr_schedule",
        "clients_per_iteration",
        "sampler",
        "algorithm",
        "callbacks",
    ),
    *("live", "live_port"),
    *("evaluate", "evaluate_every", "per_class", "save_every", "save_best", "tensorboard", "overwrite"),
    *("encrypt_type", "dp_budget"),
)
_RULES: tuple[Rule[dict[str, Any]], ...] = (
    Rule(_OF_TRAINING, lambda given: given["task"] != "train", "this task", "only --task train trains"),
    Rule(("live_port",), lambda given: not given["live"], "this run", "it is the port of --live"),
)


class SimulateCommand(GroupedCommand):
    """The command, with its help in groups."""

    groups = GROUPS


@click.command(
    "simulate", cls=SimulateCommand, short_help="Run the whole job: export, convert, data, federated training, report."
)
@declared_options(SimulateOptions)
@click.pass_context
def simulate_command(
    context: click.Context,
    /,
    task: str,
    config: str | None,
    quiet: bool,
    live: bool,
    live_port: int,
    as_json: bool,
    **settings: Any,
) -> None:
    """Simulate federated learning (FedAvg, or --algorithm) over the non-IID data of many devices.

    The tutorial's whole job: export LeNet's training graph, convert it, give every client its model file, train
    federated on the clients' data, and report AVG, TOP5 and LOW5 accuracy per iteration.

    Writes config.json, result.json, history.jsonl, history.csv, accuracy.png, confusion.csv, summary.txt,
    client_{i}/client.log and the model files. The same seed gives bitwise the same weights for any number of workers. A
    folder that holds a result is refused unless --resume or --overwrite is given.

    Dashes may stand for the underscores of an option; the value null counts as not given. An option that has no effect
    on the parts chosen is named in a warning."""
    from mindfl.sim import FederatedJob

    _check_task(task)
    given = {name: value for name, value in settings.items() if value != "null" and is_given(context, name)}
    name_unused(_RULES, {"task": task, "live": live, "live_port": live_port, **settings})
    bar = TerminalProgress(settings["iterations"], quiet=quiet)
    timeline = _timeline(bar) if live and task == "train" else None
    try:
        make = FederatedJob if config is None else partial(FederatedJob.from_config, config)
        with (
            make(reporter=timeline or bar, **given) as job,
            interruptible(_kept(task, job)),
            _page(timeline, job.config.work_dir, live_port),
        ):
            if task not in _TASKS:
                known = ", ".join(_TASKS)
                bar.warning(f"task {task!r} is none of {known}: inference of a single record, as in the tutorial")
            _TASKS.get(task, _inference_of_one)(job, as_json)
            if task == "train" and job.config.converts:
                path = click.format_filename(job.trained_model_path)
                bar.stage(
                    f"for MindSpore: mindfl export --from {shlex.quote(path)} --output {job.config.network_name}.ckpt"
                )
    finally:
        bar.close()


def _timeline(bar: TerminalProgress) -> UploadTimeline:
    from mindfl.live.upload_timeline import UploadTimeline

    return UploadTimeline(bar)


def _page(timeline: UploadTimeline | None, folder: Path, live_port: int) -> AbstractContextManager[None]:
    """Serve the live page of ``folder`` beside the job, if its timeline is to be written."""
    if timeline is None:
        return nullcontext()
    from mindfl.live.beside import page_beside

    timeline.begin(folder)
    return page_beside(folder, live_port, lambda text: click.echo(f"mindfl: {text}", err=True))


def _kept(task: str, job: FederatedJob) -> str:
    """Return the hint of an interrupted task: its results are kept, and a training may be resumed."""
    goes_on = task == "train" and job.config.resumable
    return "what was finished is kept" + "; --resume goes on from there" * goes_on


def _check_task(task: str) -> None:
    """Raise :class:`OptionError` for an empty text and for a misspelled task; any other text is inference."""
    near = nearest(task, _TASKS)
    if task not in _TASKS and (near is not None or not task.strip()):
        hint = f"did you mean {near}?" if near else f"choose one of {', '.join(_TASKS)}"
        raise OptionError(f"there is no task {task!r}", hint=hint)


def _train(job: FederatedJob, as_json: bool) -> None:
    result = job.run()
    if as_json:
        echo_json(_description(job, result))
    else:
        click.echo(result.summary())
        click.echo(f"trained model {click.format_filename(job.trained_model_path)}")
        folder = click.format_filename(job.config.work_dir)
        there = [name for name in _WRITTEN if any(job.config.work_dir.glob(name))]
        click.echo(f"written to {folder}: {', '.join(there)}")


_WRITTEN = (
    *(RECORD, CARD, "accuracy.png", "confusion.csv", "confusion.png", "history.csv", HISTORY),
    *("summary.txt", "client_*/client.log"),
)


def _description(job: FederatedJob, result: Result) -> dict[str, Any]:
    last, measured = result.history[-1], (result.history.evaluated or result.history)[-1]
    return {
        "title": result.title,
        "iterations": len(result.history),
        "aggregated": result.history.aggregated,
        "avg": measured.avg,
        "top5": measured.top5,
        "low5": measured.low5,
        "measured": measured.measured,
        "evaluated": measured.evaluated,
        "weighted_avg": measured.weighted_avg,
        "test_samples": measured.test_samples,
        "evaluated_iteration": None if math.isnan(measured.avg) else measured.iteration,
        "loss": last.loss,
        "weights_sha256": result.hash,
        "trained_model": job.trained_model_path,
        "work_dir": job.config.work_dir,
    }


def _inference(job: FederatedJob, as_json: bool) -> None:
    _report_labels(job, job.infer(), as_json)


def _inference_of_one(job: FederatedJob, as_json: bool) -> None:
    _report_labels(job, job.infer(samples=1), as_json)


def _report_labels(job: FederatedJob, predicted: dict[str, Any], as_json: bool) -> None:
    if as_json:
        echo_json({name: labels.tolist() for name, labels in predicted.items()})
    else:
        total = sum(len(labels) for labels in predicted.values())
        folder = click.format_filename(job.config.work_dir)
        click.echo(
            f"predicted {counted(total, 'sample')} of {counted(len(predicted), 'client')}: {folder}/predictions.csv"
        )


def _get_model(job: FederatedJob, as_json: bool) -> None:
    from mindfl.sim import weight_hash

    digest = weight_hash(job.get_model())
    if as_json:
        echo_json({"weights_sha256": digest})
    else:
        click.echo(f"model fetched, weights sha256 {digest}")


_TASKS = {"train": _train, "inference": _inference, "getModel": _get_model}
