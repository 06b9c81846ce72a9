"""``mindfl simulate``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from mindfl.cli.options import echo_json, json_option, option
from mindfl.errors import OptionError

if TYPE_CHECKING:
    from mindfl.sim import FederatedLeNetJob, TrainingResult
    from mindfl.sim.federation import Progress
    from mindfl.sim.history import IterationRow


class ProgressBar:
    """Shows stages as lines and training as a bar: iteration, clients done, loss, AVG, time left."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._iterations = 0
        self._total = 0
        self._bar: Any = None
        self._avg = "-"

    def expect(self, iterations: int, clients: int) -> None:
        """Say how much is to come."""
        self._iterations, self._total = iterations, iterations * clients

    def stage(self, text: str) -> None:
        if not self._quiet:
            click.echo(f"mindfl: {text}", err=True)

    def warning(self, text: str) -> None:
        click.echo(f"mindfl: warning: {text}", err=True)

    def progress(self, progress: Progress) -> None:
        bar = self._shown()
        bar.set_description(f"iteration {progress.iteration}/{self._iterations}", refresh=False)
        bar.set_postfix_str(f"loss {progress.loss:.3f}, AVG {self._avg}", refresh=False)
        bar.update()

    def row(self, row: IterationRow) -> None:
        self._avg = f"{row.avg:.3f}"
        self._shown().set_postfix_str(f"loss {row.loss:.3f}, AVG {self._avg}")

    def close(self) -> None:
        """Leave the bar as it stands."""
        if self._bar is not None:
            self._bar.close()

    def _shown(self) -> Any:
        if self._bar is None:
            from tqdm import tqdm

            self._bar = tqdm(total=self._total, unit="client", disable=self._quiet, dynamic_ncols=True, mininterval=0.5)
        return self._bar


@click.command("simulate", short_help="Run the whole job: export, convert, data, federated training, report.")
@option("--work_dir", default="mindfl_work", help="Folder for everything that is written.")
@option("--train_dataset", help="Data set of `mindfl data`, or the tutorial's folders.  [default: a synthetic one]")
@option("--train_model_path", help="Folder of the model files.  [default: ms in the work folder]")
@option("--train_ms_name", default="lenet_train", help="Common part of the model files' names.")
@option("--client_num", default=50, help="Number of clients.")
@option("--clients_per_iteration", type=int, help="Clients drawn for each iteration.  [default: all]")
@option("--iterations", default=20, help="Federated iterations.")
@option("--epochs", default=5, help="Local epochs per iteration (the tutorial: 20).")
@option("--batch_size", default=32, help="Samples per training step; that of the model file.")
@option("--learning_rate", type=float, help="Local learning rate.  [default: 0.01; adam: 0.001]")
@option("--optimizer", default="momentum", help="momentum, sgd or adam.")
@option("--momentum", default=0.9, help="Of the momentum optimizer.")
@option("--init", default="lecun", help="Initial weights: lecun, he, or truncated_normal (the reference's).")
@option("--task", default="train", help="train, inference or getModel.")
@option("--server_num", default=1, help="Servers of the job; the embedded server is always one.")
@option("--seed", default=0, help="Of initial weights, synthetic data and the choice of clients.")
@option("--workers", type=int, help="Threads; the result does not depend on it.  [default: one per processor]")
@option("--engine", default="lite", help="lite (executes the .ms file) or mindspore (the reference).")
@option("--device_target", default="CPU", help="MindSpore's device.")
@option("--converter", help="converter_lite to use.  [default: see `mindfl convert`]")
@option("--data_format", default="compact", help="Form of a synthetic data set: compact or bin.")
@option(
    "--per_client_models/--shared_model",
    "per_client_models",
    default=None,
    show_default=False,
    help="Write a model file for each client.  [default: up to 100 clients]",
)
@option("--quiet", is_flag=True, help="No progress.")
@json_option
def simulate_command(task: str, quiet: bool, as_json: bool, **settings: Any) -> None:
    """Run the tutorial's whole job: export LeNet's training graph, convert it, give every client its model file, train
    federated on a writer-partitioned data set, and report AVG, TOP5 and LOW5 accuracy per iteration.

    Writes history.jsonl, history.csv, accuracy.png, summary.txt, client_{i}/client.log and the model files. The same
    seed gives bitwise the same weights for any number of workers."""
    from mindfl.sim import FederatedLeNetJob

    if task not in _TASKS:
        raise OptionError(f"task must be one of {', '.join(_TASKS)}, got {task!r}")
    bar = ProgressBar(quiet=quiet)
    job = FederatedLeNetJob(reporter=bar, **settings)
    bar.expect(job.config.iterations, job.config.cohort)
    if job.config.server_num > 1:
        bar.warning(f"--server_num {job.config.server_num}: the embedded server is one; the result is the same")
    try:
        _TASKS[task](job, as_json)
    finally:
        bar.close()


def _train(job: FederatedLeNetJob, as_json: bool) -> None:
    result = job.run()
    if as_json:
        echo_json(_description(result))
    else:
        click.echo(result.summary())
        click.echo(f"written to {job.config.work_dir}: accuracy.png, history.csv, history.jsonl, client_*/client.log")


def _description(result: TrainingResult) -> dict[str, Any]:
    last = result.history[-1]
    return {
        "title": result.title,
        "iterations": len(result.history),
        "avg": last.avg,
        "top5": last.top5,
        "low5": last.low5,
        "loss": last.loss,
        "weights_sha256": result.hash,
    }


def _inference(job: FederatedLeNetJob, as_json: bool) -> None:
    predicted = job.infer()
    if as_json:
        echo_json({name: labels.tolist() for name, labels in predicted.items()})
    else:
        total = sum(len(labels) for labels in predicted.values())
        click.echo(f"predicted {total} samples of {len(predicted)} clients: {job.config.work_dir}/predictions.csv")


def _get_model(job: FederatedLeNetJob, as_json: bool) -> None:
    from mindfl.sim import weight_hash

    digest = weight_hash(job.get_model())
    if as_json:
        echo_json({"weights_sha256": digest})
    else:
        click.echo(f"model fetched, weights sha256 {digest}")


_TASKS = {"train": _train, "inference": _inference, "getModel": _get_model}
